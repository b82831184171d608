#include "ops/window.h"

namespace minim::ops {
namespace {

Result<Dims> List(const Attributes& a, std::string_view name, int rank, int64_t fallback) {
  if (!a.Has(name)) return Dims::Filled(rank, fallback);
  const std::vector<int64_t> values = a.Ints(name);
  if (static_cast<int>(values.size()) != rank)
    return InvalidArgument("{} has {} values, expected {}", name, values.size(), rank);
  for (int64_t value : values)
    if (value < 1 || value > INT32_MAX)
      return InvalidArgument("{} holds {}, expected 1 or more", name, value);
  return Dims(values);
}

Status SetPads(const Attributes& a, const Dims& in, Window& w) {
  const std::string mode = a.String("auto_pad", "NOTSET");
  w.begins = w.ends = Dims::Filled(w.rank(), 0);
  if (mode == "VALID") return {};
  if (mode == "SAME_UPPER" || mode == "SAME_LOWER") {
    for (int i = 0; i < w.rank(); ++i) {
      const int64_t out = (in[i] + w.strides[i] - 1) / w.strides[i];
      const int64_t total = std::max<int64_t>(0, (out - 1) * w.strides[i] + w.Extent(i) - in[i]);
      w.begins[i] = mode == "SAME_UPPER" ? total / 2 : total - total / 2;
      w.ends[i] = total - w.begins[i];
    }
    return {};
  }
  if (mode != "NOTSET") return InvalidArgument("auto_pad '{}' is unknown", mode);
  const std::vector<int64_t> pads = a.Ints("pads");
  if (pads.empty()) return {};
  if (static_cast<int>(pads.size()) != 2 * w.rank())
    return InvalidArgument("pads has {} values, expected {}", pads.size(), 2 * w.rank());
  for (int i = 0; i < w.rank(); ++i) {
    w.begins[i] = pads[i];
    w.ends[i] = pads[w.rank() + i];
    if (std::min(pads[i], w.ends[i]) < 0 || std::max(pads[i], w.ends[i]) > INT32_MAX)
      return InvalidArgument("pads hold {} and {}, expected 0 or more", pads[i], w.ends[i]);
  }
  return {};
}

}  // namespace

Result<Window> MakeWindow(const Attributes& attributes, const Dims& kernel, const Dims& in) {
  Window w{.kernel = kernel};
  MINIM_TRY(w.strides, List(attributes, "strides", kernel.rank(), 1));
  MINIM_TRY(w.dilations, List(attributes, "dilations", kernel.rank(), 1));
  MINIM_TRY(SetPads(attributes, in, w));
  return w;
}

Dims WindowOutput(const Window& w, const Dims& in, bool ceil) {
  Dims out;
  for (int i = 0; i < w.rank(); ++i) {
    const int64_t room = in[i] + w.begins[i] + w.ends[i] - w.Extent(i);
    if (room < 0 && !(ceil && room > -w.strides[i])) {
      out.push_back(0);
      continue;
    }
    int64_t size = room < 0 ? 1 : (room + (ceil ? w.strides[i] - 1 : 0)) / w.strides[i] + 1;
    if (ceil && (size - 1) * w.strides[i] >= in[i] + w.begins[i]) --size;
    out.push_back(std::max<int64_t>(0, size));
  }
  return out;
}

std::vector<int64_t> PadList(const Window& w) {
  std::vector<int64_t> pads(w.begins.begin(), w.begins.end());
  pads.insert(pads.end(), w.ends.begin(), w.ends.end());
  return pads;
}

Attributes WithPads(const Attributes& attributes, const Window& window) {
  Attributes result = attributes;
  result.Erase("auto_pad");
  result.Set("pads", PadList(window));
  return result;
}

Dims Spatial(const Dims& dims) { return Dims(dims.span().subspan(2)); }

}  // namespace minim::ops
