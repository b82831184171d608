// DeformConv: a convolution whose taps are moved by offsets and weighed by a mask. A moved tap
// reads between the input's elements, which are zero outside.
#include <cmath>

#include "ops/conv.h"

namespace minim::ops {
namespace {

Status CheckChannels(InferContext& op, int input, const char* name, int64_t expected) {
  if (!op.has_input(input) || !op.input(input).ranked()) return {};
  if ((*op.input(input).shape)[1].Compatible(Dim(expected))) return {};
  return op.Error("{} has shape {}, expected {} channels", name, ToString(*op.input(input).shape),
                  expected);
}

Status Infer(InferContext& op) {
  const TensorType &x = op.input(0), &w = op.input(1);
  for (int i = 1; i < op.input_count(); ++i)
    if (op.has_input(i)) MINIM_TRY(op.SameDType(0, i));
  const int64_t groups = op.attributes().Int("offset_group", 1);
  if (groups < 1) return op.Error("offset_group is {}, expected 1 or more", groups);
  MINIM_TRY(InferConvolution(op, 0, 1, x.dtype));
  if (!x.Static() || !w.Static()) return {};
  if (x.dims()[1] % groups != 0)
    return op.Error("{} channels do not divide into {} offset groups", x.dims()[1], groups);
  for (int i : {2, 4})
    if (op.has_input(i)) MINIM_TRY(op.HasRank(i, x.rank()));
  const int64_t taps = Spatial(w.dims()).Elements();
  MINIM_TRY(CheckChannels(op, 2, "offset", groups * taps * (x.rank() - 2)));
  return CheckChannels(op, 4, "mask", groups * taps);
}

// Multilinear interpolation at `at`, from `axis` on; `base` counts the elements before.
double Sampled(const double* plane, const Dims& in, const std::vector<double>& at, int axis,
               int64_t base) {
  if (axis == in.rank()) return plane[base];
  const double floor = std::floor(at[axis]);
  double sum = 0;
  for (int k = 0; k < 2; ++k) {
    const double place = floor + k;
    if (!(place >= 0 && place < static_cast<double>(in[axis]))) continue;
    const double weight = 1 - std::fabs(at[axis] - place);
    sum += weight * Sampled(plane, in, at, axis + 1, base * in[axis] + static_cast<int64_t>(place));
  }
  return sum;
}

struct Deformed {
  Convolution conv;
  int64_t offset_groups;
  std::span<const double> x, w, offset, mask;  // the mask may be empty

  // What tap `tap` of channel `c` reads for output place `o`.
  double Read(int64_t n, int64_t c, int64_t tap, const Dims& k, int64_t o, const Dims& at) const {
    const Dims in = Spatial(conv.x);
    const int rank = in.rank();
    const int64_t places = Spatial(conv.y).Elements(), taps = conv.window.kernel.Elements();
    const int64_t group = n * offset_groups + c / (conv.x[1] / offset_groups);
    std::vector<double> place(rank);
    for (int i = 0; i < rank; ++i) {
      const int64_t fixed =
          at[i] * conv.window.strides[i] - conv.window.begins[i] + k[i] * conv.window.dilations[i];
      place[i] =
          static_cast<double>(fixed) + offset[((group * taps + tap) * rank + i) * places + o];
    }
    const double* plane = x.data() + (n * conv.x[1] + c) * in.Elements();
    const double value = Sampled(plane, in, place, 0, 0);
    return mask.empty() ? value : value * mask[(group * taps + tap) * places + o];
  }
};

Status Reference(RefContext& op) {
  RefTensor& y = op.Output(0);
  const Convolution conv = MakeConvolution(op.attributes(), op.dims(0), op.dims(1), y.dims());
  const Deformed d{conv,
                   op.attributes().Int("offset_group", 1),
                   op.input(0).f64(),
                   op.input(1).f64(),
                   op.input(2).f64(),
                   op.has_input(4) ? op.input(4).f64() : std::span<const double>()};
  const Dims out = Spatial(conv.y);
  const int64_t places = out.Elements(), taps = conv.window.kernel.Elements();
  const int64_t per_group = conv.w[1], rows = conv.y[1] / std::max<int64_t>(1, conv.group);
  if (op.input(2).size() != conv.y[0] * d.offset_groups * taps * out.rank() * places)
    return op.Error("offset has shape {} for output {}", op.dims(2).ToString(), conv.y.ToString());
  if (!d.mask.empty() && op.input(4).size() * out.rank() != op.input(2).size())
    return op.Error("mask has shape {} for output {}", op.dims(4).ToString(), conv.y.ToString());
  for (int64_t n = 0; n < conv.y[0]; ++n)
    ForEachIndex(out, [&](int64_t o, const Dims& at) {
      ForEachIndex(conv.window.kernel, [&](int64_t tap, const Dims& k) {
        for (int64_t c = 0; c < conv.x[1]; ++c) {
          const double value = d.Read(n, c, tap, k, o, at);
          for (int64_t m = c / per_group * rows; m < (c / per_group + 1) * rows; ++m)
            y.f64()[(n * conv.y[1] + m) * places + o] +=
                value * d.w[(m * per_group + c % per_group) * taps + tap];
        }
      });
    });
  for (int64_t i = 0; op.has_input(3) && i < y.size(); ++i)
    y.f64()[i] += op.input(3).f64()[i / places % conv.y[1]];
  return {};
}

}  // namespace

OpDef DeformConv() {
  return {.name = "DeformConv",
          .onnx_since = {19, 22},
          .min_inputs = 3,
          .max_inputs = 5,
          .dtypes = kFloatTypes,
          .infer = Infer,
          .reference = Reference,
          .precision = PrecisionClass::kLower,
          .flops = ConvFlops,
          .samples =
              "DeformConv(x: f32[1,2,4,4], w: f32[3,2,2,2], o: f32[1,8,3,3])\n"
              "DeformConv(x: f32[2,4,5,5], w: f32[4,2,3,2], o: f32[2,24,3,2] = uniform(-3,3), "
              "b: f32[4], m: f32[2,12,3,2]) {group=2, offset_group=2, pads=[1,0,1,0], "
              "strides=[2,2], dilations=[1,2], kernel_shape=[3,2]}\n"
              "DeformConv(x: f16[1,1,5], w: f16[1,1,2], o: f16[1,2,4])\n"};
}

}  // namespace minim::ops
