// QLinearConv with one filter a plane. Such sums are short: in FP32 they are exact, and the vectors
// of depthwise.cc do the work.
#include <algorithm>

#include "core/requantize.h"
#include "kernels/cpu/bindings.h"
#include "kernels/cpu/int_gemm.h"
#include "kernels/cpu/plane_window.h"

namespace minim {
namespace {

enum Role { kX, kXScale, kXZero, kW, kWScale, kWZero, kYScale, kYZero, kBias };

// Sums of so many products of two 9-bit numbers stay below 2^24, where FP32 counts exactly.
constexpr int64_t kMostTaps = (1 << 24) / (255 * 255);

struct Plan {
  Window w;
  ImageStage stage;
  const PlaneLevel* level = nullptr;
  const IntLevel* integers = nullptr;
  int64_t filters = 1, multiplier = 1;  // in all, and on one plane
  int64_t block = 1;                    // output rows at a time
  DType x_dtype = DType::u8, y_dtype = DType::u8;
  int64_t w_scales = 1;
  std::shared_ptr<const std::byte> weights;  // FP32, zero points taken off
  int64_t stage_floats = 0;

  int64_t block_size() const { return block * w.out[2]; }
  size_t piece_bytes() const {
    return AlignUp((w.in_size() + stage_floats + 2 * block_size()) * sizeof(float));
  }
};

int32_t ZeroOf(const KernelArgs& args, Role role, DType dtype) {
  return ZeroPoints{In<std::byte>(args, role), dtype, 1}.At(0);
}

void Widen(const Plan& p, const KernelArgs& args, int64_t plane, float* dst) {
  const int64_t n = p.w.in_size();
  const int32_t zero = ZeroOf(args, kXZero, p.x_dtype);
  if (p.x_dtype == DType::u8)
    p.integers->dequantize_u8(In<uint8_t>(args, kX) + plane * n, 1, zero, n, dst);
  else
    p.integers->dequantize_s8(In<int8_t>(args, kX) + plane * n, 1, zero, n, dst);
}

void RunPlane(const Plan& p, const KernelArgs& args, int64_t plane, float* image) {
  float* staged = image + p.w.in_size();
  float* sums = staged + p.stage_floats;
  auto* integers = reinterpret_cast<int32_t*>(sums + p.block_size());
  const int64_t filter = plane % p.filters;
  Widen(p, args, plane / p.filters * p.w.channels + filter / p.multiplier, image);
  const float scale = RequantizeScale(*In<float>(args, kXScale),
                                      In<float>(args, kWScale)[p.w_scales > 1 ? filter : 0],
                                      *In<float>(args, kYScale));
  const RequantizeRow row{.scales = &scale, .zero_point = ZeroOf(args, kYZero, p.y_dtype)};
  const int32_t* bias = In<int32_t>(args, kBias);
  const PlaneFilter f{.weights =
                          reinterpret_cast<const float*>(p.weights.get()) + filter * p.w.taps()};
  for (int64_t y = 0; y < p.w.out[1]; y += p.block) {
    const int64_t rows = std::min(p.block, p.w.out[1] - y), n = rows * p.w.out[2];
    p.stage.Fill(image, y, y + rows, 0, staged);
    p.level->filter(RowsOf(p.w, p.stage, rows, staged, sums), f);
    const uint32_t start = bias ? static_cast<uint32_t>(bias[filter]) : 0;
    for (int64_t i = 0; i < n; ++i)
      integers[i] =
          static_cast<int32_t>(start + static_cast<uint32_t>(static_cast<int32_t>(sums[i])));
    RequantizeChannel(*p.integers, row, n, integers, p.y_dtype,
                      Out<std::byte>(args, 0) + plane * p.w.out_size() + y * p.w.out[2]);
  }
}

void Run(const Plan& p, const KernelArgs& args) {
  const int64_t planes = p.w.batch * p.filters;
  const int pieces = static_cast<int>(std::min<int64_t>(planes, args.threads.threads));
  args.threads.ParallelFor(pieces, [&](int i) {
    auto* image =
        reinterpret_cast<float*>(static_cast<std::byte*>(args.scratch) + i * p.piece_bytes());
    for (int64_t plane = planes * i / pieces; plane < planes * (i + 1) / pieces; ++plane)
      RunPlane(p, args, plane, image);
  });
}

bool OneOrEach(const KernelRequest& request, Role role, int64_t count) {
  if (!HasInput(request, role)) return true;
  const int64_t n = request.inputs[role].dims.Elements();
  return n == 1 || n == count;
}

Status Check(const KernelRequest& request, const Window& w) {
  const Dims &x = request.inputs[kX].dims, &weights = request.inputs[kW].dims;
  const int64_t groups = AttributesOf(request).Int("group", 1);
  if (weights[1] != 1 || groups != x[1] || groups < 1 || weights[0] % groups != 0)
    return Unsupported("filters of {} channels in {} groups are not depthwise", weights[1], groups);
  if (weights[0] / groups >= kSharedPlane)
    return Unsupported("{} filters on a plane share its pixels in a product", weights[0] / groups);
  if (x.rank() > 4) return Unsupported("three spatial axes");
  if (w.taps() > kMostTaps) return Unsupported("{} taps", w.taps());
  if (!IsByte(request.inputs[kX].dtype) || !IsByte(request.inputs[kW].dtype) ||
      !IsByte(request.outputs[0].dtype))
    return Unsupported("another dtype");
  if (!OneOrEach(request, kXZero, 1) || !OneOrEach(request, kWZero, weights[0]) ||
      !OneOrEach(request, kWScale, weights[0]))
    return Unsupported("parameters do not match {} filters", weights[0]);
  if (request.inputs[kW].constant == nullptr ||
      (HasInput(request, kWZero) && request.inputs[kWZero].constant == nullptr))
    return Unsupported("filters are not constant");
  return {};
}

void PackWeights(const KernelRequest& request, Plan& p) {
  const TensorDesc& w = request.inputs[kW];
  ZeroPoints zeros;
  if (HasInput(request, kWZero))
    zeros = {request.inputs[kWZero].constant, w.dtype, request.inputs[kWZero].dims.Elements()};
  std::string key = "depthwise";
  for (int64_t i = 0; i < zeros.count; ++i) key += fmt::format(".{}", zeros.At(i));
  const ZeroPoints values{w.constant, w.dtype, w.dims.Elements()};
  p.weights = request.packs->GetOrPack(
      w.ConstantView(), key, values.count * sizeof(float), [&](std::byte* to) {
        auto* floats = reinterpret_cast<float*>(to);
        for (int64_t i = 0; i < values.count; ++i)
          floats[i] = static_cast<float>(values.At(i) - zeros.At(i / p.w.taps()));
      });
}

BindResult Bind(const KernelRequest& request, const PlaneLevel& level, const IntLevel& integers) {
  const Dims &x = request.inputs[kX].dims, &weights = request.inputs[kW].dims;
  Plan p{.level = &level, .integers = &integers};
  MINIM_TRY(p.w,
            WindowOf(AttributesOf(request), x, request.outputs[0].dims, weights.span().subspan(2)));
  MINIM_TRY(Check(request, p.w));
  p.filters = weights[0];
  p.multiplier = weights[0] / x[1];
  p.x_dtype = request.inputs[kX].dtype;
  p.y_dtype = request.outputs[0].dtype;
  p.w_scales = request.inputs[kWScale].dims.Elements();
  p.stage = ImageStage(p.w, kPanel);
  p.block = PlaneBlock(p.stage, p.w.out[1]);
  p.stage_floats = p.stage.FloatsFor(1, p.block);
  PackWeights(request, p);
  const size_t scratch = p.piece_bytes() * std::max(1, request.threads);
  return MakeKernel(
      fmt::format("int8 depthwise {}", level.name),
      [p = std::move(p)](const KernelArgs& args) { Run(p, args); }, scratch);
}

}  // namespace

BindResult QLinearDepthwiseAvx2(const KernelRequest& request) {
  return Bind(request, PlanesAvx2(), IntAvx2());
}
BindResult QLinearDepthwiseVnni(const KernelRequest& request) {
  return Bind(request, PlanesAvx2(), IntVnni());
}
BindResult QLinearDepthwisePortable(const KernelRequest& request) {
  return Bind(request, PlanesPortable(), IntPortable());
}

}  // namespace minim
