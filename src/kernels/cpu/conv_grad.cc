// Gradients of convolution, and ConvTranspose, which is the input gradient with a bias. Work is
// cut so that every element is summed by one thread in a fixed order.
#include <algorithm>

#include "kernels/cpu/bindings.h"
#include "kernels/cpu/image_pack.h"

namespace minim {
namespace {

constexpr int64_t kColumnBytes = 1 << 20;
constexpr int64_t kPixelBlock = 2048;

struct Plan {
  Window w;
  const GemmLevel* level = nullptr;
  int64_t groups = 1, m = 1, channels = 1;  // m: channels of dY per group
  int64_t block = 1;                        // channels per unit of work
  bool bias = false;
  size_t piece_bytes = 0;
};

Result<Plan> PlanOf(const KernelRequest& request, const Window& window, const Dims& weights,
                    const GemmLevel& level) {
  Plan p{.w = window, .level = &level};
  p.groups = AttributesOf(request).Int("group", 1);
  if (p.groups < 1 || weights[0] % p.groups != 0 || weights[1] * p.groups != window.channels)
    return Unsupported("weights {} do not fit {} image channels in {} groups", weights.ToString(),
                       window.channels, p.groups);
  p.m = weights[0] / p.groups;
  p.channels = weights[1];
  return p;
}

// dX channels [c, c + block) of one image and group: columns = W^T dY, added back to the image.
void InputGradUnit(const Plan& p, const KernelArgs& args, int64_t unit, float* columns) {
  const int64_t blocks = (p.channels + p.block - 1) / p.block;
  const int64_t image = unit / (blocks * p.groups), group = unit / blocks % p.groups;
  const int64_t first = unit % blocks * p.block;
  const int64_t count = std::min(p.channels - first, p.block);
  const int64_t taps = p.w.taps(), pixels = p.w.out_size(), plane = p.w.in_size();
  const int64_t k = p.channels * taps;
  p.level->multiply({.m = count * taps,
                     .n = pixels,
                     .k = p.m,
                     .a = In<float>(args, 1) + group * p.m * k + first * taps,
                     .a_row = 1,
                     .a_column = k,
                     .b = In<float>(args, 0) + (image * p.groups + group) * p.m * pixels,
                     .b_row = pixels,
                     .c = columns,
                     .c_row = pixels});
  const int64_t channel = group * p.channels + first;
  float* dst = Out<float>(args, 0) + (image * p.w.channels + channel) * plane;
  for (int64_t c = 0; c < count; ++c)
    std::fill_n(dst + c * plane, plane, p.bias ? In<float>(args, 2)[channel + c] : 0.0f);
  AddColumns(p.w, columns, count, dst);
}

BindResult MakeInputGrad(const KernelRequest& request, Plan p, std::string_view name) {
  const int64_t channel_bytes = p.w.taps() * p.w.out_size() * static_cast<int64_t>(sizeof(float));
  p.block = std::clamp<int64_t>(kColumnBytes / std::max<int64_t>(1, channel_bytes), 1,
                                std::max<int64_t>(1, p.channels));
  p.piece_bytes = AlignUp(p.block * channel_bytes);
  return MakeKernel(
      fmt::format("{} as gemm {}", name, p.level->name),
      [p](const KernelArgs& args) {
        const int64_t blocks = (p.channels + p.block - 1) / p.block;
        RunUnits(args.threads, args.scratch, p.w.batch * p.groups * blocks, p.piece_bytes,
                 [&](int64_t unit, float* scratch) { InputGradUnit(p, args, unit, scratch); });
      },
      p.piece_bytes * std::max(1, request.threads));
}

BindResult BindInputGrad(const KernelRequest& request, const GemmLevel& level) {
  MINIM_TRY(RequireInputs(request, 0, 2, DType::f32));
  const Dims& weights = request.inputs[1].dims;
  MINIM_TRY(const Window w, WindowOf(AttributesOf(request), request.outputs[0].dims,
                                     request.inputs[0].dims, weights.span().subspan(2)));
  MINIM_TRY(Plan p, PlanOf(request, w, weights, level));
  return MakeInputGrad(request, p, "conv input gradient");
}

// ONNX gives an output_shape or an automatic pad the right to choose the padding.
void FillTransposePads(const Attributes& attributes, Window* w) {
  const std::string mode = attributes.String("auto_pad", "NOTSET");
  const bool automatic = mode == "SAME_UPPER" || mode == "SAME_LOWER";
  if (!automatic && attributes.Ints("output_shape").empty()) return;
  const std::vector<int64_t> extra = attributes.Ints("output_padding");
  for (int i = 0; i < 3; ++i) {
    const int at = i - (3 - static_cast<int>(extra.size()));
    const int64_t reach = (w->kernel[i] - 1) * w->dilation[i] + 1;
    const int64_t total = std::max<int64_t>(
        0, w->stride[i] * (w->out[i] - 1) + (at >= 0 ? extra[at] : 0) + reach - w->in[i]);
    w->begin[i] = mode == "SAME_UPPER" ? total / 2 : total - total / 2;
  }
}

BindResult BindTranspose(const KernelRequest& request, const GemmLevel& level) {
  MINIM_TRY(RequireInputs(request, 0, 3, DType::f32));
  const Dims& weights = request.inputs[1].dims;
  const Attributes& attributes = AttributesOf(request);
  MINIM_TRY(Window w, WindowOf(attributes, request.outputs[0].dims, request.inputs[0].dims,
                               weights.span().subspan(2)));
  FillTransposePads(attributes, &w);
  MINIM_TRY(Plan p, PlanOf(request, w, weights, level));
  p.bias = HasInput(request, 2);
  return MakeInputGrad(request, p, "transposed conv");
}

// Sixteen (channel, tap) columns of one group's dW, over all images and pixels.
void WeightGradUnit(const Plan& p, const KernelArgs& args, int64_t unit, float* pack) {
  const int64_t k = p.channels * p.w.taps(), panels = PanelsOf(k);
  const int64_t group = unit / panels, column = unit % panels * kPanel;
  const int64_t pixels = p.w.out_size();
  bool accumulate = false;
  for (int64_t image = 0; image < p.w.batch; ++image) {
    const int64_t at = image * p.groups + group;
    const float* dy = In<float>(args, 0) + at * p.m * pixels;
    const float* x = In<float>(args, 1) + at * p.channels * p.w.in_size();
    for (int64_t first = 0; first < pixels; first += kPixelBlock) {
      const int64_t count = std::min(kPixelBlock, pixels - first);
      PackTaps(p.w, x, p.channels, column, first, count, pack);
      p.level->multiply({.m = p.m,
                         .n = std::min(kPanel, k - column),
                         .k = count,
                         .a = dy + first,
                         .a_row = pixels,
                         .packed = pack,
                         .c = Out<float>(args, 0) + group * p.m * k + column,
                         .c_row = k,
                         .accumulate = accumulate});
      accumulate = true;
    }
  }
}

BindResult BindWeightGrad(const KernelRequest& request, const GemmLevel& level) {
  MINIM_TRY(RequireInputs(request, 0, 2, DType::f32));
  const Dims& weights = request.outputs[0].dims;
  MINIM_TRY(const Window w, WindowOf(AttributesOf(request), request.inputs[1].dims,
                                     request.inputs[0].dims, weights.span().subspan(2)));
  MINIM_TRY(Plan p, PlanOf(request, w, weights, level));
  p.piece_bytes = AlignUp(std::min(kPixelBlock, w.out_size()) * kPanel * sizeof(float));
  const int64_t outputs = weights.Elements();
  return MakeKernel(
      fmt::format("conv weight gradient as gemm {}", level.name),
      [p, outputs](const KernelArgs& args) {
        if (p.w.batch * p.w.out_size() == 0) {
          std::fill_n(Out<float>(args, 0), outputs, 0.0f);
          return;
        }
        RunUnits(args.threads, args.scratch, p.groups * PanelsOf(p.channels * p.w.taps()),
                 p.piece_bytes,
                 [&](int64_t unit, float* scratch) { WeightGradUnit(p, args, unit, scratch); });
      },
      p.piece_bytes * std::max(1, request.threads));
}

}  // namespace

BindResult ConvInputGradAvx2(const KernelRequest& request) {
  return BindInputGrad(request, GemmAvx2());
}
BindResult ConvInputGradPortable(const KernelRequest& request) {
  return BindInputGrad(request, GemmPortable());
}
BindResult ConvWeightGradAvx2(const KernelRequest& request) {
  return BindWeightGrad(request, GemmAvx2());
}
BindResult ConvWeightGradPortable(const KernelRequest& request) {
  return BindWeightGrad(request, GemmPortable());
}
BindResult ConvTransposeAvx512(const KernelRequest& request) {
  return BindTranspose(request, GemmAvx512());
}
BindResult ConvTransposeAvx2(const KernelRequest& request) {
  return BindTranspose(request, GemmAvx2());
}
BindResult ConvTransposePortable(const KernelRequest& request) {
  return BindTranspose(request, GemmPortable());
}

}  // namespace minim
