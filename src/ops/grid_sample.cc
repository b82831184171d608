// GridSample and AffineGrid: sampling a volume at places that a grid gives.
#include <algorithm>
#include <array>
#include <cmath>

#include "ops/movement.h"

namespace minim::ops {
namespace {

struct Sampler {
  bool nearest = false, cubic = false, align = false;
  std::string padding;
  Dims x;  // the spatial sizes

  Sampler(const Attributes& a, const Dims& spatial)
      : nearest(a.String("mode", "linear") == "nearest"),
        cubic(a.String("mode", "linear") == "cubic"),
        align(a.Int("align_corners", 0) != 0),
        padding(a.String("padding_mode", "zeros")),
        x(spatial) {}

  double Low() const { return align ? 0 : -0.5; }
  double High(int axis) const { return static_cast<double>(x[axis]) - (align ? 1 : 0.5); }
};

// Mirrored at the borders until it lies between them.
double Reflected(double v, double low, double high) {
  const double range = high - low;
  if (range <= 0) return low;
  const double beyond = v < low ? low - v : v > high ? v - high : 0;
  if (beyond == 0) return v;
  const double turns = std::floor(beyond / range), rest = beyond - turns * range;
  const bool from_low = (v < low) == (std::fmod(turns, 2) == 0);
  return from_low ? low + rest : high - rest;
}

struct Coordinate {
  double at, slope;  // its place on the axis, and the place's slope by the grid value
};

// A grid value in [-1, 1] as a coordinate of the axis, brought inside if the padding does so. A
// cubic keeps its coordinate and pads its taps, as PyTorch does.
Coordinate CoordinateOf(const Sampler& s, int axis, double value) {
  const auto size = static_cast<double>(s.x[axis]);
  double at = s.align ? (value + 1) / 2 * (size - 1) : ((value + 1) * size - 1) / 2;
  const double slope = (s.align ? size - 1 : size) / 2, low = s.Low(), high = s.High(axis);
  if (s.nearest) at = std::nearbyint(at);
  if (s.cubic || s.padding == "zeros" || (at >= low && at <= high)) return {at, slope};
  if (s.padding == "border") return {std::clamp(at, 0.0, size - 1), 0};
  const double turns = std::floor((at < low ? low - at : at - high) / (high - low));
  return {Reflected(at, low, high), std::fmod(turns, 2) == 0 ? -slope : slope};
}

// The element that place `k` reads; -1 for a zero.
int64_t PlaceOf(const Sampler& s, int axis, double k) {
  const int64_t last = s.x[axis] - 1;
  if (k >= 0 && k <= static_cast<double>(last)) return static_cast<int64_t>(k);
  if (!std::isfinite(k) || s.padding == "zeros") return -1;
  if (s.padding == "border") return k < 0 ? 0 : last;
  const double inside = Reflected(k, s.Low(), s.High(axis));
  return std::clamp<int64_t>(static_cast<int64_t>(inside), 0, last);
}

struct Taps {
  std::array<int64_t, 4> places{};
  std::array<double, 4> weights{}, slopes{};  // the weights' slopes by the coordinate
  int count = 0;

