// ConvInteger and QLinearConv: the image is widened to 16 bits (padding is then 0), its pixels are
// packed in pairs, and the exact integer product does the rest.
#include <algorithm>

#include "core/requantize.h"
#include "kernels/cpu/bindings.h"
#include "kernels/cpu/image_pack.h"
#include "kernels/cpu/int_gemm.h"

namespace minim {
namespace {

constexpr int64_t kPackBytes = 256 << 10;

struct Roles {
  int w, x_zero, w_zero, x_scale, w_scale, y_scale, y_zero, bias;
};
constexpr Roles kConvInteger{1, 2, 3, -1, -1, -1, -1, -1};
constexpr Roles kQLinearConv{3, 2, 5, 1, 4, 6, 7, 8};

struct Plan {
  Window w;
  Roles roles;
  const IntLevel* level = nullptr;
  bool quantized = false;
  int64_t groups = 1, m = 1, k = 1, channels = 1, panels = 1, block = 1;
  DType x_dtype = DType::u8, w_dtype = DType::i8, y_dtype = DType::i32;
  int64_t w_zeros = 0, w_scales = 0;
  std::shared_ptr<const std::byte> weights;  // widened rows, when constant
  size_t image_bytes = 0, weight_bytes = 0, scale_bytes = 0;
  size_t pixel_bytes = 0, pair_bytes = 0, sum_bytes = 0;  // per piece

