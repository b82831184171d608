// DeformConv: a convolution whose taps are moved by offsets and weighed by a mask. A moved tap
// reads between the input's elements, which are zero outside.
#include <array>
#include <cmath>

#include "ops/builder.h"
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

// An element of the input plane that a tap reads, its share, and the share's slopes by the tap's
// coordinates.
struct Neighbour {
  int64_t place = 0;
  double weight = 1;
  std::array<double, kMaxRank> slopes{};
};

// The elements around `at`, multilinearly; those outside are zeros and left out.
std::vector<Neighbour> NeighboursOf(const Dims& in, const std::vector<double>& at) {
  std::vector<Neighbour> found;
  ForEachIndex(Dims::Filled(in.rank(), 2), [&](int64_t, const Dims& side) {
    Neighbour next;
    next.slopes.fill(1);
    for (int i = 0; i < in.rank(); ++i) {
      const double place = std::floor(at[i]) + static_cast<double>(side[i]);
      if (!(place >= 0 && place < static_cast<double>(in[i]))) return;
      const double weight = 1 - std::fabs(at[i] - place);
      next.place = next.place * in[i] + static_cast<int64_t>(place);
      next.weight *= weight;
      for (int k = 0; k < in.rank(); ++k) next.slopes[k] *= k != i ? weight : side[i] ? 1 : -1;
    }
    found.push_back(next);
  });
  return found;
}

struct Deformed {
  Convolution conv;
  int64_t offset_groups;
  std::span<const double> offset, mask;  // the mask may be empty
  int64_t places, taps;

  Deformed(const Attributes& a, const Dims& x, const Dims& w, const Dims& y, const RefTensor& o,
           const RefTensor* m)
      : conv(MakeConvolution(a, x, w, y)),
        offset_groups(a.Int("offset_group", 1)),
        offset(o.f64()),
        places(Spatial(y).Elements()),
        taps(Spatial(w).Elements()) {
    if (m) mask = m->f64();
  }

  /// False if the offset or the mask does not fit the output.
  bool Fits() const {
    const auto expected = static_cast<size_t>(conv.y[0] * offset_groups * taps * places);
    return offset.size() == expected * conv.window.rank() &&
           (mask.empty() || mask.size() == expected);
  }
  /// Visits the pairs of a channel of the input and one of the output: f(m, offset in w).
  template <typename F>
  void ForEachWeight(int64_t c, int64_t tap, F&& f) const {
    const int64_t per_group = conv.w[1], rows = conv.y[1] / conv.group;
    for (int64_t m = c / per_group * rows; m < (c / per_group + 1) * rows; ++m)
      f(m, (m * per_group + c % per_group) * taps + tap);
  }
};

// What one tap reads of one channel for one place of the output.
struct Read {
  int64_t n, c, tap, place;
  int64_t offset, mask;  // its first offset, the next ones `places` apart, and its mask
  std::vector<Neighbour> neighbours;
};

template <typename F>
void ForEachRead(const Deformed& d, F&& f) {
  const Window& w = d.conv.window;
  const Dims in = Spatial(d.conv.x);
  for (int64_t n = 0; n < d.conv.y[0]; ++n)
    ForEachIndex(Spatial(d.conv.y), [&](int64_t o, const Dims& at) {
      ForEachIndex(w.kernel, [&](int64_t tap, const Dims& k) {
        for (int64_t c = 0; c < d.conv.x[1]; ++c) {
          const int64_t group = n * d.offset_groups + c / (d.conv.x[1] / d.offset_groups);
          Read read{n,
                    c,
                    tap,
                    o,
                    (group * d.taps + tap) * w.rank() * d.places + o,
                    (group * d.taps + tap) * d.places + o,
                    {}};
          std::vector<double> place(w.rank());
          for (int i = 0; i < w.rank(); ++i)
            place[i] =
                static_cast<double>(at[i] * w.strides[i] - w.begins[i] + k[i] * w.dilations[i]) +
                d.offset[read.offset + i * d.places];
          read.neighbours = NeighboursOf(in, place);
          f(static_cast<const Read&>(read));
        }
      });
    });
}

double ValueOf(const Read& read, const double* plane) {
  double sum = 0;
  for (const Neighbour& next : read.neighbours) sum += next.weight * plane[next.place];
  return sum;
}

