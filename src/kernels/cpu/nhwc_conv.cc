// NhwcFusedConv: a direct convolution in FP32, or of BF16 (nhwc_cuts.h).
#include "kernels/cpu/nhwc_conv.h"

#include <algorithm>

#include "kernels/cpu/bindings.h"

namespace minim {
namespace {

struct Plan {
  RunNhwcFloats run = nullptr;  // or RunNhwcHalves
  NhwcCuts cuts;
  int64_t element = 4;  // bytes of one of the image, the residual and the result
  DType bias = DType::f32;
  Activation activation;
  bool residual = false;
  std::shared_ptr<const std::byte> weights;

  size_t starts_bytes() const { return AlignUp(cuts.filled() * sizeof(float)); }
};

void Run(const Plan& p, const KernelArgs& args) {
  auto* starts = static_cast<float*>(args.scratch);
  FillStarts(In<void>(args, 2), p.bias, p.cuts.filters, p.cuts.filled(), starts);
  const auto* residual = p.residual ? static_cast<const std::byte*>(args.inputs[3]) : nullptr;
  p.cuts.ForEachPiece(
      args.threads, args.inputs[0], 0, static_cast<std::byte*>(args.scratch) + p.starts_bytes(),
      [&](const NhwcPiece& piece, int) {
        p.cuts.ForEachRun(piece, p.weights.get(), args.outputs[0], p.element,
                          [&](const NhwcRun& run, int64_t pixels, int64_t filter) {
                            const int64_t at = run.dst - static_cast<std::byte*>(args.outputs[0]);
                            p.run({run, starts + filter, residual ? residual + at : nullptr,
                                   p.activation.low(), p.activation.high()},
                                  pixels);
                          });
      });
}

Result<Plan> PlanOf(const KernelRequest& request, DType dtype) {
  MINIM_TRY(RequireInputs(request, 0, 4, dtype));
  MINIM_TRY(RequireOutputDims(request, 3));
  const auto element = static_cast<int64_t>(SizeOf(dtype));
  Plan p{.element = element, .bias = dtype, .residual = HasInput(request, 3)};
  const TensorDesc& w = request.inputs[1];
  if (w.constant == nullptr) return Unsupported("filters that are not constant");
  MINIM_TRY(p.activation, ActivationOf(AttributesOf(request)));
  if (!p.activation.clamp()) return Unsupported("an activation that is no clamp");
  const int64_t filters = w.dims[0], result = filters * element * (p.residual ? 2 : 1);
  MINIM_TRY(const Window window, NhwcWindowOf(request, w.dims));
  MINIM_TRY(p.cuts, NhwcCutsOf(window, filters, element,
                               NhwcStepOf(window, filters, element, result), request.threads));
  const NhwcFilters form(p.cuts, element);
  p.weights = request.packs->GetOrPack(
      w.ConstantView(), fmt::format("nhwc conv.{}", p.cuts.segments.size()),
      p.cuts.filled() * p.cuts.depth(), [&](std::byte* blob) { form.Pack(w.constant, blob); },
      [form](const std::byte* blob, void* source) { form.Unpack(blob, source); });
  return p;
}

BindResult Make(Plan p, int threads, std::string_view name) {
  const size_t scratch = p.starts_bytes() + AlignUp(p.cuts.stage_bytes()) * std::max(1, threads);
  std::string description = fmt::format("{}{}", name, p.cuts.staged ? ", images padded" : "");
  return MakeKernel(std::move(description),
                    [p = std::move(p)](const KernelArgs& args) { Run(p, args); }, scratch, {}, {1});
}

BindResult Bind(const KernelRequest& request, RunNhwcFloats run, std::string_view level) {
  MINIM_TRY(Plan p, PlanOf(request, DType::f32));
  p.run = run;
  return Make(std::move(p), request.threads, fmt::format("conv, channels last, {}", level));
}

BindResult Bind(const KernelRequest& request, const NhwcHalfLevel& level) {
  MINIM_TRY(Plan p, PlanOf(request, DType::bf16));
  p.run = level.run;
  p.cuts.joins_lines = level.joins_lines;
  p.cuts.release = level.release;
  return Make(std::move(p), request.threads,
              fmt::format("bf16 conv, channels last, {}", level.name));
}

}  // namespace

void FillStarts(const void* bias, DType dtype, int64_t count, int64_t filled, float* starts) {
  if (bias) ConvertElements({bias, dtype, Dims{count}}, {starts, DType::f32, Dims{count}});
  std::fill(starts + (bias ? count : 0), starts + filled, 0.0f);
}

void RunNhwcFloatsPortable(const NhwcFloats& floats, int64_t pixels) {
  const NhwcRun& t = floats.run;
  const int64_t width = PanelsOf(t.filters) * kPanel;
  for (int64_t i = 0; i < pixels; ++i) {
    const std::byte* pixel = t.image + (t.offsets ? t.offsets[i] : i * t.pixel_step);
    float sum[kFilterGroup];
    std::copy_n(floats.starts, width, sum);
    const auto* w = reinterpret_cast<const float*>(t.weights);
    for (int64_t s = 0; s < t.segment_count; ++s) {
      const auto* x = reinterpret_cast<const float*>(pixel + t.segments[s]);
      for (int64_t k = 0; k < t.quads; ++k, w += width)
        for (int64_t f = 0; f < width; ++f) sum[f] += x[k] * w[f];
    }
    auto* dst = reinterpret_cast<float*>(t.dst + i * t.dst_step);
    const auto* residual = reinterpret_cast<const float*>(
        floats.residual ? floats.residual + i * t.dst_step : nullptr);
    for (int64_t f = 0; f < t.filters; ++f) {
      const float y = residual ? sum[f] + residual[f] : sum[f];
      dst[f] = y < floats.low ? floats.low : (y > floats.high ? floats.high : y);
    }
  }
}

BindResult NhwcFusedConvPortable(const KernelRequest& request) {
  return Bind(request, RunNhwcFloatsPortable, "portable");
}
BindResult NhwcFusedConvAvx512(const KernelRequest& request) {
  return Bind(request, RunNhwcFloatsAvx512, "avx512 6x64");
}
BindResult NhwcFusedConvBf16(const KernelRequest& request) { return Bind(request, NhwcHalfBf16()); }
BindResult NhwcFusedConvAmx(const KernelRequest& request) { return Bind(request, NhwcHalfAmx()); }

}  // namespace minim
