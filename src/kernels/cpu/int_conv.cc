// ConvInteger and QLinearConv: the image is widened to 16 bits (padding is then 0), two channels to
// a word, so that its pixels are staged and packed as those of an FP32 image; the exact integer
// product of pairs does the rest.
#include <algorithm>

#include "core/requantize.h"
#include "kernels/cpu/bindings.h"
#include "kernels/cpu/int_gemm.h"
#include "kernels/cpu/pixel_panels.h"

namespace minim {
namespace {

constexpr int64_t kPackBytes = 512 << 10;  // of packed pixels at a time, and of their sums ...
constexpr int64_t kLeastPanels = 4;        // ... but so many panels, as each reads all the weights
constexpr int64_t kWideBytes = 1 << 20;    // of widened images at a time, unless one is larger

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
  int64_t groups = 1, m = 1, channels = 1;  // m, channels: per group
  PixelPanels pixels;                       // of words of two channels
  int64_t block = 1;                        // panels packed together
  int64_t together = 1;                     // images widened at a time
  DType x_dtype = DType::u8, w_dtype = DType::i8, y_dtype = DType::i32;
  int64_t w_zeros = 0, w_scales = 0;
  std::shared_ptr<const std::byte> weights;  // widened rows, when constant
  size_t image_bytes = 0, weight_bytes = 0, scale_bytes = 0;
  size_t stage_bytes = 0, pack_bytes = 0, sum_bytes = 0;  // per piece