Status Reference(RefContext& op) {
  RefTensor& y = op.Output(0);
  const Deformed d(op.attributes(), op.dims(0), op.dims(1), y.dims(), op.input(2),
                   op.has_input(4) ? &op.input(4) : nullptr);
  if (!d.Fits())
    return op.Error("offset {} or mask does not fit output {}", op.dims(2).ToString(),
                    y.dims().ToString());
  const int64_t channels = y.dims()[1], plane = Spatial(op.dims(0)).Elements();
  ForEachRead(d, [&](const Read& r) {
    const double* x = op.input(0).f64().data() + (r.n * d.conv.x[1] + r.c) * plane;
    const double value = ValueOf(r, x) * (d.mask.empty() ? 1 : d.mask[r.mask]);
    d.ForEachWeight(r.c, r.tap, [&](int64_t m, int64_t w) {
      y.f64()[(r.n * channels + m) * d.places + r.place] += value * op.input(1).f64()[w];
    });
  });
  for (int64_t i = 0; op.has_input(3) && i < y.size(); ++i)
    y.f64()[i] += op.input(3).f64()[i / d.places % channels];
  return {};
}

// dy, x, w, offset, mask to dx, dw, d offset, d mask.
Status GradReference(RefContext& op) {
  const bool masked = op.has_input(4) && op.output_count() > 3;
  const Deformed d(op.attributes(), op.dims(1), op.dims(2), op.dims(0), op.input(3),
                   op.has_input(4) ? &op.input(4) : nullptr);
  if (!d.Fits()) return op.Error("offset {} does not fit", op.dims(3).ToString());
  const auto dy = op.input(0).f64(), weights = op.input(2).f64();
  const auto dx = op.Output(0).f64(), dw = op.Output(1).f64(), doffset = op.Output(2).f64();
  const auto dmask = masked ? op.Output(3).f64() : std::span<double>();
  const int64_t plane = Spatial(op.dims(1)).Elements();
  ForEachRead(d, [&](const Read& r) {
    const int64_t start = (r.n * d.conv.x[1] + r.c) * plane;
    const double* x = op.input(1).f64().data() + start;
    const double value = ValueOf(r, x), mask = d.mask.empty() ? 1 : d.mask[r.mask];
    double back = 0;  // the gradient of what was read, times the mask
    d.ForEachWeight(r.c, r.tap, [&](int64_t m, int64_t w) {
      const double share = dy[(r.n * d.conv.y[1] + m) * d.places + r.place];
      back += share * weights[w];
      dw[w] += share * value * mask;
    });
    if (masked) dmask[r.mask] += back * value;
    for (const Neighbour& next : r.neighbours) {
      dx[start + next.place] += back * mask * next.weight;
      for (int i = 0; i < d.conv.window.rank(); ++i)
        doffset[r.offset + i * d.places] += back * mask * x[next.place] * next.slopes[i];
    }
  });
  return {};
}

Status Gradient(GradContext& g) {
  const bool masked = g.has_input(4);
  const ValueId dy = g.output_grad(0);
  const auto grads = g.EmitMany(
      "DeformConvGrad", {dy, g.input(0), g.input(1), g.input(2), masked ? g.input(4) : kNoValue},
      masked ? 4 : 3, g.attributes(), kMinimDomain);
  for (int i = 0; i < 3; ++i) g.SetInputGrad(i, grads[i]);
  if (masked) g.SetInputGrad(4, grads[3]);
  if (!g.has_input(3)) return {};
  std::vector<int64_t> axes = {0};
  for (int i = 2; i < g.rank(dy); ++i) axes.push_back(i);
  g.SetInputGrad(3, g.ReduceSum(dy, axes, false));
  return {};
}

OpDef Grad() {
  return {
      .name = "DeformConvGrad",
      .domain = std::string(kMinimDomain),
      .min_inputs = 4,
      .max_inputs = 5,
      .dtypes = kFloatTypes,
      .infer = [](InferContext& op) -> Status {
        // The mask has no part in the shape.
        MINIM_TRY(CheckGradientShape(op, "DeformConv", {op.input(1), op.input(2), op.input(3)}));
        for (int i = 0; i < 4; ++i)
          if (op.has_input(i + 1)) MINIM_TRY(op.SetOutput(i, op.input(i + 1)));
        return {};
      },
      .reference = GradReference,
      .precision = PrecisionClass::kLower,
      .samples =
          "dx, dw, do = DeformConvGrad(dy: f32[1,3,3,3], x: f32[1,2,4,4], "
          "w: f32[3,2,2,2], o: f32[1,8,3,3])\n"};
}

OpDef Definition() {
  return {.name = "DeformConv",
          .onnx_since = {19, 22},
          .min_inputs = 3,
          .max_inputs = 5,
          .dtypes = kFloatTypes,
          .infer = Infer,
          .gradient = Gradient,
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

}  // namespace

std::vector<OpDef> DeformConvOps() { return {Definition(), Grad()}; }

}  // namespace minim::ops
