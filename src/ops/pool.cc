// MaxPool, AveragePool, LpPool, their global forms, and gradients.
#include <cmath>

#include "ops/builder.h"
#include "ops/elementwise.h"
#include "ops/window.h"

namespace minim::ops {
namespace {

const DTypeList kMaxPoolTypes = {DType::f64,  DType::f32, DType::f16,
                                 DType::bf16, DType::i8,  DType::u8};

Dims Kernel(const Attributes& a) { return Dims(a.Ints("kernel_shape")); }
Window PoolWindow(const Attributes& a, const Dims& x) {
  return MakeWindow(a, Kernel(a), Spatial(x)).value();
}

Status InferPool(InferContext& op) {
  const TensorType& x = op.input(0);
  if (!x.ranked()) return op.SetUnknown(0, x.dtype);
  const std::vector<int64_t> kernel = op.attributes().Ints("kernel_shape");
  if (x.rank() < 3 || static_cast<int>(kernel.size()) != x.rank() - 2)
    return op.Error("kernel_shape has {} values for shape {}", kernel.size(), ToString(*x.shape));
  for (int64_t size : kernel)
    if (size < 1) return op.Error("kernel_shape holds {}, expected 1 or more", size);
  Shape shape = *x.shape;
  const bool same = op.attributes().String("auto_pad", "NOTSET").starts_with("SAME");
  const bool ceil = op.attributes().Int("ceil_mode", 0) != 0 && !same;
  for (int i = 2; i < x.rank(); ++i) {
    Dims in = Dims::Filled(x.rank() - 2, 1);
    if (shape[i].known()) in[i - 2] = shape[i].value();
    auto window = MakeWindow(op.attributes(), Dims(kernel), in);
    if (!window.ok()) return op.Error("{}", window.status().message());
    shape[i] = shape[i].known() ? Dim(WindowOutput(*window, in, ceil)[i - 2]) : Dim();
  }
  MINIM_TRY(op.SetOutput(1, DType::i64, shape));
  return op.SetOutput(0, x.dtype, std::move(shape));
}

// Visits each output element with the flat places its window covers: f(o, plane start, places).
template <typename F>
void ForEachWindow(const Window& w, const Dims& x, const Dims& y, F&& f) {
  const Dims in = Spatial(x), out = Spatial(y);
  for (int64_t plane = 0; plane < y[0] * y[1]; ++plane)
    ForEachIndex(out, [&](int64_t o, const Dims& at) {
      std::vector<int64_t> places;
      ForEachTap(w, in, at, [&](int64_t, int64_t place) { places.push_back(place); });
      f(plane * out.Elements() + o, plane * in.Elements(), at, places);
    });
}

// The first of the largest elements; a NaN counts as largest. -1 for an empty window.
template <typename T>
int64_t FirstLargest(std::span<const T> x, int64_t start, const std::vector<int64_t>& places) {
  int64_t best = -1;
  for (int64_t place : places) {
    const T value = x[start + place];
    if (best < 0 || value > x[start + best] ||
        (value != value && x[start + best] == x[start + best]))
      best = place;
  }
  return best;
}

// Indices count over the whole tensor; storage_order 1 counts spatial places column-major.
int64_t IndexOf(int64_t start, int64_t place, const Dims& in, bool column_major) {
  if (!column_major) return start + place;
  int64_t index = 0, stride = in.Elements();
  for (int i = in.rank() - 1; i >= 0; --i) {
    stride /= std::max<int64_t>(1, in[i]);
    index += place % in[i] * stride;
    place /= in[i];
  }
  return start + index;
}

Status MaxPoolReference(RefContext& op) {
  RefTensor& y = op.Output(0);
  const Dims& x = op.dims(0);
  const bool column_major = op.attributes().Int("storage_order", 0) != 0;
  int64_t* indices = op.has_output(1) ? op.Output(1).i64().data() : nullptr;
  VisitWideNumber(y.wide.dtype(), [&]<typename T>() {
    const auto src = op.input(0).wide.as<T>();
    ForEachWindow(
        PoolWindow(op.attributes(), x), x, y.dims(),
        [&](int64_t o, int64_t start, const Dims&, const std::vector<int64_t>& places) {
          const int64_t best = FirstLargest<T>(src, start, places);
          y.wide.as<T>()[o] = best < 0 ? std::numeric_limits<T>::lowest() : src[start + best];
          if (indices)
            indices[o] = IndexOf(start, std::max<int64_t>(0, best), Spatial(x), column_major);
        });
  });
  return {};
}

Status MaxPoolGradReference(RefContext& op) {
  RefTensor& dx = op.Output(0);
  const Dims& x = dx.dims();
  ForEachWindow(PoolWindow(op.attributes(), x), x, op.dims(0),
                [&](int64_t o, int64_t start, const Dims&, const std::vector<int64_t>& places) {
                  const int64_t best = FirstLargest<double>(op.input(1).f64(), start, places);
                  if (best >= 0) dx.f64()[start + best] += op.input(0).f64()[o];
                });
  return {};
}

// Elements by which an average divides: those inside, or also those in the padding.
double Divisor(const Window& w, const Dims& in, const Dims& at, size_t inside, bool include_pad) {
  if (!include_pad) return static_cast<double>(std::max<size_t>(1, inside));
  int64_t count = 1;
  for (int i = 0; i < w.rank(); ++i) {
    int64_t taps = 0;
    for (int64_t k = 0; k < w.kernel[i]; ++k)
      taps += at[i] * w.strides[i] - w.begins[i] + k * w.dilations[i] < in[i] + w.ends[i];
    count *= taps;
  }
  return static_cast<double>(std::max<int64_t>(1, count));
}

Status AveragePoolReference(RefContext& op) {
  RefTensor& y = op.Output(0);
  const Dims& x = op.dims(0);
  const Window w = PoolWindow(op.attributes(), x);
  const bool include = op.attributes().Int("count_include_pad", 0) != 0;
  ForEachWindow(w, x, y.dims(),
                [&](int64_t o, int64_t start, const Dims& at, const std::vector<int64_t>& places) {
                  double sum = 0;
                  for (int64_t place : places) sum += op.input(0).f64()[start + place];
                  y.f64()[o] = sum / Divisor(w, Spatial(x), at, places.size(), include);
                });
  return {};
}

Status AveragePoolGradReference(RefContext& op) {
  RefTensor& dx = op.Output(0);
  const Window w = PoolWindow(op.attributes(), dx.dims());
  const bool include = op.attributes().Int("count_include_pad", 0) != 0;
  ForEachWindow(w, dx.dims(), op.dims(0),
                [&](int64_t o, int64_t start, const Dims& at, const std::vector<int64_t>& places) {
                  const double share = op.input(0).f64()[o] /
                                       Divisor(w, Spatial(dx.dims()), at, places.size(), include);
                  for (int64_t place : places) dx.f64()[start + place] += share;
                });
  return {};
}

Status LpPoolReference(RefContext& op) {
  RefTensor& y = op.Output(0);
  const double p = static_cast<double>(op.attributes().Int("p", 2));
  ForEachWindow(PoolWindow(op.attributes(), op.dims(0)), op.dims(0), y.dims(),
                [&](int64_t o, int64_t start, const Dims&, const std::vector<int64_t>& places) {
                  double sum = 0;
                  for (int64_t place : places)
                    sum += std::pow(std::fabs(op.input(0).f64()[start + place]), p);
                  y.f64()[o] = std::pow(sum, 1 / p);
                });
  return {};
}

Attributes Explicit(GradContext& g) {
  Attributes attributes =
      WithPads(g.attributes(), PoolWindow(g.attributes(), g.type(g.input(0)).dims()));
  attributes.Erase("storage_order");
  return attributes;
}

Status MaxPoolGradient(GradContext& g) {
  g.SetInputGrad(0,
                 g.Emit("MaxPoolGrad", {g.output_grad(0), g.input(0)}, Explicit(g), kMinimDomain));
  return {};
}

Attributes WithInputShape(Attributes attributes, const Dims& x) {
  attributes.Set("input_shape", std::vector<int64_t>(x.begin(), x.end()));
  return attributes;
}

Status AveragePoolGradient(GradContext& g) {
  const Attributes attributes = WithInputShape(Explicit(g), g.type(g.input(0)).dims());
  g.SetInputGrad(0, g.Emit("AveragePoolGrad", {g.output_grad(0)}, attributes, kMinimDomain));
  return {};
}

// d (sum |x|^p)^(1/p) = x |x|^(p-2) y^(1-p) dy; the windows' sum is the pool average's gradient
// without its divisor.
Status LpPoolGradient(GradContext& g) {
  const double p = static_cast<double>(g.attributes().Int("p", 2));
  const ValueId x = g.input(0), y = g.output(0);
  Attributes attributes = WithInputShape(Explicit(g), g.type(x).dims());
  attributes.Erase("p");
  attributes.Set("count_include_pad", int64_t{1});
  if (g.attributes().Int("ceil_mode", 0) != 0)  // its divisors vary from window to window
    return Unsupported("LpPool '{}': no gradient with ceil_mode", g.node().name);
  const Window w = PoolWindow(g.attributes(), g.type(x).dims());
  const ValueId scale = g.Emit("Pow", {y, g.ScalarLike(1 - p, y)});
  const ValueId dy =
      g.Mul(g.Mul(g.output_grad(0), scale), static_cast<double>(w.kernel.Elements()));
  const ValueId spread = g.Emit("AveragePoolGrad", {dy}, attributes, kMinimDomain);
  const ValueId power = g.Emit("Pow", {g.Emit("Abs", {x}), g.ScalarLike(p - 1, x)});
  g.SetInputGrad(0, g.Mul(spread, g.Mul(g.Emit("Sign", {x}), power)));
  return {};
}

// dy, which is input 0, must be as large as the pool of x.
Status CheckPooled(const InferContext& op, const TensorType& x) {
  if (!x.Static() || !op.input(0).Static()) return {};
  Graph graph;
  Node node{.op = "MaxPool", .name = op.node().name, .attributes = op.attributes()};
  node.inputs = {graph.AddValue("", x)};
  node.outputs = {graph.AddValue("", {})};
  MINIM_TRY(InferNode(graph, node));
  const Dims pooled = graph.type(node.outputs[0]).dims();
  if (pooled == op.input(0).dims()) return {};
  return op.Error("gradient has dims {}, expected {}", op.input(0).dims().ToString(),
                  pooled.ToString());
}

Status InferMaxPoolGrad(InferContext& op) {
  MINIM_TRY(op.SameDType(0, 1));
  MINIM_TRY(CheckPooled(op, op.input(1)));
  return op.SetOutput(0, op.input(1));
}

Status InferInputShape(InferContext& op) {
  const std::vector<int64_t> dims = op.attributes().Ints("input_shape");
  if (dims.size() < 3 || dims.size() > static_cast<size_t>(kMaxRank))
    return op.Error("input_shape has {} dims, expected 3 to {}", dims.size(), kMaxRank);
  const TensorType x{op.dtype(0), ToShape(Dims(dims))};
  MINIM_TRY(CheckPooled(op, x));
  return op.SetOutput(0, x);
}

Status InferGlobal(InferContext& op) {
  if (!op.input(0).ranked()) return op.SetUnknown(0, op.dtype(0));
  if (op.input(0).rank() < 3)
    return op.Error("input has shape {}, expected [N,C,...]", ToString(*op.input(0).shape));
  Shape shape = *op.input(0).shape;
  for (size_t i = 2; i < shape.size(); ++i) shape[i] = Dim(1);
  return op.SetOutput(0, op.dtype(0), std::move(shape));
}

// The global pools are the pools whose window is the whole plane.
Attributes WholePlane(const Attributes& a, const Dims& x) {
  Attributes attributes = a;
  attributes.Set("kernel_shape", std::vector<int64_t>(x.begin() + 2, x.end()));
  return attributes;
}

using Gradient = std::function<Status(GradContext&)>;

Gradient GlobalGradient(Gradient rule) {
  return [rule](GradContext& g) -> Status {
    Node node = g.node();
    node.attributes = WholePlane(node.attributes, g.type(g.input(0)).dims());
    GradContext inner(g.graph(), node, {g.output_grad(0)});
    MINIM_TRY(rule(inner));
    MINIM_TRY(inner.status());
    g.SetInputGrad(0, inner.input_grads()[0]);
    return {};
  };
}

Reference GlobalReference(Reference reference) {
  return [reference](RefContext& op) -> Status {
    return op.WithAttributes(WholePlane(op.attributes(), op.dims(0)), reference);
  };
}

Status LpUpgrade(UpgradeContext& u) {  // 1: p was a float
  const float p = u.node.attributes.Float("p", 2.0f);
  if (u.from_version >= 2) return {};
  if (p != std::floor(p) || p < 1 || p > 64)
    return Unsupported("p is {}, expected a whole number from 1 to 64", p);
  u.node.attributes.Set("p", static_cast<int64_t>(p));
  return {};
}

OpDef Define(std::string name, std::vector<int> since, Reference reference, Gradient gradient,
             std::string samples) {
  return {.name = std::move(name),
          .onnx_since = std::move(since),
          .dtypes = kFloatTypes,
          .infer = InferPool,
          .gradient = std::move(gradient),
          .reference = std::move(reference),
          .samples = std::move(samples)};
}

OpDef DefineGlobal(std::string name, std::vector<int> since, Reference reference, Gradient gradient,
                   std::string_view attributes = "") {
  std::string samples = fmt::format(
      "{0}(x: f32[2,3,4,5] = away_from(0)) {1}\n{0}(x: f32[1,2,5] = away_from(0)) {1}\n"
      "{0}(x: f16[1,2,3])\n{0}(x: bf16[1,2,3])\n",
      name, attributes);
  OpDef def = Define(std::move(name), std::move(since), GlobalReference(std::move(reference)),
                     GlobalGradient(std::move(gradient)), std::move(samples));
  def.infer = InferGlobal;
  def.precision = PrecisionClass::kFp32;
  return def;
}

OpDef DefineGrad(std::string name, int inputs, std::function<Status(InferContext&)> infer,
                 Reference reference, std::string samples) {
  return {.name = std::move(name),
          .domain = std::string(kMinimDomain),
          .min_inputs = inputs,
          .max_inputs = inputs,
          .dtypes = kFloatTypes,
          .infer = std::move(infer),
          .reference = std::move(reference),
          .samples = std::move(samples)};
}

}  // namespace

std::vector<OpDef> PoolOps() {
  OpDef max = Define(
      "MaxPool", {1, 8, 10, 11, 12, 22}, MaxPoolReference, MaxPoolGradient,
      "MaxPool(x: f32[2,3,5,6]) {kernel_shape=[3,2], strides=[2,2], pads=[1,0,1,1]}\n"
      "y, i = MaxPool(x: f32[1,2,7]) {kernel_shape=[3], dilations=[2], strides=[2], ceil_mode=1}\n"
      "y, i = MaxPool(x: f64[1,1,4,4]) {kernel_shape=[2,2], storage_order=1}\n"
      "MaxPool(x: f32[1,1,5,5]) {kernel_shape=[2,2], auto_pad=\"SAME_UPPER\", strides=[2,2]}\n"
      "MaxPool(x: i8[1,1,5]) {kernel_shape=[2]}\nMaxPool(x: f16[1,1,5]) {kernel_shape=[2]}\n"
      "MaxPool(x: u8[1,1,5]) {kernel_shape=[2]}\nMaxPool(x: bf16[0,1,5]) {kernel_shape=[2]}\n");
  max.dtypes = kMaxPoolTypes;
  OpDef average = Define(
      "AveragePool", {1, 7, 10, 11, 19, 22}, AveragePoolReference, AveragePoolGradient,
      "AveragePool(x: f32[2,3,5,6]) {kernel_shape=[3,2], strides=[2,2], pads=[1,0,1,1]}\n"
      "AveragePool(x: f32[1,2,7]) {kernel_shape=[3], dilations=[2], strides=[3], ceil_mode=1}\n"
      "AveragePool(x: f32[1,2,7]) {kernel_shape=[3], strides=[3], pads=[1,1], ceil_mode=1, "
      "count_include_pad=1}\n"
      "AveragePool(x: f32[1,1,5,5]) {kernel_shape=[2,2], auto_pad=\"SAME_LOWER\"}\n"
      "AveragePool(x: f16[1,1,5]) {kernel_shape=[2]}\nAveragePool(x: bf16[1,1,5]) "
      "{kernel_shape=[2]}\n");
  OpDef lp = Define("LpPool", {1, 2, 11, 18, 22}, LpPoolReference, LpPoolGradient,
                    "LpPool(x: f32[2,3,5,6] = away_from(0)) {kernel_shape=[3,2], strides=[2,2]}\n"
                    "LpPool(x: f32[1,2,7] = away_from(0)) {kernel_shape=[3], dilations=[2], p=3}\n"
                    "LpPool(x: f16[1,2,7] = away_from(0)) {kernel_shape=[3], pads=[1,1]}\n");
  lp.precision = PrecisionClass::kFp32;
  OpDef global_lp =
      DefineGlobal("GlobalLpPool", {1, 2, 22}, LpPoolReference, LpPoolGradient, "{p=3}");
  lp.upgrade = global_lp.upgrade = LpUpgrade;
  return {
      std::move(max),
      std::move(average),
      std::move(lp),
      DefineGlobal("GlobalMaxPool", {1, 22}, MaxPoolReference, MaxPoolGradient),
      DefineGlobal("GlobalAveragePool", {1, 22}, AveragePoolReference, AveragePoolGradient),
      std::move(global_lp),
      DefineGrad(
          "MaxPoolGrad", 2, InferMaxPoolGrad, MaxPoolGradReference,
          "MaxPoolGrad(dy: f32[1,2,2,2], x: f32[1,2,4,4]) {kernel_shape=[2,2], strides=[2,2]}\n"),
      DefineGrad("AveragePoolGrad", 1, InferInputShape, AveragePoolGradReference,
                 "AveragePoolGrad(dy: f32[1,2,2,2]) {kernel_shape=[2,2], strides=[2,2], "
                 "input_shape=[1,2,4,4]}\n"),
  };
}

}  // namespace minim::ops
