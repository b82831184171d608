// ConcatScale: blocks of pixels, of which each image's channels are scaled, shifted and rectified
// on their way into the result.
#include "kernels/cpu/concat_scale.h"

#include <algorithm>
#include <limits>

#include "kernels/cpu/bindings.h"

namespace minim {
namespace {

constexpr size_t kImages = 2;           // the first one's place among the inputs
constexpr int64_t kGrain = 4096;        // elements worth another thread
constexpr int64_t kBlockBytes = 16384;  // of the result, which leave L1 room for what is read

struct Image {
  DType dtype = DType::f32;
  int64_t channels = 0;
  float scale = 1;  // of bytes
  int32_t zero = 0;
};

struct Plan {
  ConcatScaleLevel level;
  std::vector<Image> images;
  DType dtype = DType::f32;          // of the result
  int64_t pixels = 0, channels = 0;  // of the result
  float low = -std::numeric_limits<float>::infinity();
  float y_scale = 1;
  int32_t y_zero = 0;
};

// Pixels [first, first + pixels) of image `i`, whose channels are the result's from c on.
template <typename X, typename Y>
void RunPart(const Plan& p, ScalePart<X, Y> scale, const KernelArgs& args, size_t i, int64_t c,
             int64_t first, int64_t pixels) {
  const Image& image = p.images[i];
  scale({.x = In<X>(args, kImages + i) + first * image.channels,
         .y = Out<Y>(args, 0) + first * p.channels + c,
         .scale = In<float>(args, 0) + c,
         .shift = In<float>(args, 1) + c,
         .channels = image.channels,
         .pixels = pixels,
         .stride = p.channels,
         .low = p.low,
         .x_scale = image.scale,
         .x_zero = image.zero,
         .y_scale = p.y_scale,
         .y_zero = p.y_zero});
}

void RunPixels(const Plan& p, const KernelArgs& args, int64_t first, int64_t last) {
  const int64_t bytes = p.channels * static_cast<int64_t>(SizeOf(p.dtype));
  const int64_t block = std::max<int64_t>(1, kBlockBytes / bytes);
  for (; first < last; first += block) {
    int64_t c = 0;
    for (size_t i = 0; i < p.images.size(); c += p.images[i++].channels) {
      const auto run = [&](auto scale) {
        RunPart(p, scale, args, i, c, first, std::min(block, last - first));
      };
      const bool bytes_in = p.images[i].dtype == DType::u8;
      if (p.dtype == DType::bf16)
        run(p.level.bf16);
      else if (p.dtype == DType::u8)
        bytes_in ? run(p.level.u8) : run(p.level.f32_u8);
      else
        bytes_in ? run(p.level.u8_f32) : run(p.level.f32);
    }
  }
}

BindResult Bind(const KernelRequest& request, const ConcatScaleLevel& level) {
  Plan p{.level = level, .dtype = request.outputs[0].dtype};
  MINIM_TRY(RequireInputs(request, 0, kImages, DType::f32));
  const Attributes& attributes = AttributesOf(request);
  const std::vector<float> scales = attributes.Floats("x_scales");
  const std::vector<int64_t> zeros = attributes.Ints("x_zero_points");
  for (size_t i = 0; i + kImages < request.inputs.size(); ++i) {
    const TensorDesc& x = request.inputs[i + kImages];
    const bool fits = p.dtype == DType::bf16 ? x.dtype == DType::bf16
                                             : x.dtype == DType::f32 || x.dtype == DType::u8;
    if (!fits) return Unsupported("{} to {}", Name(x.dtype), Name(p.dtype));
    p.images.push_back({x.dtype, x.dims[x.dims.rank() - 1]});
    if (x.dtype != DType::u8) continue;
    p.images.back().scale = scales[i];
    p.images.back().zero = static_cast<int32_t>(zeros[i]);
  }
  p.y_scale = attributes.Float("y_scale", 1);
  p.y_zero = static_cast<int32_t>(attributes.Int("y_zero_point", 0));
  if (!level.divides && !(p.y_scale > 1e-20f && p.y_scale < 1e30f))
    return Unsupported("y_scale {}", p.y_scale);
  const Dims& y = request.outputs[0].dims;
  p.channels = y[y.rank() - 1];
  p.pixels = p.channels == 0 ? 0 : y.Elements() / p.channels;
  if (attributes.String("activation", "") == "Relu") p.low = 0;
  const std::string name =
      fmt::format("{} images scaled, channels last, {}", p.images.size(), level.name);
  return MakeKernel(name, [p = std::move(p)](const KernelArgs& args) {
    const int64_t grain = kGrain / std::max<int64_t>(1, p.channels) + 1;
    args.threads.ParallelRange(
        p.pixels, grain, [&](int64_t first, int64_t last) { RunPixels(p, args, first, last); });
  });
}

}  // namespace

BindResult ConcatScaleBf16(const KernelRequest& request) {
  return Bind(request, ConcatScalesBf16());
}
BindResult ConcatScaleAvx512(const KernelRequest& request) {
  return Bind(request, ConcatScalesAvx512());
}
BindResult ConcatScalePortable(const KernelRequest& request) {
  return Bind(request, ConcatScalesPortable());
}

}  // namespace minim
