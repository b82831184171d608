// Normalisations: statistics over some axes, then scale and shift.
#include <cmath>

#include "ops/elementwise.h"
#include "ops/movement.h"

namespace minim::ops {
namespace {

float Epsilon(const Attributes& a) { return a.Float("epsilon", 1e-5f); }

std::vector<int64_t> AxesFrom(int64_t first, int rank) {
  std::vector<int64_t> axes;
  for (int64_t i = first; i < rank; ++i) axes.push_back(i);
  return axes;
}

std::vector<int64_t> AxesBut1(int rank) {
  std::vector<int64_t> axes = AxesFrom(2, rank);
  axes.insert(axes.begin(), 0);
  return axes;
}

ValueId MeanOver(Builder& b, ValueId x, const std::vector<int64_t>& axes) {
  if (axes.empty()) return x;
  return b.Emit("ReduceMean", {x, b.Ints(axes)}, {{"keepdims", int64_t{1}}});
}

// [C] seen as [C,1,..] below a tensor of `rank` axes.
ValueId PerChannel(Builder& b, ValueId v, int rank) {
  Dims dims = Dims::Filled(rank - 1, 1);
  dims[0] = b.type(v).dims().Elements();
  return b.Reshape(v, dims);
}

// 1 / sqrt(v + epsilon)
ValueId InverseRoot(Builder& b, ValueId v, double epsilon) {
  return b.Emit("Reciprocal", {b.Emit("Sqrt", {b.Add(v, epsilon)})});
}

// Gradient of x through xhat = (x - mean) * inv over `axes`, given d xhat.
ValueId CentredGradient(GradContext& g, ValueId dxhat, ValueId xhat, ValueId inv,
                        const std::vector<int64_t>& axes) {
  const ValueId mean = MeanOver(g, dxhat, axes);
  const ValueId projected = g.Mul(xhat, MeanOver(g, g.Mul(dxhat, xhat), axes));
  return g.Mul(g.Sub(g.Sub(dxhat, mean), projected), inv);
}

struct Normalised {
  ValueId xhat, inv;
};

Normalised Normalise(GradContext& g, ValueId x, const std::vector<int64_t>& axes) {
  const ValueId centred = g.Sub(x, MeanOver(g, x, axes));
  const ValueId inv =
      InverseRoot(g, MeanOver(g, g.Mul(centred, centred), axes), Epsilon(g.attributes()));
  return {g.Mul(centred, inv), inv};
}

// ---- BatchNormalization

Status InferBatchNorm(InferContext& op) {
  const TensorType& x = op.input(0);
  for (int i = 1; i < 5; ++i) MINIM_TRY(op.HasRank(i, 1));
  if (x.ranked() && x.rank() < 2)
    return op.Error("input has shape {}, expected [N,C,...]", ToString(*x.shape));
  for (int i = 1; x.ranked() && i < 5; ++i)
    if (op.input(i).ranked() && !(*op.input(i).shape)[0].Compatible((*x.shape)[1]))
      return op.Error("input {} has shape {} for {} channels", i, ToString(*op.input(i).shape),
                      (*x.shape)[1].ToString());
  MINIM_TRY(op.SetOutput(0, x));
  MINIM_TRY(op.SetOutput(1, op.input(3)));
  return op.SetOutput(2, op.input(4));
}

Status BatchNormReference(RefContext& op) {
  const Dims& dims = op.dims(0);
  const double epsilon = Epsilon(op.attributes()),
               momentum = op.attributes().Float("momentum", 0.9f);
  const bool training = op.attributes().Int("training_mode", 0) != 0;
  const int64_t inner = dims.Elements(2, dims.rank()), count = dims[0] * inner;
  const auto x = op.input(0).f64();
  const auto y = op.Output(0).f64();
  double* running[2] = {};
  for (int i = 1; i < 3; ++i)
    if (i < op.output_count() && op.has_output(i)) running[i - 1] = op.Output(i).f64().data();
  for (int64_t c = 0; c < dims[1]; ++c) {
    const auto at = [&](int64_t i) { return (i / inner * dims[1] + c) * inner + i % inner; };
    double mean = op.input(3).f64()[c], variance = op.input(4).f64()[c];
    if (training) {
      const double old_mean = mean, old_variance = variance;
      mean = variance = 0;
      for (int64_t i = 0; i < count; ++i) mean += x[at(i)] / static_cast<double>(count);
      for (int64_t i = 0; i < count; ++i)
        variance += (x[at(i)] - mean) * (x[at(i)] - mean) / static_cast<double>(count);
      if (running[0]) running[0][c] = old_mean * momentum + mean * (1 - momentum);
      if (running[1]) running[1][c] = old_variance * momentum + variance * (1 - momentum);
    } else {
      if (running[0]) running[0][c] = mean;
      if (running[1]) running[1][c] = variance;
    }
    const double scale = op.input(1).f64()[c] / std::sqrt(variance + epsilon);
    for (int64_t i = 0; i < count; ++i) y[at(i)] = (x[at(i)] - mean) * scale + op.input(2).f64()[c];
  }
  return {};
}

// The running statistics are state, not a path of the gradient.
Status BatchNormGradient(GradContext& g) {
  const ValueId x = g.input(0), dy = g.output_grad(0);
  const int rank = g.rank(x);
  const bool training = g.attributes().Int("training_mode", 0) != 0;
  const std::vector<int64_t> axes = AxesBut1(rank);
  Normalised n;
  if (training) {
    n = Normalise(g, x, axes);
  } else {
    n.inv = InverseRoot(g, PerChannel(g, g.input(4), rank), Epsilon(g.attributes()));
    n.xhat = g.Mul(g.Sub(x, PerChannel(g, g.input(3), rank)), n.inv);
  }
  const ValueId dxhat = g.Mul(dy, PerChannel(g, g.input(1), rank));
  g.SetInputGrad(0,
                 training ? CentredGradient(g, dxhat, n.xhat, n.inv, axes) : g.Mul(dxhat, n.inv));
  g.SetInputGrad(1, g.ReduceSum(g.Mul(dy, n.xhat), axes, false));
  g.SetInputGrad(2, g.ReduceSum(dy, axes, false));
  if (training) return {};
  const ValueId dmean = g.ReduceSum(g.Neg(g.Mul(dxhat, n.inv)), axes, false);
  const ValueId slope = g.Mul(g.Mul(g.Mul(dxhat, n.xhat), g.Mul(n.inv, n.inv)), -0.5);
  g.SetInputGrad(3, dmean);
  g.SetInputGrad(4, g.ReduceSum(slope, axes, false));
  return {};
}

// Before 14 there were up to five outputs and no training_mode; only inference files of them exist.
Status BatchNormUpgrade(UpgradeContext& u) {
  if (u.from_version >= 14) return {};
  if (u.node.attributes.Int("spatial", 1) == 0)
    return Unsupported("spatial=0, a normalisation of every place apart, is not supported");
  u.node.attributes.Erase("spatial");
  u.node.attributes.Erase("is_test");
  if (u.node.outputs.size() > 1) u.node.outputs.resize(1);
  return {};
}

OpDef BatchNorm() {
  return {
      .name = "BatchNormalization",
      .onnx_since = {1, 6, 7, 9, 14, 15},
      .min_inputs = 5,
      .max_inputs = 5,
      .dtypes = kFloatTypes,
      .infer = InferBatchNorm,
      .gradient = BatchNormGradient,
      .differentiable_outputs = 1,
      .reference = BatchNormReference,
      .upgrade = BatchNormUpgrade,
      .precision = PrecisionClass::kFp32,
      .samples =
          "BatchNormalization(x: f32[3,2,4,5], s: f32[2], b: f32[2], m: f32[2], "
          "v: f32[2] = uniform(0.5,2)) {epsilon=0.01}\n"
          "y, m2, v2 = BatchNormalization(x: f32[4,3,5], s: f32[3], b: f32[3], m: f32[3] = "
          "const uniform(0,1), v: f32[3] = const uniform(0.5,2)) {training_mode=1, momentum=0.8}\n"
          "BatchNormalization(x: f32[4,3], s: f32[3], b: f32[3], m: f32[3], "
          "v: f32[3] = uniform(0.5,2))\n"
          "BatchNormalization(x: f16[4,3], s: f16[3], b: f16[3], m: f16[3], "
          "v: f16[3] = uniform(0.5,2))\n"};
}

// ---- LayerNormalization and RMSNormalization, over the axes from `axis` on

Status InferLayer(InferContext& op) {
  const TensorType& x = op.input(0);
  for (int i = 1; i < 3; ++i) MINIM_TRY(op.SetUnknown(i, DType::f32));
  if (x.ranked()) {
    MINIM_TRY(const int axis, op.Axis(op.attributes().Int("axis", -1), x.rank()));
    Shape statistics = *x.shape;
    for (int i = axis; i < x.rank(); ++i) statistics[i] = Dim(1);
    for (int i = 1; i < 3; ++i) MINIM_TRY(op.SetOutput(i, DType::f32, statistics));
    for (int i = 1; i < op.input_count(); ++i) {
      if (!op.has_input(i) || !op.input(i).ranked()) continue;
      const auto merged = BroadcastShapes(*x.shape, *op.input(i).shape);
      if (!merged.ok() || merged->size() != x.shape->size())
        return op.Error("input {} has shape {}, which does not broadcast to {}", i,
                        ToString(*op.input(i).shape), ToString(*x.shape));
    }
  }
  return op.SetOutput(0, x);
}

template <bool kCentred>
Status LayerReference(RefContext& op) {
  const Dims& x = op.dims(0);
  const int axis = Positive(op.attributes().Int("axis", -1), x.rank());
  const int64_t rows = x.Elements(0, axis), count = x.Elements(axis, x.rank());
  std::vector<double> means(rows, 0), inverses(rows);
  const auto src = op.input(0).f64();
  for (int64_t r = 0; r < rows; ++r) {
    double square = 0;
    for (int64_t i = 0; kCentred && i < count; ++i)
      means[r] += src[r * count + i] / static_cast<double>(count);
    for (int64_t i = 0; i < count; ++i) {
      const double centred = src[r * count + i] - means[r];
      square += centred * centred / static_cast<double>(count);
    }
    inverses[r] = 1 / std::sqrt(square + Epsilon(op.attributes()));
  }
  RefTensor& y = op.Output(0);
  const Dims scale = BroadcastStrides(op.dims(1), x);
  const Dims bias = op.has_input(2) ? BroadcastStrides(op.dims(2), x) : Dims();
  ForEachIndex(x, [&](int64_t flat, const Dims& at) {
    const int64_t r = flat / count;
    const double value =
        (src[flat] - means[r]) * inverses[r] * op.input(1).f64()[OffsetOf(at, scale)];
    y.f64()[flat] = value + (op.has_input(2) ? op.input(2).f64()[OffsetOf(at, bias)] : 0);
  });
  if (kCentred && op.output_count() > 1 && op.has_output(1))
    std::copy(means.begin(), means.end(), op.Output(1).f64().begin());
  if (kCentred && op.output_count() > 2 && op.has_output(2))
    std::copy(inverses.begin(), inverses.end(), op.Output(2).f64().begin());
  return {};
}

Status LayerGradient(GradContext& g) {
  const ValueId x = g.input(0), dy = g.output_grad(0);
  const int rank = g.rank(x);
  const std::vector<int64_t> axes = AxesFrom(Positive(g.attributes().Int("axis", -1), rank), rank);
  const Normalised n = Normalise(g, x, axes);
  g.SetInputGrad(0, CentredGradient(g, g.Mul(dy, g.input(1)), n.xhat, n.inv, axes));
  g.SetInputGrad(1, g.SumToShapeOf(g.Mul(dy, n.xhat), g.input(1)));
  if (g.has_input(2)) g.SetInputGrad(2, g.SumToShapeOf(dy, g.input(2)));
  return {};
}

Status RmsGradient(GradContext& g) {
  const ValueId x = g.input(0), dy = g.output_grad(0);
  const int rank = g.rank(x);
  const std::vector<int64_t> axes = AxesFrom(Positive(g.attributes().Int("axis", -1), rank), rank);
  const ValueId inv = InverseRoot(g, MeanOver(g, g.Mul(x, x), axes), Epsilon(g.attributes()));
  const ValueId xhat = g.Mul(x, inv), dxhat = g.Mul(dy, g.input(1));
  const ValueId projected = g.Mul(xhat, MeanOver(g, g.Mul(dxhat, xhat), axes));
  g.SetInputGrad(0, g.Mul(g.Sub(dxhat, projected), inv));
  g.SetInputGrad(1, g.SumToShapeOf(g.Mul(dy, xhat), g.input(1)));
  return {};
}

OpDef DefineLayer(std::string name, std::vector<int> since, int max_inputs, Reference reference,
                  std::function<Status(GradContext&)> gradient, std::string samples) {
  return {.name = std::move(name),
          .onnx_since = std::move(since),
          .min_inputs = 2,
          .max_inputs = max_inputs,
          .dtypes = kFloatTypes,
          .infer = InferLayer,
          .gradient = std::move(gradient),
          .reference = std::move(reference),
          .precision = PrecisionClass::kFp32,
          .samples = std::move(samples)};
}

// ---- InstanceNormalization and LRN

Status InstanceReference(RefContext& op) {
  const Dims& x = op.dims(0);
  const int64_t count = x.Elements(2, x.rank());
  const auto src = op.input(0).f64();
  const auto y = op.Output(0).f64();
  for (int64_t plane = 0; plane < x[0] * x[1]; ++plane) {
    double mean = 0, variance = 0;
    for (int64_t i = 0; i < count; ++i) mean += src[plane * count + i] / static_cast<double>(count);
    for (int64_t i = 0; i < count; ++i) {
      const double centred = src[plane * count + i] - mean;
      variance += centred * centred / static_cast<double>(count);
    }
    const double scale =
        op.input(1).f64()[plane % x[1]] / std::sqrt(variance + Epsilon(op.attributes()));
    for (int64_t i = 0; i < count; ++i)
      y[plane * count + i] =
          (src[plane * count + i] - mean) * scale + op.input(2).f64()[plane % x[1]];
  }
  return {};
}

Status InstanceGradient(GradContext& g) {
  const ValueId x = g.input(0), dy = g.output_grad(0);
  const int rank = g.rank(x);
  const std::vector<int64_t> axes = AxesFrom(2, rank);
  const Normalised n = Normalise(g, x, axes);
  const ValueId dxhat = g.Mul(dy, PerChannel(g, g.input(1), rank));
  g.SetInputGrad(0, CentredGradient(g, dxhat, n.xhat, n.inv, axes));
  g.SetInputGrad(1, g.ReduceSum(g.Mul(dy, n.xhat), AxesBut1(rank), false));
  g.SetInputGrad(2, g.ReduceSum(dy, AxesBut1(rank), false));
  return {};
}

struct Lrn {
  double alpha, beta, bias;
  int64_t size;