  void Add(int64_t place, double weight, double slope) {
    places[count] = place;
    weights[count] = place < 0 ? 0 : weight;
    slopes[count++] = place < 0 ? 0 : slope;
  }
};

constexpr double kA = -0.75;  // of Keys' kernel

double Cubic(double d) {
  if (d <= 1) return ((kA + 2) * d - (kA + 3)) * d * d + 1;
  return ((kA * d - 5 * kA) * d + 8 * kA) * d - 4 * kA;
}

double CubicSlope(double d) {
  if (d <= 1) return (3 * (kA + 2) * d - 2 * (kA + 3)) * d;
  return (3 * kA * d - 10 * kA) * d + 8 * kA;
}

Taps TapsAt(const Sampler& s, int axis, double at) {
  Taps taps;
  if (s.nearest) {
    taps.Add(PlaceOf(s, axis, std::trunc(at)), 1, 0);
    return taps;
  }
  const double floor = std::floor(at);
  for (int k = s.cubic ? -1 : 0; k <= (s.cubic ? 2 : 1); ++k) {
    const double side = k > 0 ? -1 : 1, distance = side * (at - floor - k);
    const double slope = s.cubic ? CubicSlope(distance) : -1;
    taps.Add(PlaceOf(s, axis, floor + k), s.cubic ? Cubic(distance) : 1 - distance, side * slope);
  }
  return taps;
}

// Sum over the product of the axes' taps, from `axis` on; `base` counts the elements before.
double Sampled(const double* plane, const Sampler& s, const std::vector<Taps>& taps, int axis,
               int64_t base) {
  if (axis == s.x.rank()) return plane[base];
  double sum = 0;
  for (int i = 0; i < taps[axis].count; ++i) {
    if (taps[axis].places[i] < 0) continue;
    sum += taps[axis].weights[i] *
           Sampled(plane, s, taps, axis + 1, base * s.x[axis] + taps[axis].places[i]);
  }
  return sum;
}

Status InferGridSample(InferContext& op) {
  const TensorType &x = op.input(0), &grid = op.input(1);
  const std::string mode = op.attributes().String("mode", "linear");
  if (mode != "linear" && mode != "nearest" && mode != "cubic")
    return op.Error("mode '{}' is unknown", mode);
  const std::string padding = op.attributes().String("padding_mode", "zeros");
  if (padding != "zeros" && padding != "border" && padding != "reflection")
    return op.Error("padding_mode '{}' is unknown", padding);
  if (!x.ranked()) return op.SetUnknown(0, x.dtype);
  if (x.rank() < 3 || x.rank() > 5)
    return op.Error("input has shape {}, expected [N,C,...] with one to three spatial axes",
                    ToString(*x.shape));
  MINIM_TRY(op.HasRank(1, x.rank()));
  Shape shape(x.rank());
  for (int i = 0; i < 2; ++i) shape[i] = (*x.shape)[i];
  if (grid.ranked()) {
    if (!grid.shape->back().Compatible(Dim(x.rank() - 2)))
      return op.Error("grid has shape {}, expected {} coordinates a place", ToString(*grid.shape),
                      x.rank() - 2);
    if (!grid.shape->front().Compatible((*x.shape)[0]))
      return op.Error("grid has shape {} for input {}", ToString(*grid.shape), ToString(*x.shape));
    for (int i = 2; i < x.rank(); ++i) shape[i] = (*grid.shape)[i - 1];
  }
  return op.SetOutput(0, x.dtype, std::move(shape));
}

Status GridSampleReference(RefContext& op) {
  RefTensor& y = op.Output(0);
  const Dims& x = op.dims(0);
  const Sampler s(op.attributes(), Dims(x.span().subspan(2)));
  const int64_t plane = s.x.Elements(), places = y.dims().Elements(2, x.rank());
  if (plane == 0 && y.size() > 0) return op.Error("input {} is empty", x.ToString());
  std::vector<double> values(op.input(0).size());
  for (size_t i = 0; i < values.size(); ++i) values[i] = op.input(0).At(static_cast<int64_t>(i));
  for (int64_t at = 0; at < x[0] * places; ++at) {
    std::vector<Taps> taps(s.x.rank());
    for (int axis = 0; axis < s.x.rank(); ++axis) {  // the grid lists the last axis first
      const double value = op.input(1).f64()[(at + 1) * s.x.rank() - 1 - axis];
      taps[axis] = TapsAt(s, axis, CoordinateOf(s, axis, value).at);
    }
    const int64_t n = at / places;
    for (int64_t c = 0; c < x[1]; ++c) {
      const int64_t channel = n * x[1] + c;
      y.SetAt(channel * places + at % places,
              Sampled(values.data() + channel * plane, s, taps, 0, 0));
    }
  }
  return {};
}

// Visits the products of the axes' taps: f(flat place, weight, its slopes by each coordinate).
template <typename F>
void ForEachProduct(const Sampler& s, const std::vector<Taps>& taps, F&& f) {
  Dims counts;
  for (const Taps& axis : taps) counts.push_back(axis.count);
  ForEachIndex(counts, [&](int64_t, const Dims& k) {
    int64_t flat = 0;
    double weight = 1;
    std::array<double, 3> slopes{1, 1, 1};
    for (int i = 0; i < counts.rank(); ++i) {
      if (taps[i].places[k[i]] < 0) return;
      flat = flat * s.x[i] + taps[i].places[k[i]];
      weight *= taps[i].weights[k[i]];
      for (int axis = 0; axis < counts.rank(); ++axis)
        slopes[axis] *= axis == i ? taps[i].slopes[k[i]] : taps[i].weights[k[i]];
    }
    f(flat, weight, slopes);
  });
}

// dy, x, grid to dx and d grid.
Status GridSampleGradReference(RefContext& op) {
  const Dims& x = op.dims(1);
  const Sampler s(op.attributes(), Dims(x.span().subspan(2)));
  const int rank = s.x.rank();
  const int64_t plane = s.x.Elements(), places = op.dims(0).Elements(2, x.rank());
  const auto dx = op.Output(0).f64(), dgrid = op.Output(1).f64();
  const auto dy = op.input(0).f64(), src = op.input(1).f64(), grid = op.input(2).f64();
  for (int64_t at = 0; at < x[0] * places; ++at) {
    std::vector<Taps> taps(rank);
    std::vector<double> scale(rank);
    for (int axis = 0; axis < rank; ++axis) {
      const Coordinate place = CoordinateOf(s, axis, grid[(at + 1) * rank - 1 - axis]);
      taps[axis] = TapsAt(s, axis, place.at);
      scale[axis] = place.slope;
    }
    for (int64_t channel = at / places * x[1]; channel < (at / places + 1) * x[1]; ++channel) {
      const double share = dy[channel * places + at % places];
      ForEachProduct(s, taps, [&](int64_t flat, double weight, const auto& slopes) {
        dx[channel * plane + flat] += share * weight;
        for (int axis = 0; axis < rank; ++axis)
          dgrid[(at + 1) * rank - 1 - axis] +=
              share * src[channel * plane + flat] * slopes[axis] * scale[axis];
      });
    }
  }
  return {};
}

Status GridSampleGradient(GradContext& g) {
  const auto grads = g.EmitMany("GridSampleGrad", {g.output_grad(0), g.input(0), g.input(1)}, 2,
                                g.attributes(), kMinimDomain);
  g.SetInputGrad(0, grads[0]);
  g.SetInputGrad(1, grads[1]);
  return {};
}

Status GridSampleUpgrade(UpgradeContext& u) {  // 16 named the modes after the plane
  const std::string mode = u.node.attributes.String("mode", "bilinear");
  if (u.from_version >= 20 || mode == "nearest") return {};
  u.node.attributes.Set("mode", std::string(mode == "bicubic" ? "cubic" : "linear"));
  return {};
}

// ---- AffineGrid: the grid's base places times theta

std::optional<Dims> GridSize(const std::vector<int64_t>& size) {
  if (size.size() != 4 && size.size() != 5) return std::nullopt;
  for (int64_t s : size)
    if (s < 0 || s > INT32_MAX) return std::nullopt;
  return Dims(size);
}

Status InferAffineGrid(InferContext& op) {
  MINIM_TRY(op.HasRank(0, 3));
  const auto size = op.IntsInput(1);
  if (!size) return op.SetUnknown(0, op.dtype(0));
  const auto dims = GridSize(*size);
  if (!dims) return op.Error("size must be [N,C,H,W] or [N,C,D,H,W]");
  const int64_t axes = dims->rank() - 2;
  const Shape theta{(*dims)[0], axes, axes + 1};
  if (op.input(0).ranked())
    for (int i = 0; i < 3; ++i)
      if (!(*op.input(0).shape)[i].Compatible(theta[i]))
        return op.Error("theta has shape {}, expected {}", ToString(*op.input(0).shape),
                        ToString(theta));
  Shape shape{(*dims)[0]};
  for (int i = 2; i < dims->rank(); ++i) shape.emplace_back((*dims)[i]);
  shape.emplace_back(axes);
  return op.SetOutput(0, op.dtype(0), std::move(shape));
}

// [places, axes + 1]: the coordinates of each place, last axis first, and a 1.
Tensor BasePlaces(const Dims& spatial, bool align) {
  const int axes = spatial.rank();
  Tensor base(DType::f64, Dims({spatial.Elements(), axes + 1}));
  const auto values = base.as<double>();
  ForEachIndex(spatial, [&](int64_t flat, const Dims& at) {
    for (int i = 0; i < axes; ++i) {
      const auto place = static_cast<double>(at[i]), size = static_cast<double>(spatial[i]);
      const double aligned = size == 1 ? 0 : 2 * place / (size - 1) - 1;
      values[flat * (axes + 1) + axes - 1 - i] = align ? aligned : (2 * place + 1) / size - 1;
    }
    values[flat * (axes + 1) + axes] = 1;
  });
  return base;
}

Status ExpandAffineGrid(ExpandContext& e) {
  const Tensor* size = e.graph().constant(e.input(1));
  if (size == nullptr) return Unsupported("AffineGrid '{}': needs a constant size", e.node().name);
  const Tensor wide = Converted(size->view(), DType::i64);
  const Dims dims(wide.as<int64_t>());
  const Dims spatial(dims.span().subspan(2));
  const Tensor base = BasePlaces(spatial, e.attributes().Int("align_corners", 0) != 0);
  const ValueId places = e.Constant(Converted(base.view(), e.dtype(e.input(0))));
  const ValueId grid = e.Emit("MatMul", {places, e.Transpose(e.input(0), {0, 2, 1})});
  Dims out({dims[0]});
  for (int64_t axis : spatial) out.push_back(axis);
  out.push_back(spatial.rank());
  e.SetOutput(0, e.Reshape(grid, out));
  return {};
}

}  // namespace

std::vector<OpDef> GridOps() {
  OpDef sample = {.name = "GridSample",
                  .onnx_since = {16, 20, 22},
                  .min_inputs = 2,
                  .max_inputs = 2,
                  .dtypes = kAllTypes,
                  .infer = InferGridSample,
                  .gradient = GridSampleGradient,
                  .reference = GridSampleReference,
                  .upgrade = GridSampleUpgrade,
                  .precision = PrecisionClass::kFp32,
                  .samples =
                      "GridSample(x: f32[2,2,3,4], g: f32[2,2,3,2] = uniform(-1.5,1.5))\n"
                      "GridSample(x: f32[1,1,3,4], g: f32[1,5,5,2] = uniform(-4,4)) "
                      "{mode=\"cubic\", padding_mode=\"reflection\"}\n"
                      "GridSample(x: f32[1,1,3,4], g: f32[1,5,5,2] = uniform(-2,2)) "
                      "{mode=\"cubic\", padding_mode=\"border\", align_corners=1}\n"
                      "GridSample(x: f32[1,1,2,3,4], g: f32[1,2,2,3,3] = uniform(-2,2)) "
                      "{padding_mode=\"reflection\", align_corners=1}\n"
                      "GridSample(x: i8[1,1,2,3,4], g: f32[1,2,2,3,3] = uniform(-2,2)) "
                      "{mode=\"nearest\", padding_mode=\"border\"}\n"
                      "GridSample(x: f32[1,2,3,4], g: f32[1,3,2,2] = uniform(-2,2)) "
                      "{padding_mode=\"border\"}\n"
                      "GridSample(x: f16[1,1,3], g: f16[1,4,1])\n"};
  OpDef grad = {.name = "GridSampleGrad",
                .domain = std::string(kMinimDomain),
                .min_inputs = 3,
                .max_inputs = 3,
                .dtypes = kFloatTypes,
                .infer = [](InferContext& op) -> Status {
                  MINIM_TRY(CheckGradientShape(op, "GridSample", {op.input(1), op.input(2)}));
                  MINIM_TRY(op.SetOutput(0, op.input(1)));
                  return op.SetOutput(1, op.input(2));
                },
                .reference = GridSampleGradReference,
                .precision = PrecisionClass::kFp32,
                .samples =
                    "dx, dg = GridSampleGrad(dy: f32[1,2,2,3], x: f32[1,2,3,4], "
                    "g: f32[1,2,3,2] = uniform(-1.5,1.5)) {mode=\"cubic\", align_corners=1, "
                    "padding_mode=\"border\"}\n"};
  OpDef affine = {.name = "AffineGrid",
                  .onnx_since = {20},
                  .min_inputs = 2,
                  .max_inputs = 2,
                  .dtypes = kFloatTypes,
                  .infer = InferAffineGrid,
                  .expand = ExpandAffineGrid,
                  .precision = PrecisionClass::kFp32,
                  .samples =
                      "AffineGrid(t: f32[2,2,3], s: i64[4] = [2,3,4,5])\n"
                      "AffineGrid(t: f32[1,2,3], s: i64[4] = [1,1,4,1]) "
                      "{align_corners=1}\n"
                      "AffineGrid(t: f16[1,3,4], s: i64[5] = [1,1,2,3,4])\n"};
  return {std::move(sample), std::move(grad), std::move(affine)};
}

}  // namespace minim::ops
