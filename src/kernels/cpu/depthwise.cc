// FP32 depthwise convolution: every output channel has a filter of one plane.
#include <algorithm>

#include "kernels/cpu/activation.h"
#include "kernels/cpu/bindings.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/plane_window.h"

namespace minim {
namespace {

struct Plan {
  Window w;
  ImageStage stage;
  const PlaneLevel* level = nullptr;
  const GemmLevel* finisher = nullptr;  // of activations that are no clamp
  int64_t filters = 1, multiplier = 1;  // in all, and on one plane
  int64_t block = 1;                    // output rows staged together
  Activation activation;
  size_t piece_bytes = 0;
};

void RunPlane(const Plan& p, const KernelArgs& args, int64_t plane, float* staged) {
  const int64_t size = p.w.out_size(), filter = plane % p.filters;
  const int64_t input = plane / p.filters * p.w.channels + filter / p.multiplier;
  const float* bias = In<float>(args, 2);
  const float* residual = In<float>(args, 3);
  PlaneFilter f{.weights = In<float>(args, 1) + filter * p.w.taps()};
  if (bias) f.bias = bias[filter];
  f.low = p.activation.low(), f.high = p.activation.high();
  float* dst = Out<float>(args, 0) + plane * size;
  ForEachPlaneBlock(p.w, p.stage, p.block, In<float>(args, 0) + input * p.w.in_size(), 0, staged,
                    dst, [&](const PlaneRows& rows, int64_t y) {
                      if (residual) f.residual = residual + plane * size + y * p.w.out[2];
                      p.level->filter(rows, f);
                    });
  if (p.finisher) p.finisher->finish({.activation = p.activation}, 1, size, dst, size);
}

BindResult Bind(const KernelRequest& request, const PlaneLevel& level, const GemmLevel& gemm) {
  MINIM_TRY(RequireInputs(request, 0, 4, DType::f32));
  MINIM_TRY(RequireOutputDims(request, 3));
  const Attributes& attributes = AttributesOf(request);
  const Dims &x = request.inputs[0].dims, &weights = request.inputs[1].dims;
  const int64_t groups = attributes.Int("group", 1);
  if (weights[1] != 1 || groups != x[1] || groups < 1 || weights[0] % groups != 0)
    return Unsupported("filters of {} channels in {} groups are not depthwise", weights[1], groups);
  if (weights[0] / groups >= kSharedPlane)
    return Unsupported("{} filters on a plane share its pixels in a product", weights[0] / groups);
  Plan p{.level = &level, .filters = weights[0], .multiplier = weights[0] / groups};
  MINIM_TRY(p.w, WindowOf(attributes, x, request.outputs[0].dims, weights.span().subspan(2)));
  if (x.rank() > 4) return Unsupported("three spatial axes");
  p.stage = ImageStage(p.w, kPanel);
  p.block = PlaneBlock(p.stage, p.w.out[1]);
  MINIM_TRY(p.activation, ActivationOf(attributes));
  if (!p.activation.clamp()) p.finisher = &gemm;
  p.piece_bytes = AlignUp(p.stage.FloatsFor(1, p.block) * sizeof(float));
  const size_t scratch = p.piece_bytes * std::max(1, request.threads);
  return MakeKernel(
      fmt::format("depthwise {}", level.name),
      [p = std::move(p)](const KernelArgs& args) {
        const int64_t planes = p.w.batch * p.filters;
        const int pieces = static_cast<int>(std::min<int64_t>(planes, args.threads.threads));
        args.threads.ParallelFor(pieces, [&](int i) {
          auto* staged =
              reinterpret_cast<float*>(static_cast<std::byte*>(args.scratch) + i * p.piece_bytes);
          for (int64_t plane = planes * i / pieces; plane < planes * (i + 1) / pieces; ++plane)
            RunPlane(p, args, plane, staged);
        });
      },
      scratch);
}

}  // namespace

BindResult DepthwiseAvx2(const KernelRequest& request) {
  return Bind(request, PlanesAvx2(), GemmAvx2());
}
BindResult DepthwisePortable(const KernelRequest& request) {
  return Bind(request, PlanesPortable(), GemmPortable());
}

}  // namespace minim
