// FP32 convolution as a matrix product whose right side is packed straight from the image.
#include <algorithm>

#include "kernels/cpu/bindings.h"
#include "kernels/cpu/image_pack.h"

namespace minim {
namespace {

constexpr int64_t kPackBytes = 256 << 10;  // of packed pixels at a time

struct Plan {
  Window w;
  const GemmLevel* level = nullptr;
  int64_t groups = 1, m = 1, k = 1;  // m, k: per group
  int64_t channels = 1;              // per group, of the image
  int64_t panels = 1, block = 1;     // panels in all, and per block
  Activation activation;
  bool bias = false, residual = false;
  size_t piece_bytes = 0;
};

void RunBlock(const Plan& p, const KernelArgs& args, int64_t unit, float* pack) {
  const int64_t blocks = (p.panels + p.block - 1) / p.block;
  const int64_t image = unit / (blocks * p.groups), group = unit / blocks % p.groups;
  const int64_t first = unit % blocks * p.block, last = std::min(p.panels, first + p.block);
  const int64_t pixels = p.w.out_size(), plane = p.w.in_size();
  const float* src = In<float>(args, 0) + (image * p.groups + group) * p.channels * plane;
  PackPixels<float>(p.w, src, p.channels, first, last, 0, pack);
  const int64_t at = ((image * p.groups + group) * p.m) * pixels + first * kPanel;
  Epilogue epilogue{.activation = p.activation};
  if (p.bias) epilogue.row_bias = In<float>(args, 2) + group * p.m;
  if (p.residual) epilogue.residual = In<float>(args, 3) + at, epilogue.residual_stride = pixels;
  p.level->multiply({.m = p.m,
                     .n = std::min(last * kPanel, pixels) - first * kPanel,
                     .k = p.k,
                     .a = In<float>(args, 1) + group * p.m * p.k,
                     .a_row = p.k,
                     .packed = pack,
                     .c = Out<float>(args, 0) + at,
                     .c_row = pixels,
                     .epilogue = &epilogue});
}

BindResult Bind(const KernelRequest& request, const GemmLevel& level) {
  MINIM_TRY(RequireRowMajor(request));
  MINIM_TRY(RequireInputs(request, 0, 4, DType::f32));
  const Attributes& attributes = AttributesOf(request);
  const Dims &x = request.inputs[0].dims, &weights = request.inputs[1].dims;
  Plan p{.level = &level};
  MINIM_TRY(p.w, WindowOf(attributes, x, request.outputs[0].dims, weights.span().subspan(2)));
  p.groups = attributes.Int("group", 1);
  if (p.groups < 1 || weights[0] % p.groups != 0 || weights[1] * p.groups != x[1])
    return Unsupported("weights {} do not fit image {} in {} groups", weights.ToString(),
                       x.ToString(), p.groups);
  p.m = weights[0] / p.groups;
  p.channels = weights[1];
  p.k = p.channels * p.w.taps();
  p.panels = PanelsOf(p.w.out_size());
  const int64_t fit = std::max<int64_t>(1, kPackBytes / std::max<int64_t>(1, p.k * kPanel * 4));
  // Several blocks per thread, so that batch 1 still splits.
  const int64_t share = (p.panels + request.threads - 1) / std::max(1, request.threads);
  p.block = std::clamp<int64_t>(std::min(fit, share), 1, std::max<int64_t>(1, p.panels));
  MINIM_TRY(p.activation, ActivationOf(attributes));
  p.bias = HasInput(request, 2);
  p.residual = HasInput(request, 3);
  p.piece_bytes = AlignUp(p.block * p.k * kPanel * sizeof(float));
  const size_t scratch = p.piece_bytes * std::max(1, request.threads);
  return MakeKernel(
      fmt::format("conv as gemm {} 6x16", level.name),
      [p](const KernelArgs& args) {
        const int64_t blocks = (p.panels + p.block - 1) / p.block;
        const int64_t units = p.w.batch * p.groups * blocks;
        const int pieces = static_cast<int>(std::min<int64_t>(units, args.threads.threads));
        args.threads.ParallelFor(pieces, [&](int i) {
          auto* pack =
              reinterpret_cast<float*>(static_cast<std::byte*>(args.scratch) + i * p.piece_bytes);
          for (int64_t unit = units * i / pieces; unit < units * (i + 1) / pieces; ++unit)
            RunBlock(p, args, unit, pack);
        });
      },
      scratch);
}

}  // namespace

BindResult ConvAvx2(const KernelRequest& request) { return Bind(request, GemmAvx2()); }
BindResult ConvPortable(const KernelRequest& request) { return Bind(request, GemmPortable()); }

}  // namespace minim
