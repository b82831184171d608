// The input gradient of a convolution of stride 1 is a convolution: of the gradient with the
// filters turned around, channels for filters.
#include "kernels/cpu/bindings.h"
#include "kernels/cpu/window.h"

namespace minim {
namespace {

struct Filters {
  int64_t groups = 1, m = 1, channels = 1, taps = 1;  // m, channels: per group

  size_t bytes() const { return AlignUp(groups * m * channels * taps * sizeof(float)); }
};

// [groups * m, channels, taps] to [groups * channels, m, taps], the taps from the last to the
// first.
void Turn(const Filters& f, const float* filters, const ThreadBudget& threads, float* turned) {
  threads.ParallelRange(f.groups * f.channels, 16, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      const int64_t group = i / f.channels, channel = i % f.channels;
      float* dst = turned + i * f.m * f.taps;
      for (int64_t row = 0; row < f.m; ++row) {
        const float* src = filters + ((group * f.m + row) * f.channels + channel) * f.taps;
        for (int64_t t = f.taps; t-- > 0;) *dst++ = src[t];
      }
    }
  });
}

using Bind = BindResult (*)(const KernelRequest&);

// The first of the forward convolution's kernels that fits.
BindResult BindForward(const KernelRequest& request, std::span<const Bind> kernels) {
  MINIM_TRY(RequireInputs(request, 0, 2, DType::f32));
  const Dims &dy = request.inputs[0].dims, &weights = request.inputs[1].dims;
  const Dims& dx = request.outputs[0].dims;
  MINIM_TRY(const Window w, WindowOf(AttributesOf(request), dx, dy, weights.span().subspan(2)));
  Filters f{.taps = w.taps()};
  MINIM_TRY(f.groups, GroupsOf(AttributesOf(request), dx, weights));
  f.m = weights[0] / f.groups;
  f.channels = weights[1];
  const int axes = weights.rank() - 2;
  std::vector<int64_t> pads(2 * axes), dilations(axes);
  for (int i = 0; i < axes; ++i) {
    const int axis = 3 - axes + i;
    if (w.stride[axis] != 1) return Unsupported("a stride of {}", w.stride[axis]);
    dilations[i] = w.dilation[axis];
    pads[i] = (w.kernel[axis] - 1) * w.dilation[axis] - w.begin[axis];
    pads[axes + i] = w.in[axis] - w.out[axis] + w.begin[axis];
    if (pads[i] < 0 || pads[axes + i] < 0) return Unsupported("padding wider than the kernel");
  }
  const Attributes attributes{{"group", f.groups}, {"dilations", dilations}, {"pads", pads}};
  std::vector<TensorDesc> inputs = {request.inputs[0], request.inputs[1]};
  inputs[1].constant = nullptr;
  inputs[1].dims[0] = f.groups * f.channels;
  inputs[1].dims[1] = f.m;
  KernelRequest forward = request;
  forward.op = "Conv";
  forward.attributes = &attributes;
  forward.inputs = inputs;
  std::shared_ptr<const Kernel> conv;
  for (const Bind bind : kernels) {
    BindResult bound = bind(forward);
    if (!bound.ok()) continue;
    conv = std::move(*bound);
    break;
  }
  if (conv == nullptr) return Unsupported("no convolution fits");
  return MakeKernel(
      fmt::format("conv input gradient as {}", conv->Describe()),
      [f, conv](const KernelArgs& args) {
        auto* turned = static_cast<float*>(args.scratch);
        Turn(f, In<float>(args, 1), args.threads, turned);
        const void* in[] = {args.inputs[0], turned};
        conv->Run(
            {in, args.outputs, static_cast<std::byte*>(args.scratch) + f.bytes(), args.threads});
      },
      f.bytes() + conv->scratch_bytes());
}

}  // namespace

BindResult ConvInputGradForwardAvx512(const KernelRequest& request) {
  static constexpr Bind kKernels[] = {DepthwiseAvx2, WinogradAvx512, ConvAvx512};
  return BindForward(request, kKernels);
}
BindResult ConvInputGradForwardAvx2(const KernelRequest& request) {
  static constexpr Bind kKernels[] = {DepthwiseAvx2, WinogradAvx2, ConvAvx2};
  return BindForward(request, kKernels);
}
BindResult ConvInputGradForwardPortable(const KernelRequest& request) {
  static constexpr Bind kKernels[] = {DepthwisePortable, WinogradPortable, ConvPortable};
  return BindForward(request, kKernels);
}

}  // namespace minim