  explicit Lrn(const Attributes& a)
      : alpha(a.Float("alpha", 1e-4f)),
        beta(a.Float("beta", 0.75f)),
        bias(a.Float("bias", 1.0f)),
        size(a.Int("size", 1)) {}
};

// sum over the window of channels around c: f(first, last + 1)
std::pair<int64_t, int64_t> Channels(const Lrn& lrn, int64_t c, int64_t count) {
  return {std::max<int64_t>(0, c - (lrn.size - 1) / 2), std::min(count, c + lrn.size / 2 + 1)};
}

Status LrnReference(RefContext& op) {
  const Dims& x = op.dims(0);
  const Lrn lrn(op.attributes());
  const int64_t inner = x.Elements(2, x.rank());
  const auto src = op.input(0).f64();
  const auto y = op.Output(0).f64();
  for (int64_t flat = 0; flat < op.input(0).size(); ++flat) {
    const int64_t c = flat / inner % x[1], base = flat - c * inner;
    const auto [first, last] = Channels(lrn, c, x[1]);
    double sum = 0;
    for (int64_t k = first; k < last; ++k) sum += src[base + k * inner] * src[base + k * inner];
    y[flat] =
        src[flat] / std::pow(lrn.bias + lrn.alpha / static_cast<double>(lrn.size) * sum, lrn.beta);
  }
  return {};
}

// With s the windowed term: dx = dy s^-beta - 2 alpha beta / size x W'(dy x s^(-beta-1)), where W
// sums over channels by a matrix of ones around the diagonal and W' is its transpose.
Status LrnGradient(GradContext& g) {
  const ValueId x = g.input(0), dy = g.output_grad(0);
  const Dims dims = g.type(x).dims();
  const Lrn lrn(g.attributes());
  const Dims flat({dims[0], dims[1], dims.Elements(2, dims.rank())});
  Tensor window(DType::f64, Dims({dims[1], dims[1]}));
  for (int64_t c = 0; c < dims[1]; ++c) {
    const auto [first, last] = Channels(lrn, c, dims[1]);
    for (int64_t k = first; k < last; ++k) window.as<double>()[c * dims[1] + k] = 1;
  }
  const ValueId w = g.Constant(Converted(window.view(), g.dtype(x)));
  const ValueId x3 = g.Reshape(x, flat), dy3 = g.Reshape(dy, flat);
  const double share = lrn.alpha / static_cast<double>(lrn.size);
  const ValueId s = g.Add(g.Mul(g.Emit("MatMul", {w, g.Mul(x3, x3)}), share), lrn.bias);
  const ValueId power = g.Emit("Pow", {s, g.ScalarLike(-lrn.beta, s)});
  const ValueId inner = g.Div(g.Mul(g.Mul(dy3, x3), power), s);
  const ValueId spread = g.Emit("MatMul", {g.Transpose(w, {1, 0}), inner});
  const ValueId dx = g.Sub(g.Mul(dy3, power), g.Mul(g.Mul(x3, spread), 2 * share * lrn.beta));
  g.SetInputGrad(0, g.Reshape(dx, dims));
  return {};
}

Status InferPlanes(InferContext& op) {
  if (op.input(0).ranked() && op.input(0).rank() < 2)
    return op.Error("input has shape {}, expected [N,C,...]", ToString(*op.input(0).shape));
  if (op.node().op == "LRN" && op.attributes().Int("size", 0) < 1)
    return op.Error("size is {}, expected 1 or more", op.attributes().Int("size", 0));
  return InferSameAsFirst(op);
}

Status InferInstance(InferContext& op) {
  for (int i = 1; i < 3 && op.input(0).ranked() && op.input(0).rank() > 1; ++i)
    MINIM_TRY(op.HasShape(i, {(*op.input(0).shape)[1]}));
  return InferPlanes(op);
}

}  // namespace

std::vector<OpDef> NormOps() {
  OpDef instance = {
      .name = "InstanceNormalization",
      .onnx_since = {1, 6, 22},
      .min_inputs = 3,
      .max_inputs = 3,
      .dtypes = kFloatTypes,
      .infer = InferInstance,
      .gradient = InstanceGradient,
      .reference = InstanceReference,
      .precision = PrecisionClass::kFp32,
      .samples =
          "InstanceNormalization(x: f32[2,3,4,5], s: f32[3], b: f32[3]) {epsilon=0.01}\n"
          "InstanceNormalization(x: f16[2,3,4], s: f16[3], b: f16[3])\n"};
  OpDef lrn = {.name = "LRN",
               .onnx_since = {1, 13},
               .dtypes = kFloatTypes,
               .infer = InferPlanes,
               .gradient = LrnGradient,
               .reference = LrnReference,
               .precision = PrecisionClass::kFp32,
               .samples =
                   "LRN(x: f32[2,5,3,2]) {size=3, alpha=0.5, beta=0.6, bias=2.0}\n"
                   "LRN(x: f32[1,6,3]) {size=4, alpha=0.3}\nLRN(x: f16[1,6,3]) {size=1}\n"};
  return {BatchNorm(),
          DefineLayer("LayerNormalization", {17}, 3, LayerReference<true>, LayerGradient,
                      "LayerNormalization(x: f32[3,7], s: f32[7], b: f32[7])\n"
                      "y, m, i = LayerNormalization(x: f16[2,3,4], s: f16[3,4]) {axis=1}\n"
                      "LayerNormalization(x: f32[2,3,4], s: f32[4]) {axis=-2, epsilon=0.01}\n"),
          DefineLayer("RMSNormalization", {23}, 2, LayerReference<false>, RmsGradient,
                      "RMSNormalization(x: f32[3,7], s: f32[7])\n"
                      "RMSNormalization(x: f32[2,3,4], s: f32[3,4]) {axis=1, epsilon=0.01}\n"
                      "RMSNormalization(x: f16[2,3], s: f16[3])\n"),
          std::move(instance), std::move(lrn)};
}

}  // namespace minim::ops
