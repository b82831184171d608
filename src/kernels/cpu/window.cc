#include "kernels/cpu/window.h"

#include <algorithm>

namespace minim {
namespace {

Status FillPads(const Attributes& attributes, int rank, Window* w) {
  const std::string mode = attributes.String("auto_pad", "NOTSET");
  if (mode == "VALID") return {};
  const int shift = 3 - rank;
  if (mode == "NOTSET" || mode.empty()) {
    const std::vector<int64_t> pads = attributes.Ints("pads");
    if (!pads.empty() && static_cast<int>(pads.size()) != 2 * rank)
      return Unsupported("{} pads for {} spatial axes", pads.size(), rank);
    for (int i = 0; i < rank && !pads.empty(); ++i) {
      w->begin[shift + i] = pads[i];
      w->end[shift + i] = pads[rank + i];
    }
    return {};
  }
  for (int i = shift; i < 3; ++i) {
    const int64_t reach = (w->kernel[i] - 1) * w->dilation[i] + 1;
    const int64_t total = std::max<int64_t>(0, (w->out[i] - 1) * w->stride[i] + reach - w->in[i]);
    w->begin[i] = mode == "SAME_LOWER" ? total - total / 2 : total / 2;
    w->end[i] = total - w->begin[i];
  }
  return {};
}

void FillAxes(const std::vector<int64_t>& values, int rank, int64_t* axes) {
  for (int i = 0; i < rank && i < static_cast<int>(values.size()); ++i)
    axes[3 - rank + i] = values[i];
}

// The positions of one axis under output position `at`, in the image or its padding, but not past
// that.
int64_t PaddedCount(const Window& w, int axis, int64_t at) {
  const int64_t first = at * w.stride[axis] - w.begin[axis];
  const int64_t reach = (w.kernel[axis] - 1) * w.dilation[axis] + 1;
  const int64_t last = std::min(first + reach, w.in[axis] + w.end[axis]);
  return std::max<int64_t>(1, (last - first + w.dilation[axis] - 1) / w.dilation[axis]);
}

}  // namespace

Result<Window> WindowOf(const Attributes& attributes, const Dims& image, const Dims& result,
                        std::span<const int64_t> kernel_dims) {
  const int rank = image.rank() - 2;
  if (rank < 1 || rank > 3 || result.rank() != image.rank())
    return Unsupported("image of dims {} and result of dims {}", image.ToString(),
                       result.ToString());
  std::vector<int64_t> kernel(kernel_dims.begin(), kernel_dims.end());
  if (kernel.empty()) kernel = attributes.Ints("kernel_shape");
  if (static_cast<int>(kernel.size()) != rank)
    return Unsupported("{} kernel sizes for {} axes", kernel.size(), rank);
  Window w{.batch = image[0], .channels = image[1]};
  FillAxes(kernel, rank, w.kernel);
  FillAxes(attributes.Ints("strides"), rank, w.stride);
  FillAxes(attributes.Ints("dilations"), rank, w.dilation);
  for (int i = 0; i < rank; ++i) {
    w.in[3 - rank + i] = image[2 + i];
    w.out[3 - rank + i] = result[2 + i];
  }
  for (int i = 0; i < 3; ++i) {
    if (w.stride[i] < 1 || w.dilation[i] < 1 || w.kernel[i] < 1)
      return Unsupported("stride, dilation or kernel below 1");
  }
  MINIM_TRY(FillPads(attributes, rank, &w));
  return w;
}

Span SpanOf(const Window& w, int axis, int64_t at) {
  const int64_t step = w.dilation[axis];
  int64_t first = at * w.stride[axis] - w.begin[axis];
  const int64_t last = std::min(first + (w.kernel[axis] - 1) * step + 1, w.in[axis]);
  if (first < 0) first += (-first + step - 1) / step * step;
  return {first, last, step};
}

int64_t CountAt(const Window& w, bool include_pad, int64_t d, int64_t h, int64_t x) {
  if (include_pad) return PaddedCount(w, 0, d) * PaddedCount(w, 1, h) * PaddedCount(w, 2, x);
  return SpanOf(w, 0, d).count() * SpanOf(w, 1, h).count() * SpanOf(w, 2, x).count();
}

Result<int64_t> GroupsOf(const Attributes& attributes, const Dims& image, const Dims& weights) {
  const int64_t groups = attributes.Int("group", 1);
  if (groups < 1 || weights[0] % groups != 0 || weights[1] * groups != image[1])
    return Unsupported("weights {} do not fit image {} in {} groups", weights.ToString(),
                       image.ToString(), groups);
  return groups;
}

}  // namespace minim
