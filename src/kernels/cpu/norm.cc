// Softmax, LogSoftmax, and the normalizations: layer, batch, instance, LRN.
#include <algorithm>
#include <cmath>

#include "kernels/cpu/bindings.h"
#include "kernels/cpu/rows.h"

namespace minim {
namespace {

// [outer, n, inner] around one axis.
struct AxisSplit {
  int64_t outer, n, inner;
};
AxisSplit SplitAt(const Dims& dims, int axis) {
  return {dims.Elements(0, axis), dims[axis], dims.Elements(axis + 1, dims.rank())};
}

Status CheckF32(const KernelRequest& request, size_t inputs) {
  return RequireInputs(request, 0, inputs, DType::f32);
}

BindResult BindSoftmax(const KernelRequest& request, const RowLevel& level, bool log) {
  MINIM_TRY(CheckF32(request, 1));
  const Dims& x = request.inputs[0].dims;
  if (x.rank() == 0) return Unsupported("a scalar");
  const AxisSplit s = SplitAt(x, NormalAxis(AttributesOf(request).Int("axis", -1), x.rank()));
  const auto softmax = level.softmax;
  return MakeKernel(fmt::format("softmax {}", level.name),
                    [=](const KernelArgs& args) {
                      const int64_t block = s.n * s.inner;
                      args.threads.ParallelRange(s.outer, 8192 / std::max<int64_t>(1, block) + 1,
                                                 [&](int64_t first, int64_t last) {
                                                   for (int64_t i = first; i < last; ++i)
                                                     softmax(In<float>(args, 0) + i * block,
                                                             Out<float>(args, 0) + i * block, s.n,
                                                             s.inner, log);
                                                 });
                    },
                    0, {log || s.inner != 1 ? -1 : 0});
}

BindResult BindLayerNorm(const KernelRequest& request, const RowLevel& level) {
  MINIM_TRY(CheckF32(request, 3));
  const Dims& x = request.inputs[0].dims;
  if (x.rank() == 0) return Unsupported("a scalar");
  const Attributes& attributes = AttributesOf(request);
  const int axis = NormalAxis(attributes.Int("axis", -1), x.rank());
  const int64_t rows = x.Elements(0, axis), n = x.Elements(axis, x.rank());
  for (size_t i = 1; i < request.inputs.size(); ++i) {
    if (HasInput(request, i) && request.inputs[i].dims.Elements() != n)
      return Unsupported("input {} of dims {} is not one value per normalised element", i,
                         request.inputs[i].dims.ToString());
  }
  const float epsilon = attributes.Float("epsilon", 1e-5f);
  const auto norm = level.layer_norm;
  return MakeKernel(fmt::format("layer norm {}", level.name), [=](const KernelArgs& args) {
    float* mean = Out<float>(args, 1);
    float* inverse = Out<float>(args, 2);
    args.threads.ParallelRange(rows, 16384 / std::max<int64_t>(1, n) + 1,
                               [&](int64_t first, int64_t last) {
                                 for (int64_t i = first; i < last; ++i)
                                   norm(In<float>(args, 0) + i * n, In<float>(args, 1),
                                        In<float>(args, 2), epsilon, n, Out<float>(args, 0) + i * n,
                                        mean ? mean + i : nullptr, inverse ? inverse + i : nullptr);
                               });
  });
}

// Normalises by the batch, channel by channel, and moves the running statistics towards it.
BindResult BindTrainingBatchNorm(const KernelRequest& request, const RowLevel& level) {
  const Dims& x = request.inputs[0].dims;
  if (x.rank() < 2) return Unsupported("rank {}", x.rank());
  const int64_t batch = x[0], channels = x[1], plane = x.Elements(2, x.rank());
  const float epsilon = AttributesOf(request).Float("epsilon", 1e-5f);
  const double momentum = AttributesOf(request).Float("momentum", 0.9f);
  const auto run = [=, &level](const KernelArgs& args) {
    const auto channel = [&](int64_t c) {
      const float* from = In<float>(args, 0) + c * plane;
      const int64_t stride = channels * plane;
      const auto count = static_cast<double>(std::max<int64_t>(1, batch * plane));
      double sum = 0, squares = 0;
      for (int64_t n = 0; n < batch; ++n) sum += level.sum(from + n * stride, plane);
      const double mean = sum / count;
      for (int64_t n = 0; n < batch; ++n)
        squares += level.square_deviations(from + n * stride, static_cast<float>(mean), plane);
      const double variance = squares / count;
      const double factor = In<float>(args, 1)[c] / std::sqrt(variance + epsilon);
      const double shift = In<float>(args, 2)[c] - mean * factor;
      for (int64_t n = 0; n < batch; ++n)
        level.affine(from + n * stride, static_cast<float>(factor), static_cast<float>(shift),
                     plane, Out<float>(args, 0) + n * stride + c * plane);
      const auto move = [&](int index, double now) {
        if (float* out = Out<float>(args, static_cast<size_t>(index - 2)))
          out[c] = static_cast<float>(In<float>(args, static_cast<size_t>(index))[c] * momentum +
                                      now * (1 - momentum));
      };
      move(3, mean);
      move(4, variance);
    };
    args.threads.ParallelRange(channels, 16384 / std::max<int64_t>(1, batch * plane) + 1,
                               [&](int64_t first, int64_t last) {
                                 for (int64_t c = first; c < last; ++c) channel(c);
                               });
  };
  return MakeKernel(fmt::format("batch norm of the batch {}", level.name), run, 0, {0, 3, 4});
}

BindResult BindBatchNorm(const KernelRequest& request, const RowLevel& level) {
  MINIM_TRY(CheckF32(request, 5));
  const Attributes& attributes = AttributesOf(request);
  if (attributes.Int("training_mode", 0) != 0) return BindTrainingBatchNorm(request, level);
  const Dims& x = request.inputs[0].dims;
  const int64_t channels = x.rank() > 1 ? x[1] : 1,
                plane = x.Elements(std::min(2, x.rank()), x.rank());
  const int64_t planes = (x.rank() ? x[0] : 1) * channels;
  const float epsilon = attributes.Float("epsilon", 1e-5f);
  const auto affine = level.affine;
  return MakeKernel(fmt::format("batch norm {}", level.name),
                    [=](const KernelArgs& args) {
                      const float *scale = In<float>(args, 1), *bias = In<float>(args, 2);
                      const float *mean = In<float>(args, 3), *variance = In<float>(args, 4);
                      args.threads.ParallelRange(
                          planes, 32768 / std::max<int64_t>(1, plane) + 1,
                          [&](int64_t first, int64_t last) {
                            for (int64_t i = first; i < last; ++i) {
                              const int64_t c = i % channels;
                              const double factor =
                                  scale[c] / std::sqrt(static_cast<double>(variance[c]) + epsilon);
                              affine(In<float>(args, 0) + i * plane, static_cast<float>(factor),
                                     static_cast<float>(bias[c] - mean[c] * factor), plane,
                                     Out<float>(args, 0) + i * plane);
                            }
                          });
                    },
                    0, {0});
}

BindResult BindInstanceNorm(const KernelRequest& request, const RowLevel& level) {
  MINIM_TRY(CheckF32(request, 3));
  const Dims& x = request.inputs[0].dims;
  if (x.rank() < 2) return Unsupported("rank {}", x.rank());
  const int64_t channels = x[1], planes = x[0] * x[1], plane = x.Elements(2, x.rank());
  if (request.inputs[1].dims.Elements() != channels ||
      request.inputs[2].dims.Elements() != channels)
    return Unsupported("scale and bias are not one value per channel");
  const float epsilon = AttributesOf(request).Float("epsilon", 1e-5f);
  return MakeKernel(
      fmt::format("instance norm {}", level.name), [=, &level](const KernelArgs& args) {
        const float *scale = In<float>(args, 1), *bias = In<float>(args, 2);
        const auto count = static_cast<float>(std::max<int64_t>(1, plane));
        args.threads.ParallelRange(
            planes, 16384 / std::max<int64_t>(1, plane) + 1, [&](int64_t first, int64_t last) {
              for (int64_t i = first; i < last; ++i) {
                const float* x = In<float>(args, 0) + i * plane;
                const float mean = level.sum(x, plane) / count;
                const float variance = level.square_deviations(x, mean, plane) / count;
                const float factor = scale[i % channels] / std::sqrt(variance + epsilon);
                level.centered(x, mean, factor, bias[i % channels], plane,
                               Out<float>(args, 0) + i * plane);
              }
            });
      });
}

BindResult BindLrn(const KernelRequest& request, const RowLevel& level) {
  MINIM_TRY(CheckF32(request, 1));
  const Attributes& attributes = AttributesOf(request);
  const Dims& x = request.inputs[0].dims;
  if (x.rank() < 2) return Unsupported("rank {}", x.rank());
  const AxisSplit s = SplitAt(x, 1);
  const int64_t size = attributes.Int("size", 1);
  const float alpha = attributes.Float("alpha", 1e-4f) / static_cast<float>(size);
  const float beta = attributes.Float("beta", 0.75f), bias = attributes.Float("bias", 1);
  const auto lrn = level.lrn;
  constexpr int64_t kBlock = 256;
  return MakeKernel(fmt::format("lrn {}", level.name), [=](const KernelArgs& args) {
    args.threads.ParallelRange(s.outer * s.n, 1, [&](int64_t first, int64_t last) {
      float sum[kBlock];
      for (int64_t plane = first; plane < last; ++plane) {
        const int64_t c = plane % s.n;
        const int64_t low = std::max<int64_t>(0, c - (size - 1) / 2);
        const int64_t high = std::min(s.n, c + size / 2 + 1);
        const float* base = In<float>(args, 0) + (plane - c) * s.inner;
        for (int64_t at = 0; at < s.inner; at += kBlock) {
          const int64_t n = std::min(kBlock, s.inner - at);
          std::fill_n(sum, n, 0.0f);
          for (int64_t k = low; k < high; ++k) {
            const float* row = base + k * s.inner + at;
            for (int64_t i = 0; i < n; ++i) sum[i] += row[i] * row[i];
          }
          lrn(base + c * s.inner + at, sum, alpha, beta, bias, n,
              Out<float>(args, 0) + plane * s.inner + at);
        }
      }
    });
  });
}

}  // namespace

#define MINIM_BOTH(name, call)                              \
  BindResult name##Avx2(const KernelRequest& request) {     \
    const RowLevel& level = WidestRows(request.isa);        \
    return call;                                            \
  }                                                         \
  BindResult name##Portable(const KernelRequest& request) { \
    const RowLevel& level = RowsPortable();                 \
    return call;                                            \
  }
MINIM_BOTH(Softmax, BindSoftmax(request, level, false))
MINIM_BOTH(LogSoftmax, BindSoftmax(request, level, true))
MINIM_BOTH(LayerNorm, BindLayerNorm(request, level))
MINIM_BOTH(BatchNorm, BindBatchNorm(request, level))
MINIM_BOTH(InstanceNorm, BindInstanceNorm(request, level))
MINIM_BOTH(Lrn, BindLrn(request, level))
#undef MINIM_BOTH

}  // namespace minim