  int64_t words() const { return (channels + 1) / 2; }  // per group and pixel
  int64_t pairs() const { return pixels.rows(); }
  int64_t wide_image() const { return groups * words() * w.in_size(); }
  int64_t blocks() const { return (pixels.count() + block - 1) / block; }
  size_t piece_bytes() const { return stage_bytes + pack_bytes + sum_bytes; }
};

bool Given(const KernelArgs& args, int role) {
  return role >= 0 && role < static_cast<int>(args.inputs.size()) && args.inputs[role] != nullptr;
}

// Each output channel's weights as a row of pairs: the two channels of a word, tap by tap.
void WidenWeights(const Plan& p, const void* src, const ZeroPoints& zeros, int16_t* dst) {
  const int64_t taps = p.w.taps(), width = p.pairs() * 2;
  const ZeroPoints weights{src, p.w_dtype, p.groups * p.m * p.channels * taps};
  std::fill_n(dst, p.groups * p.m * width, int16_t{0});
  for (int64_t i = 0; i < weights.count; ++i) {
    const int64_t row = i / (p.channels * taps), c = i / taps % p.channels, tap = i % taps;
    dst[row * width + (c / 2 * taps + tap) * 2 + c % 2] =
        static_cast<int16_t>(weights.At(i) - zeros.At(row));
  }
}

struct Buffers {
  float* image;
  const int16_t* weights;
  const float* scales;
  std::byte* pieces;
};

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

// `unit`: of the images from `first_image` on, which stand widened in the buffers.
void RunBlock(const Plan& p, const KernelArgs& args, const Buffers& buffers, int64_t first_image,
              int64_t unit, std::byte* piece) {
  const int64_t blocks = p.blocks();
  const int64_t image = unit / (blocks * p.groups), group = unit / blocks % p.groups;
  const int64_t first = unit % blocks * p.block, last = std::min(p.pixels.count(), first + p.block);
  auto* stage = reinterpret_cast<float*>(piece);
  auto* packed = reinterpret_cast<float*>(piece + p.stage_bytes);
  auto* sums = reinterpret_cast<int32_t*>(piece + p.stage_bytes + p.pack_bytes);
  const float* words = buffers.image + (image * p.groups + group) * p.words() * p.w.in_size();
  p.pixels.Stage(words, {first, last}, stage);
  p.pixels.Pack(words, stage, {first, last}, first, last, packed);
  const int64_t n = std::min(last * kPanel, p.w.out_size()) - first * kPanel;
  const int64_t at =
      ((first_image + image) * p.groups + group) * p.m * p.w.out_size() + first * kPanel;
  p.level->multiply({.m = p.m,
                     .n = n,
                     .pairs = p.pairs(),
                     .a = buffers.weights + group * p.m * p.pairs() * 2,
                     .a_row = p.pairs() * 2,
                     .packed = reinterpret_cast<const int16_t*>(packed),
                     .c = p.quantized ? sums : Out<int32_t>(args, 0) + at,
                     .c_row = p.quantized ? n : p.w.out_size()});
  if (p.quantized) FinishBlock(p, args, buffers.scales, group * p.m, n, sums, at);
}

// Words of two channels each, zero point taken off; the last of an odd number has a zero beside it.
void PairChannels(const Plan& p, const KernelArgs& args, int64_t first_image, int64_t images,
                  float* wide) {
  const int32_t zero =
      Given(args, p.roles.x_zero) ? ZeroPoints{args.inputs[p.roles.x_zero], p.x_dtype, 1}.At(0) : 0;
  const int64_t size = p.w.in_size(), words = p.words();
  const auto pair = [&](const auto* x, auto function, int64_t plane) {
    const int64_t c = plane % words * 2;
    const auto* first = x + ((first_image * p.groups + plane / words) * p.channels + c) * size;
    function(first, c + 1 < p.channels ? first + size : nullptr, zero, size, wide + plane * size);
  };
  args.threads.ParallelRange(images * p.groups * words, 32768 / std::max<int64_t>(1, size) + 1,
                             [&](int64_t begin, int64_t end) {
                               for (int64_t plane = begin; plane < end; ++plane) {
                                 if (p.x_dtype == DType::u8)
                                   pair(In<uint8_t>(args, 0), p.level->pair_u8, plane);
                                 else
                                   pair(In<int8_t>(args, 0), p.level->pair_s8, plane);
                               }
                             });
}

Buffers Prepare(const Plan& p, const KernelArgs& args) {
  auto* scratch = static_cast<std::byte*>(args.scratch);
  auto* image = reinterpret_cast<float*>(scratch);
  auto* weights = reinterpret_cast<int16_t*>(scratch + p.image_bytes);
  auto* scales = reinterpret_cast<float*>(scratch + p.image_bytes + p.weight_bytes);
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
  for (int64_t image = 0; image < p.w.batch; image += p.together) {
    const int64_t images = std::min(p.together, p.w.batch - image);
    PairChannels(p, args, image, images, buffers.image);
    const int64_t units = images * p.groups * p.blocks();
    const int pieces = static_cast<int>(std::min<int64_t>(units, args.threads.threads));
    args.threads.ParallelFor(pieces, [&](int i) {
      for (int64_t unit = units * i / pieces; unit < units * (i + 1) / pieces; ++unit)
        RunBlock(p, args, buffers, image, unit, buffers.pieces + i * p.piece_bytes());
    });
  }
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
  const size_t bytes = AlignUp(p->groups * p->m * p->pairs() * 4);
  if (w.constant == nullptr || (zero && zero->constant == nullptr)) {
    p->weight_bytes = bytes;
    return;
  }
  const ZeroPoints zeros{zero ? zero->constant : nullptr, p->w_dtype, p->w_zeros};
  std::string key = fmt::format("conv int16.{}.{}", p->m, p->channels);
  for (int64_t i = 0; i < p->w_zeros; ++i) key += fmt::format(".{}", zeros.At(i));
  p->weights = request.packs->GetOrPack(w.ConstantView(), key, bytes, [&](std::byte* blob) {
    WidenWeights(*p, w.constant, zeros, reinterpret_cast<int16_t*>(blob));
  });
}

Status FillGeometry(const KernelRequest& request, const FilterLevel& filters, Plan* p) {
  const Dims &x = request.inputs[0].dims, &w = request.inputs[p->roles.w].dims;
  MINIM_TRY(p->w, WindowOf(AttributesOf(request), x, request.outputs[0].dims, w.span().subspan(2)));
  MINIM_TRY(p->groups, GroupsOf(AttributesOf(request), x, w));
  p->m = w[0] / p->groups;
  p->channels = w[1];
  p->pixels = PixelPanels(p->w, p->words(), filters);
  const int64_t bytes = std::max(p->pairs(), p->m) * kPanel * 4;
  const int64_t most = std::max(kLeastPanels, kPackBytes / std::max<int64_t>(1, bytes));
  const int64_t count = std::max<int64_t>(1, p->pixels.count()),
                threads = std::max(1, request.threads);
  p->block = std::min({most, p->pixels.Most(), (count + threads - 1) / threads});
  return {};
}

struct Levels {
  const IntLevel& ints;
  const FilterLevel& filters;
};

BindResult Bind(const KernelRequest& request, const Levels& levels, const Roles& roles,
                bool quantized) {
  MINIM_TRY(RequireRowMajor(request));
  Plan p{.roles = roles, .level = &levels.ints, .quantized = quantized};
  MINIM_TRY(FillGeometry(request, levels.filters, &p));
  p.x_dtype = request.inputs[0].dtype;
  p.w_dtype = request.inputs[roles.w].dtype;
  p.y_dtype = request.outputs[0].dtype;
  p.w_zeros = CountOf(request, roles.w_zero);
  p.w_scales = CountOf(request, roles.w_scale);
  MINIM_TRY(CheckParts(request, p));
  PackWeights(request, &p);
  const int64_t wide_bytes = p.wide_image() * static_cast<int64_t>(sizeof(float));
  p.together = std::clamp<int64_t>(kWideBytes / std::max<int64_t>(1, wide_bytes), 1,
                                   std::max<int64_t>(1, p.w.batch));
  p.image_bytes = AlignUp(p.together * wide_bytes);
  p.scale_bytes = AlignUp(std::max<int64_t>(1, p.w_scales) * 4);
  p.stage_bytes = AlignUp(p.pixels.StageFloats(p.block) * sizeof(float));
  p.pack_bytes = AlignUp(p.pixels.PackFloats(p.block) * sizeof(float));
  p.sum_bytes = quantized ? AlignUp(p.m * p.block * kPanel * 4) : 0;
  const size_t scratch = p.image_bytes + p.weight_bytes + p.scale_bytes +
                         p.piece_bytes() * std::max(1, request.threads);
  return MakeKernel(
      fmt::format("int8 conv as gemm {} 4x16, pixels {}", levels.ints.name, p.pixels.name()),
      [p = std::move(p)](const KernelArgs& args) { Run(p, args); }, scratch);
}

}  // namespace

BindResult ConvIntegerAvx2(const KernelRequest& r) {
  return Bind(r, {IntAvx2(), FilterAvx2()}, kConvInteger, false);
}
BindResult ConvIntegerPortable(const KernelRequest& r) {
  return Bind(r, {IntPortable(), FilterPortable()}, kConvInteger, false);
}
BindResult QLinearConvAvx2(const KernelRequest& r) {
  return Bind(r, {IntAvx2(), FilterAvx2()}, kQLinearConv, true);
}
BindResult QLinearConvPortable(const KernelRequest& r) {
  return Bind(r, {IntPortable(), FilterPortable()}, kQLinearConv, true);
}

}  // namespace minim
