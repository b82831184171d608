// NhwcFusedConv with a filter of one plane for each channel.
#include "kernels/cpu/nhwc_depthwise.h"

#include <algorithm>

#include "kernels/cpu/activation.h"
#include "kernels/cpu/bindings.h"
#include "kernels/cpu/nhwc_conv.h"

namespace minim {
namespace {

constexpr int64_t kMostTaps = 64;

template <typename T>
struct Plan {
  void (*sum)(const NhwcDepthwisePixel<T>& pixel) = nullptr;
  Window w;
  Activation activation;
  bool residual = false;
  std::shared_ptr<const std::byte> weights;  // FP32, a tap's channels side by side
};

template <typename T>
void RunPixel(const Plan<T>& p, const T* image, int64_t y, int64_t x, NhwcDepthwisePixel<T> pixel) {
  const Window& w = p.w;
  const auto* weights = reinterpret_cast<const float*>(p.weights.get());
  const T* taps[kMostTaps];
  const float* rows[kMostTaps];
  for (int64_t i = 0; i < w.kernel[1]; ++i) {
    const int64_t row = y * w.stride[1] - w.begin[1] + i * w.dilation[1];
    if (row < 0 || row >= w.in[1]) continue;
    for (int64_t k = 0; k < w.kernel[2]; ++k) {
      const int64_t column = x * w.stride[2] - w.begin[2] + k * w.dilation[2];
      if (column < 0 || column >= w.in[2]) continue;
      taps[pixel.count] = image + (row * w.in[2] + column) * w.channels;
      rows[pixel.count++] = weights + (i * w.kernel[2] + k) * w.channels;
    }
  }
  pixel.taps = taps;
  pixel.weights = rows;
  p.sum(pixel);
}

template <typename T>
void Run(const Plan<T>& p, const KernelArgs& args) {
  const Window& w = p.w;
  auto* starts = static_cast<float*>(args.scratch);
  FillStarts(In<void>(args, 2), kDTypeOf<T>, w.channels, w.channels, starts);
  const int64_t lines = w.batch * w.out[1];
  const int pieces = static_cast<int>(std::min<int64_t>(lines, std::max(1, args.threads.threads)));
  args.threads.ParallelFor(pieces, [&](int piece) {
    for (int64_t line = lines * piece / pieces; line < lines * (piece + 1) / pieces; ++line) {
      const T* image = In<T>(args, 0) + line / w.out[1] * w.in_size() * w.channels;
      for (int64_t x = 0; x < w.out[2]; ++x) {
        const int64_t at = (line * w.out[2] + x) * w.channels;
        RunPixel(p, image, line % w.out[1], x,
                 {.channels = w.channels,
                  .starts = starts,
                  .residual = p.residual ? In<T>(args, 3) + at : nullptr,
                  .low = p.activation.low(),
                  .high = p.activation.high(),
                  .dst = Out<T>(args, 0) + at});
      }
    }
  });
}

template <typename T>
BindResult Make(const KernelRequest& request, void (*sum)(const NhwcDepthwisePixel<T>&),
                std::string_view level) {
  MINIM_TRY(RequireInputs(request, 0, 4, kDTypeOf<T>));
  MINIM_TRY(RequireOutputDims(request, 3));
  const TensorDesc &x = request.inputs[0], &filters = request.inputs[1];
  const Attributes& attributes = AttributesOf(request);
  if (x.dims.rank() != 4) return Unsupported("an image of rank {}", x.dims.rank());
  Plan<T> p{.sum = sum, .residual = HasInput(request, 3)};
  const int64_t channels = x.dims[3];
  if (filters.dims[1] != 1 || filters.dims[0] != channels || attributes.Int("group", 1) != channels)
    return Unsupported("filters that are not one plane for each channel");
  if (filters.constant == nullptr) return Unsupported("filters that are not constant");
  MINIM_TRY(p.activation, ActivationOf(attributes));
  if (!p.activation.clamp()) return Unsupported("an activation that is no clamp");
  MINIM_TRY(p.w, WindowOf(attributes, ChannelsFirst(x.dims), ChannelsFirst(request.outputs[0].dims),
                          filters.dims.span().subspan(2)));
  const int64_t taps = p.w.taps();
  if (taps > kMostTaps) return Unsupported("filters of {} taps", taps);
  const ConstView source = filters.ConstantView();
  p.weights = request.packs->GetOrPack(
      source, "nhwc depthwise", static_cast<size_t>(taps * channels) * sizeof(float),
      [&](std::byte* blob) {
        const Tensor wide = Converted(source, DType::f32);
        auto* to = reinterpret_cast<float*>(blob);
        for (int64_t c = 0; c < channels; ++c)
          for (int64_t i = 0; i < taps; ++i)
            to[i * channels + c] = wide.template as<float>()[c * taps + i];
      });
  return MakeKernel(fmt::format("depthwise, channels last, {}", level),
                    [p = std::move(p)](const KernelArgs& args) { Run(p, args); },
                    AlignUp(static_cast<size_t>(channels) * sizeof(float)), {}, {1});
}

BindResult Bind(const KernelRequest& request, const NhwcDepthwiseLevel& level) {
  if (request.inputs[0].dtype == DType::bf16) return Make(request, level.bf16, level.name);
  return Make(request, level.f32, level.name);
}

}  // namespace

BindResult NhwcDepthwiseAvx512(const KernelRequest& request) {
  return Bind(request, NhwcDepthwisesAvx512());
}
BindResult NhwcDepthwisePortable(const KernelRequest& request) {
  return Bind(request, NhwcDepthwisesPortable());
}

}  // namespace minim
