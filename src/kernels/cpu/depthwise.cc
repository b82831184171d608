// FP32 depthwise convolution: every output channel has a filter of one plane.
#include <algorithm>

#include "kernels/cpu/activation.h"
#include "kernels/cpu/bindings.h"
#include "kernels/cpu/depthwise_rows.h"
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

struct PlaneOf {
  const float* image;
  PlaneFilter filter;
  float* dst;

  PlaneOf(const Plan& p, const KernelArgs& args, int64_t plane) {
    const int64_t index = plane % p.filters;
    const int64_t input = plane / p.filters * p.w.channels + index / p.multiplier;
    image = In<float>(args, 0) + input * p.w.in_size();
    dst = Out<float>(args, 0) + plane * p.w.out_size();
    filter = {.weights = In<float>(args, 1) + index * p.w.taps()};
    if (const float* bias = In<float>(args, 2)) filter.bias = bias[index];
    if (const float* residual = In<float>(args, 3))
      filter.residual = residual + plane * p.w.out_size();
    filter.low = p.activation.low(), filter.high = p.activation.high();
  }
};

void Finish(const Plan& p, float* dst) {
  const int64_t size = p.w.out_size();
  if (p.finisher) p.finisher->finish({.activation = p.activation}, 1, size, dst, size);
}

void RunPlane(const Plan& p, const KernelArgs& args, int64_t plane, float* staged) {
  const PlaneOf at(p, args, plane);
  PlaneFilter f = at.filter;
  ForEachPlaneBlock(p.w, p.stage, p.block, at.image, 0, staged, at.dst,
                    [&](const PlaneRows& rows, int64_t y) {
                      if (at.filter.residual) f.residual = at.filter.residual + y * p.w.out[2];
                      p.level->filter(rows, f);
                    });
  Finish(p, at.dst);
}

// What both ways share, but what holds a plane.
Status FillPlan(const KernelRequest& request, const GemmLevel& gemm, Plan* p) {
  MINIM_TRY(RequireInputs(request, 0, 4, DType::f32));
  MINIM_TRY(RequireOutputDims(request, 3));
  const Attributes& attributes = AttributesOf(request);
  const Dims &x = request.inputs[0].dims, &weights = request.inputs[1].dims;
  const int64_t groups = attributes.Int("group", 1);
  if (weights[1] != 1 || groups != x[1] || groups < 1 || weights[0] % groups != 0)
    return Unsupported("filters of {} channels in {} groups are not depthwise", weights[1], groups);
  if (weights[0] / groups >= kSharedPlane)
    return Unsupported("{} filters on a plane share its pixels in a product", weights[0] / groups);
  if (x.rank() > 4) return Unsupported("three spatial axes");
  p->filters = weights[0];
  p->multiplier = weights[0] / groups;
  MINIM_TRY(p->w, WindowOf(attributes, x, request.outputs[0].dims, weights.span().subspan(2)));
  MINIM_TRY(p->activation, ActivationOf(attributes));
  if (!p->activation.clamp()) p->finisher = &gemm;
  return {};
}

// run(plane, a thread's scratch) of all planes.
template <typename F>
void ForEachPlane(const Plan& p, const KernelArgs& args, F&& run) {
  RunUnits(args.threads, args.scratch, p.w.batch * p.filters, p.piece_bytes, std::forward<F>(run));
}

BindResult Bind(const KernelRequest& request, const PlaneLevel& level, const GemmLevel& gemm) {
  Plan p{.level = &level};
  MINIM_TRY(FillPlan(request, gemm, &p));
  p.stage = ImageStage(p.w, kPanel);
  p.block = PlaneBlock(p.stage, p.w.out[1]);
  p.piece_bytes = AlignUp(p.stage.FloatsFor(1, p.block) * sizeof(float));
  const size_t scratch = p.piece_bytes * std::max(1, request.threads);
  return MakeKernel(
      fmt::format("depthwise {}", level.name),
      [p = std::move(p)](const KernelArgs& args) {
        ForEachPlane(p, args,
                     [&](int64_t plane, float* staged) { RunPlane(p, args, plane, staged); });
      },
      scratch);
}

// Rows in place; its scratch is one of zeros for each thread.
BindResult BindRows(const KernelRequest& request, const GemmLevel& gemm) {
  Plan p;
  MINIM_TRY(FillPlan(request, gemm, &p));
  MINIM_TRY(DepthwiseRows rows, DepthwiseRowsOf(p.w, kPanel));
  p.piece_bytes = AlignUp(p.w.in[2] * sizeof(float));
  const size_t scratch = p.piece_bytes * std::max(1, request.threads);
  return MakeKernel(
      "depthwise avx512, rows in place",
      [p = std::move(p), rows = std::move(rows)](const KernelArgs& args) {
        ForEachPlane(p, args, [&](int64_t plane, float* zeros) {
          std::fill_n(zeros, p.w.in[2], 0.0f);
          const PlaneOf at(p, args, plane);
          FilterFloatsAvx512(rows, at.image, zeros, at.filter, at.dst);
          Finish(p, at.dst);
        });
      },
      scratch);
}

}  // namespace

BindResult DepthwiseAvx512(const KernelRequest& request) { return BindRows(request, GemmAvx512()); }
BindResult DepthwiseAvx2(const KernelRequest& request) {
  return Bind(request, PlanesAvx2(), GemmAvx2());
}
BindResult DepthwisePortable(const KernelRequest& request) {
  return Bind(request, PlanesPortable(), GemmPortable());
}

}  // namespace minim
