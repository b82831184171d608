// QLinearConv with one filter a plane. Such sums are short: in FP32 they are exact, and the vectors
// of depthwise.cc do the work; with AVX512-VNNI bytes are multiplied as they lie.
#include <algorithm>
#include <cstring>

#include "core/requantize.h"
#include "kernels/cpu/bindings.h"
#include "kernels/cpu/depthwise_rows.h"
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
  std::shared_ptr<const std::byte> weights;  // zero points taken off: FP32, or PairsOf
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

float ScaleOf(const Plan& p, const KernelArgs& args, int64_t filter) {
  return RequantizeScale(*In<float>(args, kXScale),
                         In<float>(args, kWScale)[p.w_scales > 1 ? filter : 0],
                         *In<float>(args, kYScale));
}

void RunPlane(const Plan& p, const KernelArgs& args, int64_t plane, float* image) {
  float* staged = image + p.w.in_size();
  float* sums = staged + p.stage_floats;
  auto* integers = reinterpret_cast<int32_t*>(sums + p.block_size());
  const int64_t filter = plane % p.filters;
  Widen(p, args, plane / p.filters * p.w.channels + filter / p.multiplier, image);
  const float scale = ScaleOf(p, args, filter);
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

// By filter and tap, zero points taken off.
struct Weights {
  ZeroPoints values, zeros;
  int64_t taps;

  Weights(const KernelRequest& request, int64_t taps) : taps(taps) {
    const TensorDesc& w = request.inputs[kW];
    values = {w.constant, w.dtype, w.dims.Elements()};
    if (HasInput(request, kWZero))
      zeros = {request.inputs[kWZero].constant, w.dtype, request.inputs[kWZero].dims.Elements()};
  }
  std::string Key(std::string key) const {
    for (int64_t i = 0; i < zeros.count; ++i) key += fmt::format(".{}", zeros.At(i));
    return key;
  }
  int32_t At(int64_t filter, int64_t tap) const {
    return values.At(filter * taps + tap) - zeros.At(filter);
  }
};

void PackWeights(const KernelRequest& request, Plan& p) {
  const Weights weights(request, p.w.taps());
  p.weights = request.packs->GetOrPack(
      request.inputs[kW].ConstantView(), weights.Key("depthwise"),
      weights.values.count * sizeof(float), [&](std::byte* to) {
        auto* floats = reinterpret_cast<float*>(to);
        for (int64_t i = 0; i < weights.values.count; ++i)
          floats[i] = static_cast<float>(weights.At(i / p.w.taps(), i % p.w.taps()));
      });
}

// Pairs of taps as 16-bit integers, then the sum of all: of one filter.
int64_t PairsOf(const Plan& p) { return (p.w.taps() + 1) / 2 + 1; }

void PackPairs(const KernelRequest& request, Plan& p) {
  const Weights weights(request, p.w.taps());
  p.weights = request.packs->GetOrPack(
      request.inputs[kW].ConstantView(), weights.Key("depthwise pairs"),
      p.filters * PairsOf(p) * static_cast<int64_t>(sizeof(int32_t)), [&](std::byte* to) {
        auto* pairs = reinterpret_cast<int32_t*>(to);
        std::fill_n(pairs, p.filters * PairsOf(p), 0);
        for (int64_t f = 0; f < p.filters; ++f, pairs += PairsOf(p))
          for (int64_t tap = 0; tap < p.w.taps(); ++tap) {
            const int32_t weight = weights.At(f, tap);
            pairs[tap / 2] |=
                static_cast<int32_t>(static_cast<uint32_t>(weight & 0xFFFF) << (tap % 2 * 16));
            pairs[PairsOf(p) - 1] += weight;
          }
      });
}

Status FillPlan(const KernelRequest& request, Plan* p) {
  const Dims &x = request.inputs[kX].dims, &weights = request.inputs[kW].dims;
  MINIM_TRY(p->w,
            WindowOf(AttributesOf(request), x, request.outputs[0].dims, weights.span().subspan(2)));
  MINIM_TRY(Check(request, p->w));
  p->filters = weights[0];
  p->multiplier = weights[0] / x[1];
  p->x_dtype = request.inputs[kX].dtype;
  p->y_dtype = request.outputs[0].dtype;
  p->w_scales = request.inputs[kWScale].dims.Elements();
  return {};
}

BindResult Bind(const KernelRequest& request, const PlaneLevel& level, const IntLevel& integers) {
  Plan p{.level = &level, .integers = &integers};
  MINIM_TRY(FillPlan(request, &p));
  p.stage = ImageStage(p.w, kPanel);
  p.block = PlaneBlock(p.stage, p.w.out[1]);
  p.stage_floats = p.stage.FloatsFor(1, p.block);
  PackWeights(request, p);
  const size_t scratch = p.piece_bytes() * std::max(1, request.threads);
  return MakeKernel(
      fmt::format("int8 depthwise {}", level.name),
      [p = std::move(p)](const KernelArgs& args) {
        RunUnits(args.threads, args.scratch, p.w.batch * p.filters, p.piece_bytes(),
                 [&](int64_t plane, float* image) { RunPlane(p, args, plane, image); });
      },
      scratch);
}

void RunRows(const Plan& p, const DepthwiseRows& rows, const KernelArgs& args, int64_t plane,
             const uint8_t* padding) {
  const int64_t filter = plane % p.filters;
  const int64_t input = plane / p.filters * p.w.channels + filter / p.multiplier;
  const auto* pairs = reinterpret_cast<const int32_t*>(p.weights.get()) + filter * PairsOf(p);
  const int32_t* bias = In<int32_t>(args, kBias);
  const auto zeros = static_cast<uint32_t>(ZeroOf(args, kXZero, p.x_dtype)) *
                     static_cast<uint32_t>(pairs[PairsOf(p) - 1]);
  const PlaneByteFilter f{
      .pairs = pairs,
      .start = static_cast<int32_t>((bias ? static_cast<uint32_t>(bias[filter]) : 0) - zeros),
      .scale = ScaleOf(p, args, filter),
      .zero_point = ZeroOf(args, kYZero, p.y_dtype),
      .is_signed = p.y_dtype == DType::i8};
  (p.x_dtype == DType::i8 ? FilterSignedBytesVnni : FilterBytesVnni)(
      rows, In<uint8_t>(args, kX) + input * p.w.in_size(), padding, f,
      Out<std::byte>(args, 0) + plane * p.w.out_size());
}

// Its scratch is a row of the image's zero point for each thread.
BindResult BindRows(const KernelRequest& request) {
  constexpr int64_t kLanes = 32;
  Plan p;
  MINIM_TRY(FillPlan(request, &p));
  MINIM_TRY(DepthwiseRows rows, DepthwiseRowsOf(p.w, kLanes));
  PackPairs(request, p);
  const size_t row_bytes = AlignUp(static_cast<size_t>(p.w.in[2]));
  return MakeKernel(
      "int8 depthwise avx512_vnni, rows in place",
      [p = std::move(p), rows = std::move(rows), row_bytes](const KernelArgs& args) {
        const int zero = ZeroOf(args, kXZero, p.x_dtype);
        RunUnits(args.threads, args.scratch, p.w.batch * p.filters, row_bytes,
                 [&](int64_t plane, float* row) {
                   std::memset(row, zero, row_bytes);
                   RunRows(p, rows, args, plane, reinterpret_cast<const uint8_t*>(row));
                 });
      },
      row_bytes * std::max(1, request.threads));
}

}  // namespace

BindResult QLinearDepthwiseAvx2(const KernelRequest& request) {
  return Bind(request, PlanesAvx2(), IntAvx2());
}
BindResult QLinearDepthwiseVnni(const KernelRequest& request) { return BindRows(request); }
BindResult QLinearDepthwisePortable(const KernelRequest& request) {
  return Bind(request, PlanesPortable(), IntPortable());
}

}  // namespace minim
