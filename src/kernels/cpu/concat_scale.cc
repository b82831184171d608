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

template <typename T>
struct Plan {
  ScaleChannels<T> scale = nullptr;
  std::vector<int64_t> channels;  // of each image
  int64_t pixels = 0, all = 0;    // channels of all
  float low = -std::numeric_limits<float>::infinity();
};

template <typename T>
void RunPixels(const Plan<T>& p, const KernelArgs& args, int64_t first, int64_t last) {
  const auto *scale = In<float>(args, 0), *shift = In<float>(args, 1);
  const int64_t block =
      std::max<int64_t>(1, kBlockBytes / (p.all * static_cast<int64_t>(sizeof(T))));
  for (; first < last; first += block) {
    int64_t c = 0;
    for (size_t i = 0; i < p.channels.size(); c += p.channels[i++])
      p.scale(In<T>(args, kImages + i) + first * p.channels[i], scale + c, shift + c, p.low,
              p.channels[i], std::min(block, last - first), p.all,
              Out<T>(args, 0) + first * p.all + c);
  }
}

template <typename T>
BindResult Make(const KernelRequest& request, ScaleChannels<T> scale, std::string_view level) {
  Plan<T> p{.scale = scale};
  MINIM_TRY(RequireInputs(request, kImages, request.inputs.size(), kDTypeOf<T>));
  for (const TensorDesc& image : request.inputs.subspan(kImages))
    p.channels.push_back(image.dims[image.dims.rank() - 1]);
  const Dims& y = request.outputs[0].dims;
  p.all = y[y.rank() - 1];
  p.pixels = p.all == 0 ? 0 : y.Elements() / p.all;
  if (AttributesOf(request).String("activation", "") == "Relu") p.low = 0;
  const std::string name =
      fmt::format("{} images scaled, channels last, {}", p.channels.size(), level);
  return MakeKernel(name, [p = std::move(p)](const KernelArgs& args) {
    const int64_t grain = kGrain / std::max<int64_t>(1, p.all) + 1;
    args.threads.ParallelRange(
        p.pixels, grain, [&](int64_t first, int64_t last) { RunPixels(p, args, first, last); });
  });
}

BindResult Bind(const KernelRequest& request, const ConcatScaleLevel& level) {
  if (request.inputs[kImages].dtype == DType::bf16) return Make(request, level.bf16, level.name);
  return Make(request, level.f32, level.name);
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
