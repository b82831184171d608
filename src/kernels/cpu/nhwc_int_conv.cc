// NhwcQLinearConv: a direct convolution of bytes (nhwc_cuts.h).
#include "kernels/cpu/nhwc_int_conv.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>

#include "core/requantize.h"
#include "kernels/cpu/bindings.h"
#include "kernels/cpu/carver.h"
#include "kernels/cpu/int_conv_parts.h"

namespace minim {
namespace {

// Scales that sums are multiplied by, and those that ForEachStep divides by, as others do.
constexpr float kMostScale = 1e30f, kLeastStep = 1e-20f;

struct Plan {
  const NhwcIntLevel* level = nullptr;
  NhwcCuts cuts;
  IntConvParts parts;
  std::shared_ptr<const std::byte> weights;  // packed; then the sum of each filter's
  std::optional<NhwcShortcut> shortcut;

  int64_t weight_bytes() const { return cuts.filled() * cuts.depth(); }
};

struct Scratch {
  int32_t* starts;
  float *given, *scales;  // as the node has them; one of each filter
  std::byte* stages;      // one of each thread
};

size_t Carve(const Plan& p, int threads, std::byte* base, Scratch* to) {
  Carver carver(base);
  to->starts = carver.Take<int32_t>(p.cuts.filled());
  to->given = carver.Take<float>(std::max<int64_t>(1, p.parts.w_scales));
  to->scales = carver.Take<float>(p.cuts.filled());
  to->stages =
      carver.Take<std::byte>(static_cast<int64_t>(AlignUp(p.cuts.stage_bytes())) * threads);
  return carver.bytes();
}

void PackWeights(const Plan& p, const int8_t* filters, std::byte* blob) {
  NhwcFilters(p.cuts, 1).Pack(filters, blob);
  auto* sums = reinterpret_cast<int32_t*>(blob + p.weight_bytes());
  const int64_t size = p.cuts.w.channels * p.cuts.w.taps();
  for (int64_t f = 0; f < p.cuts.filters; ++f)
    sums[f] = std::accumulate(filters + f * size, filters + (f + 1) * size, 0);
}

void Prepare(const Plan& p, const KernelArgs& args, const Scratch& scratch) {
  const auto* sums = reinterpret_cast<const int32_t*>(p.weights.get() + p.weight_bytes());
  const auto zero = static_cast<uint32_t>(p.parts.ZeroOfImage(args));
  const int64_t filters = p.cuts.filters, filled = p.cuts.filled();
  p.parts.FillScales(args, scratch.given);
  for (int64_t f = 0; f < filters; ++f) {
    scratch.starts[f] = static_cast<int32_t>(static_cast<uint32_t>(p.parts.BiasOf(args, f)) -
                                             zero * static_cast<uint32_t>(sums[f]));
    scratch.scales[f] = *p.parts.RowOf(args, scratch.given, f).scales;
  }
  std::fill(scratch.starts + filters, scratch.starts + filled, 0);
  std::fill(scratch.scales + filters, scratch.scales + filled, 0.0f);
}

// Inputs of the sum with another image: that image, its scale and zero point, and those of the sum.
enum Role { kYScale = 6, kYZero, kZ = 9, kZScale, kZZero, kScale, kZeroPoint };

Result<NhwcShortcut> ShortcutOf(const KernelRequest& request) {
  for (const int role : {kYScale, kYZero, kZScale, kZZero, kScale, kZeroPoint})
    if (ElementsOf(request, role) != 1 || request.inputs[role].constant == nullptr)
      return Unsupported("a sum whose scales and zero points are not constants");
  MINIM_TRY(RequireOutputDims(request, kZ));
  const DType dtype = request.outputs[0].dtype;
  for (const int role : {kYZero, kZ, kZZero, kZeroPoint})
    if (request.inputs[role].dtype != dtype) return Unsupported("a sum of several dtypes");
  const auto scale = [&](int role) {
    return *static_cast<const float*>(request.inputs[role].constant);
  };
  const auto zero = [&](int role) {
    return ZeroPoints{static_cast<const std::byte*>(request.inputs[role].constant), dtype, 1}.At(0);
  };
  NhwcShortcut s{.y_scale = scale(kYScale),
                 .z_scale = scale(kZScale),
                 .z_zero = zero(kZZero),
                 .zero_point = zero(kZeroPoint),
                 .rectifies = AttributesOf(request).String("activation", "") == "Relu"};
  const auto usual = [](float x) { return std::fabs(x) < kMostScale; };
  const float by = scale(kScale);
  if (!usual(s.y_scale) || !usual(s.z_scale) || !usual(by) || !(by > kLeastStep))
    return Unsupported("a sum of scales {} and {}, quantized by {}", s.y_scale, s.z_scale, by);
  s.divisor = StepDivisorOf(by, s.rectifies ? 0 : -512, 512);
  return s;
}

void Run(const Plan& p, const KernelArgs& args) {
  Scratch scratch;
  Carve(p, 0, static_cast<std::byte*>(args.scratch), &scratch);
  Prepare(p, args, scratch);
  const int32_t zero_point = p.parts.RowOf(args, scratch.given, 0).zero_point;
  const bool is_signed = p.parts.y_dtype == DType::i8;
  const auto *z = In<std::byte>(args, kZ), *y = Out<std::byte>(args, 0);
  p.cuts.ForEachPiece(args.threads, args.inputs[0], static_cast<uint8_t>(p.parts.ZeroOfImage(args)),
                      scratch.stages, [&](const NhwcPiece& piece, int) {
                        p.cuts.ForEachRun(piece, p.weights.get(), args.outputs[0], 1,
                                          [&](const NhwcRun& run, int64_t pixels, int64_t filter) {
                                            NhwcInts ints{run, scratch.starts + filter,
                                                          scratch.scales + filter, is_signed,
                                                          zero_point};
                                            if (!p.shortcut) return p.level->to_bytes(ints, pixels);
                                            ints.shortcut = &*p.shortcut;
                                            ints.z = z + (run.dst - y);
                                            p.level->to_sums(ints, pixels);
                                          });
                      });
}

BindResult Bind(const KernelRequest& request, const NhwcIntLevel& level) {
  Plan p{.level = &level};
  MINIM_TRY(p.parts, IntConvPartsOf(request, kQLinearConvRoles));
  const int w_role = p.parts.roles.w;
  const TensorDesc& w = request.inputs[w_role];
  const std::optional<ZeroPoints> zeros = p.parts.KnownZerosOfWeights(request);
  if (p.parts.x_dtype != DType::u8 || p.parts.w_dtype != DType::i8 || w.constant == nullptr)
    return Unsupported("other than unsigned bytes by constant signed bytes");
  if (!zeros || !AreMiddle(*zeros)) return Unsupported("weights with zero points");
  MINIM_TRY(const Window window, NhwcWindowOf(request, w.dims));
  if (HasInput(request, kZ)) {
    MINIM_TRY(p.shortcut, ShortcutOf(request));
  }
  const int64_t filters = w.dims[0], images = p.shortcut ? 2 : 1;
  MINIM_TRY(p.cuts, NhwcCutsOf(window, filters, 1, NhwcStepOf(window, filters, 1, filters * images),
                               request.threads));
  p.cuts.joins_lines = level.joins_lines;
  p.cuts.release = level.release;
  p.weights = request.packs->GetOrPack(
      w.ConstantView(), fmt::format("nhwc conv.{}", p.cuts.segments.size()),
      p.weight_bytes() + p.cuts.filled() * sizeof(int32_t),
      [&](std::byte* blob) { PackWeights(p, static_cast<const int8_t*>(w.constant), blob); },
      [form = NhwcFilters(p.cuts, 1)](const std::byte* blob, void* to) { form.Unpack(blob, to); });
  Scratch none;
  const size_t scratch = Carve(p, std::max(1, request.threads), nullptr, &none);
  return MakeKernel(fmt::format("int8 conv, channels last, {}{}", level.name,
                                p.cuts.staged ? ", images padded" : ""),
                    [p = std::move(p)](const KernelArgs& args) { Run(p, args); }, scratch, {},
                    {w_role});
}

int32_t Sum(const NhwcInts& ints, int32_t y, std::byte z, int32_t low, int32_t high) {
  const NhwcShortcut& s = *ints.shortcut;
  const int32_t other = ints.is_signed ? static_cast<int8_t>(z) : static_cast<uint8_t>(z);
  const float sum = static_cast<float>(y - ints.zero_point) * s.y_scale +
                    static_cast<float>(other - s.z_zero) * s.z_scale;
  return Requantize((s.rectifies && sum < 0 ? 0 : sum) / s.divisor.scale, s.zero_point, low, high);
}

template <bool sums>
void RunPortable(const NhwcInts& ints, int64_t pixels) {
  const NhwcRun& t = ints.run;
  const int32_t low = ints.is_signed ? -128 : 0, high = ints.is_signed ? 127 : 255;
  const int64_t width = PanelsOf(t.filters) * kPanel;
  for (int64_t i = 0; i < pixels; ++i) {
    const auto* pixel =
        reinterpret_cast<const uint8_t*>(t.image + (t.offsets ? t.offsets[i] : i * t.pixel_step));
    for (int64_t f = 0; f < t.filters; ++f) {
      const auto* w = reinterpret_cast<const int8_t*>(t.weights) + f * 4;
      auto sum = static_cast<uint32_t>(ints.starts[f]);  // wraps, as everywhere
      for (int64_t s = 0; s < t.segment_count; ++s)
        for (int64_t k = 0; k < t.quads * 4; ++k, w += k % 4 == 0 ? width * 4 - 3 : 1)
          sum += static_cast<uint32_t>(pixel[t.segments[s] + k] * *w);
      int32_t y = Requantize(static_cast<float>(static_cast<int32_t>(sum)) * ints.scales[f],
                             ints.zero_point, low, high);
      if constexpr (sums) y = Sum(ints, y, ints.z[i * t.dst_step + f], low, high);
      t.dst[i * t.dst_step + f] = static_cast<std::byte>(y);
    }
  }
}

}  // namespace

const NhwcIntLevel& NhwcIntPortable() {
  static constexpr NhwcIntLevel kLevel{
      .name = "portable", .to_bytes = RunPortable<false>, .to_sums = RunPortable<true>};
  return kLevel;
}

BindResult NhwcQLinearConvPortable(const KernelRequest& request) {
  return Bind(request, NhwcIntPortable());
}
BindResult NhwcQLinearConvVnni(const KernelRequest& request) {
  return Bind(request, NhwcIntVnni());
}
BindResult NhwcQLinearConvAmx(const KernelRequest& request) { return Bind(request, NhwcIntAmx()); }

}  // namespace minim