  size_t piece_bytes() const { return pixel_bytes + pair_bytes + sum_bytes; }
};

bool Given(const KernelArgs& args, int role) {
  return role >= 0 && role < static_cast<int>(args.inputs.size()) && args.inputs[role] != nullptr;
}

void Widen(const IntLevel& level, const void* src, DType dtype, int32_t zero, int64_t n,
           int16_t* dst) {
  if (dtype == DType::u8) return level.widen_u8(static_cast<const uint8_t*>(src), zero, n, dst);
  level.widen_s8(static_cast<const int8_t*>(src), zero, n, dst);
}

// Each output channel's weights as a row of pairs.
void WidenWeights(const Plan& p, const void* src, const ZeroPoints& zeros, int16_t* dst) {
  const int64_t width = PairsOf(p.k) * 2;
  for (int64_t i = 0; i < p.groups * p.m; ++i) {
    dst[i * width + width - 1] = 0;
    Widen(*p.level, static_cast<const std::byte*>(src) + i * p.k, p.w_dtype, zeros.At(i), p.k,
          dst + i * width);
  }
}

struct Buffers {
  const int16_t* image;
  const int16_t* weights;
  const float* scales;
  std::byte* pieces;
};

void InterleavePanel(const Plan& p, const int16_t* pixels, int16_t* pairs) {
  static constexpr int16_t kZeros[kPanel] = {};
  for (int64_t i = 0; i < PairsOf(p.k); ++i) {
    const int16_t* first = pixels + 2 * i * kPanel;
    p.level->interleave(first, 2 * i + 1 < p.k ? first + kPanel : kZeros, pairs + 2 * i * kPanel);
  }
}

void FinishBlock(const Plan& p, const KernelArgs& args, const float* scales, int64_t channel,
                 int64_t n, int32_t* sums, int64_t at) {
  RequantizeRow row;
  if (Given(args, p.roles.y_zero))
    row.zero_point = ZeroPoints{args.inputs[p.roles.y_zero], p.y_dtype, 1}.At(0);
  for (int64_t i = 0; i < p.m; ++i) {
    row.scales = scales + (p.w_scales > 1 ? channel + i : 0);
    const int32_t bias =
        Given(args, p.roles.bias) ? In<int32_t>(args, p.roles.bias)[channel + i] : 0;
    RequantizeChannel(*p.level, bias, row, n, sums + i * n, p.y_dtype,
                      Out<std::byte>(args, 0) + at + i * p.w.out_size());
  }
}

void RunBlock(const Plan& p, const KernelArgs& args, const Buffers& buffers, int64_t unit,
              std::byte* piece) {
  const int64_t blocks = (p.panels + p.block - 1) / p.block;
  const int64_t image = unit / (blocks * p.groups), group = unit / blocks % p.groups;
  const int64_t first = unit % blocks * p.block, last = std::min(p.panels, first + p.block);
  auto* pixels = reinterpret_cast<int16_t*>(piece);
  auto* pairs = reinterpret_cast<int16_t*>(piece + p.pixel_bytes);
  auto* sums = reinterpret_cast<int32_t*>(piece + p.pixel_bytes + p.pair_bytes);
  const int64_t plane = (image * p.groups + group) * p.channels;
  for (int64_t panel = first; panel < last; ++panel) {
    PackPixels<int16_t>(p.w, buffers.image + plane * p.w.in_size(), p.channels, panel, panel + 1, 0,
                        pixels);
    InterleavePanel(p, pixels, pairs + (panel - first) * PairsOf(p.k) * 2 * kPanel);
  }
  const int64_t n = std::min(last * kPanel, p.w.out_size()) - first * kPanel;
  const int64_t at = (image * p.groups + group) * p.m * p.w.out_size() + first * kPanel;
  p.level->multiply({.m = p.m,
                     .n = n,
                     .pairs = PairsOf(p.k),
                     .a = buffers.weights + group * p.m * PairsOf(p.k) * 2,
                     .a_row = PairsOf(p.k) * 2,
                     .packed = pairs,
                     .c = p.quantized ? sums : Out<int32_t>(args, 0) + at,
                     .c_row = p.quantized ? n : p.w.out_size()});
  if (p.quantized) FinishBlock(p, args, buffers.scales, group * p.m, n, sums, at);
}

Buffers Prepare(const Plan& p, const KernelArgs& args) {
  auto* scratch = static_cast<std::byte*>(args.scratch);
  auto* image = reinterpret_cast<int16_t*>(scratch);
  auto* weights = reinterpret_cast<int16_t*>(scratch + p.image_bytes);
  auto* scales = reinterpret_cast<float*>(scratch + p.image_bytes + p.weight_bytes);
  const int32_t zero =
      Given(args, p.roles.x_zero) ? ZeroPoints{args.inputs[p.roles.x_zero], p.x_dtype, 1}.At(0) : 0;
  args.threads.ParallelRange(p.w.batch * p.w.channels * p.w.in_size(), 65536,
                             [&](int64_t first, int64_t last) {
                               Widen(*p.level, In<std::byte>(args, 0) + first, p.x_dtype, zero,
                                     last - first, image + first);
                             });
  const void* zeros = Given(args, p.roles.w_zero) ? args.inputs[p.roles.w_zero] : nullptr;
  if (!p.weights) WidenWeights(p, args.inputs[p.roles.w], {zeros, p.w_dtype, p.w_zeros}, weights);
  for (int64_t i = 0; p.quantized && i < std::max<int64_t>(1, p.w_scales); ++i)
    scales[i] =
        RequantizeScale(*In<float>(args, p.roles.x_scale), In<float>(args, p.roles.w_scale)[i],
                        *In<float>(args, p.roles.y_scale));
  return {image, p.weights ? reinterpret_cast<const int16_t*>(p.weights.get()) : weights, scales,
          scratch + p.image_bytes + p.weight_bytes + p.scale_bytes};
}

void Run(const Plan& p, const KernelArgs& args) {
  const Buffers buffers = Prepare(p, args);
  const int64_t blocks = (p.panels + p.block - 1) / p.block;
  const int64_t units = p.w.batch * p.groups * blocks;
  const int pieces = static_cast<int>(std::min<int64_t>(units, args.threads.threads));
  args.threads.ParallelFor(pieces, [&](int i) {
    for (int64_t unit = units * i / pieces; unit < units * (i + 1) / pieces; ++unit)
      RunBlock(p, args, buffers, unit, buffers.pieces + i * p.piece_bytes());
  });
}

int64_t CountOf(const KernelRequest& request, int role) {
  return role >= 0 && HasInput(request, role) ? request.inputs[role].dims.Elements() : 0;
}

Status CheckParts(const KernelRequest& request, const Plan& p) {
  const auto byte = [](DType dtype) { return dtype == DType::u8 || dtype == DType::i8; };
  if (!byte(p.x_dtype) || !byte(p.w_dtype) || (p.quantized && !byte(p.y_dtype)))
    return Unsupported("dtypes {}, {}, {}", Name(p.x_dtype), Name(p.w_dtype), Name(p.y_dtype));
  const int64_t m = p.groups * p.m;
  if ((p.w_zeros > 1 && p.w_zeros != m) || (p.w_scales > 1 && p.w_scales != m))
    return Unsupported("per-channel parameters do not match {} channels", m);
  if (CountOf(request, p.roles.x_zero) > 1) return Unsupported("several zero points of the image");
  return {};
}

void PackWeights(const KernelRequest& request, Plan* p) {
  const TensorDesc& w = request.inputs[p->roles.w];
  const TensorDesc* zero = p->w_zeros ? &request.inputs[p->roles.w_zero] : nullptr;
  const size_t bytes = AlignUp(p->groups * p->m * PairsOf(p->k) * 4);
  if (w.constant == nullptr || (zero && zero->constant == nullptr)) {
    p->weight_bytes = bytes;
    return;
  }
  const ZeroPoints zeros{zero ? zero->constant : nullptr, p->w_dtype, p->w_zeros};
  std::string key = fmt::format("conv int16.{}.{}", p->m, p->k);
  for (int64_t i = 0; i < p->w_zeros; ++i) key += fmt::format(".{}", zeros.At(i));
  p->weights = request.packs->GetOrPack(w.ConstantView(), key, bytes, [&](std::byte* blob) {
    WidenWeights(*p, w.constant, zeros, reinterpret_cast<int16_t*>(blob));
  });
}

Status FillGeometry(const KernelRequest& request, Plan* p) {
  const Dims &x = request.inputs[0].dims, &w = request.inputs[p->roles.w].dims;
  MINIM_TRY(p->w, WindowOf(AttributesOf(request), x, request.outputs[0].dims, w.span().subspan(2)));
  p->groups = AttributesOf(request).Int("group", 1);
  if (p->groups < 1 || w[0] % p->groups != 0 || w[1] * p->groups != x[1])
    return Unsupported("weights {} do not fit image {} in {} groups", w.ToString(), x.ToString(),
                       p->groups);
  p->m = w[0] / p->groups;
  p->channels = w[1];
  p->k = p->channels * p->w.taps();
  p->panels = PanelsOf(p->w.out_size());
  const int64_t panel_bytes = std::max<int64_t>(1, PairsOf(p->k) * kPanel * 4);
  const int64_t share = (p->panels + request.threads - 1) / std::max(1, request.threads);
  p->block = std::clamp<int64_t>(std::min(kPackBytes / panel_bytes, share), 1,
                                 std::max<int64_t>(1, p->panels));
  return {};
}

BindResult Bind(const KernelRequest& request, const IntLevel& level, const Roles& roles,
                bool quantized) {
  MINIM_TRY(RequireRowMajor(request));
  Plan p{.roles = roles, .level = &level, .quantized = quantized};
  MINIM_TRY(FillGeometry(request, &p));
  p.x_dtype = request.inputs[0].dtype;
  p.w_dtype = request.inputs[roles.w].dtype;
  p.y_dtype = request.outputs[0].dtype;
  p.w_zeros = CountOf(request, roles.w_zero);
  p.w_scales = CountOf(request, roles.w_scale);
  MINIM_TRY(CheckParts(request, p));
  PackWeights(request, &p);
  p.image_bytes = AlignUp(p.w.batch * p.w.channels * p.w.in_size() * 2);
  p.scale_bytes = AlignUp(std::max<int64_t>(1, p.w_scales) * 4);
  p.pixel_bytes = AlignUp(p.k * kPanel * 2);
  p.pair_bytes = AlignUp(p.block * PairsOf(p.k) * kPanel * 4);
  p.sum_bytes = quantized ? AlignUp(p.m * p.block * kPanel * 4) : 0;
  const size_t scratch = p.image_bytes + p.weight_bytes + p.scale_bytes +
                         p.piece_bytes() * std::max(1, request.threads);
  return MakeKernel(
      fmt::format("int8 conv as gemm {} 4x16", level.name),
      [p = std::move(p)](const KernelArgs& args) { Run(p, args); }, scratch);
}

}  // namespace

BindResult ConvIntegerAvx2(const KernelRequest& r) {
  return Bind(r, IntAvx2(), kConvInteger, false);
}
BindResult ConvIntegerPortable(const KernelRequest& r) {
  return Bind(r, IntPortable(), kConvInteger, false);
}
BindResult QLinearConvAvx2(const KernelRequest& r) {
  return Bind(r, IntAvx2(), kQLinearConv, true);
}
BindResult QLinearConvPortable(const KernelRequest& r) {
  return Bind(r, IntPortable(), kQLinearConv, true);
}

}  // namespace minim
