// Reductions over axes: a table of the fold and its gradient.
#include <algorithm>
#include <cmath>

#include "core/dtype.h"
#include "ops/elementwise.h"
#include "ops/movement.h"

namespace minim::ops {
namespace {

const DTypeList kWithBool = kAllTypes;

// The axes of a node: input 1, or all of them; none under noop_with_empty_axes.
std::vector<int> ReducedAxes(const Attributes& a, const std::vector<int64_t>& given, int rank) {
  std::vector<int> axes;
  if (given.empty() && a.Int("noop_with_empty_axes", 0) != 0) return axes;
  for (int64_t axis : given) axes.push_back(Positive(axis, rank));
  if (given.empty())
    for (int i = 0; i < rank; ++i) axes.push_back(i);
  return axes;
}

Status InferReduce(InferContext& op) {
  const TensorType& x = op.input(0);
  const bool keep = op.attributes().Int("keepdims", 1) != 0;
  std::optional<std::vector<int64_t>> given = std::vector<int64_t>();
  if (op.has_input(1)) given = op.IntsInput(1);
  if (!x.ranked()) return op.SetUnknown(0, x.dtype);
  if (!given) return keep ? op.SetOutput(0, x.dtype, Shape(x.rank())) : op.SetUnknown(0, x.dtype);
  MINIM_TRY(Axes(op, *given, x.rank()).status());
  const std::vector<int> axes = ReducedAxes(op.attributes(), *given, x.rank());
  Shape shape;
  for (int i = 0; i < x.rank(); ++i) {
    const bool reduced = std::find(axes.begin(), axes.end(), i) != axes.end();
    if (!reduced || keep) shape.push_back(reduced ? Dim(1) : (*x.shape)[i]);
  }
  return op.SetOutput(0, x.dtype, std::move(shape));
}

// A real result of integers becomes an int64 and wraps, as in the kernels.
template <typename T, typename R>
T Stored(R result) {
  if constexpr (std::is_floating_point_v<R> && !std::is_floating_point_v<T>)
    return static_cast<T>(ConvertTo<int64_t>(result));
  else
    return static_cast<T>(result);
}

// f(values of one output element, dtype) over every output element. Booleans come as u64.
template <typename F>
Reference FoldAxes(F f) {
  return [f](RefContext& op) -> Status {
    RefTensor& y = op.Output(0);
    const Dims& x = op.dims(0);
    const auto given = op.has_input(1) ? op.Ints(1) : std::vector<int64_t>();
    const std::vector<int> axes = ReducedAxes(op.attributes(), given, x.rank());
    Dims outer = x, inner = Dims::Filled(x.rank(), 1);
    for (int axis : axes) std::swap(outer[axis], inner[axis]);
    const Dims strides = RowMajorStrides(x);
    VisitWide(y.wide.dtype(), [&]<typename T>() {
      using V = std::conditional_t<std::is_same_v<T, bool>, uint64_t, T>;
      ForEachIndex(outer, [&](int64_t flat, const Dims& at) {
        std::vector<V> values;
        const int64_t start = OffsetOf(at, strides);
        ForEachIndex(inner, [&](int64_t, const Dims& in) {
          values.push_back(op.input(0).wide.as<T>()[start + OffsetOf(in, strides)]);
        });
        y.wide.as<T>()[flat] = Stored<T>(f(values, y.dtype));
      });
    });
    return {};
  };
}

// What a gradient sees: dy and y under the shape that keepdims would have left.
struct Kept {
  ValueId x, y, dy;
  std::vector<int64_t> axes;
  int64_t count;  // elements folded into one
};
using Rule = std::function<ValueId(GradContext&, const Kept&)>;

std::function<Status(GradContext&)> Gradient(Rule rule) {
  return [rule](GradContext& g) -> Status {
    const Dims x = g.type(g.input(0)).dims();
    std::vector<int64_t> given;
    if (g.has_input(1)) {
      MINIM_TRY(given, g.ConstantInts(1));
    }
    Dims dims = x;
    Kept kept{.x = g.input(0), .count = 1};
    for (int axis : ReducedAxes(g.attributes(), given, x.rank())) {
      kept.count *= x[axis];
      dims[axis] = 1;
      kept.axes.push_back(axis);
    }
    if (kept.axes.empty() && x.rank() > 0) {  // nothing is reduced: one fold per element
      kept.dy = g.output_grad(0), kept.y = g.output(0);
    } else {
      kept.dy = g.Reshape(g.output_grad(0), dims), kept.y = g.Reshape(g.output(0), dims);
    }
    const ValueId dx = rule(g, kept);
    g.SetInputGrad(
        0, g.type(dx).dims() == x ? dx : g.Emit("Expand", {dx, g.Ints({x.begin(), x.end()})}));
    return {};
  };
}

ValueId ReduceKept(GradContext& g, std::string_view op, ValueId value, const Kept& k) {
  if (k.axes.empty()) return value;
  return g.Emit(op, {value, g.Ints(k.axes)}, {{"keepdims", int64_t{1}}});
}

// Ties share the gradient.
ValueId ExtremeRule(GradContext& g, const Kept& k) {
  const ValueId holds = g.Cast(g.Emit("Equal", {k.x, k.y}), g.dtype(k.x));
  return g.Mul(g.Div(holds, ReduceKept(g, "ReduceSum", holds, k)), k.dy);
}

// The product of the others, right also where one or more elements are 0.
ValueId ProdRule(GradContext& g, const Kept& k) {
  const ValueId zero = g.Emit("Equal", {k.x, g.ScalarLike(0, k.x)});
  const ValueId one = g.ScalarLike(1, k.x);
  const ValueId filled = g.Select(zero, one, k.x);
  const ValueId zeros = ReduceKept(g, "ReduceSum", g.Cast(zero, g.dtype(k.x)), k);
  const ValueId product = g.Mul(ReduceKept(g, "ReduceProd", filled, k), k.dy);
  const ValueId beside_zero = g.Select(g.Less(zeros, 1.5), product, 0.0);
  const ValueId beside_none = g.Select(g.Less(zeros, 0.5), g.Div(product, filled), 0.0);
  return g.Select(zero, beside_zero, beside_none);
}

template <typename V>
V Sum(const std::vector<V>& values) {
  V sum{};
  for (V value : values) sum = WrapAdd(sum, value);
  return sum;
}

template <typename V, typename F>
V Extreme(const std::vector<V>& values, double empty, DType dtype, F better) {
  // An empty set gives the worst value of the dtype.
  if (values.empty()) {
    if (dtype == DType::bool_) return static_cast<V>(empty < 0 ? 0 : 1);
    return Visit(dtype, [&]<typename T>() -> V {
      if constexpr (kIsFloatType<T>)
        return static_cast<V>(empty);
      else
        return static_cast<V>(empty < 0 ? std::numeric_limits<T>::min()
                                        : std::numeric_limits<T>::max());
    });
  }
  V best = values[0];
  for (V value : values)
    if (value != value || better(value, best)) best = value;
  return best;
}

// log(sum(exp(x))), shifted by the largest element so that nothing overflows.
template <typename V>
double LogSumExp(const std::vector<V>& values) {
  double largest = -INFINITY, sum = 0;
  for (V value : values) largest = std::max(largest, static_cast<double>(value));
  if (std::isinf(largest)) return largest;
  for (V value : values) sum += std::exp(static_cast<double>(value) - largest);
  return largest + std::log(sum);
}

struct Row {
  std::string name;
  Reference reference;
  Rule rule;
  std::string generator = "";
  std::vector<int> since = {1, 11, 13, 18};
  DTypeList dtypes = kNumericTypes;
  PrecisionClass precision = PrecisionClass::kFp32;
};

ValueId Inverse(GradContext& g, ValueId a) { return g.Emit("Reciprocal", {a}); }

std::vector<Row> Sums() {
  return {
      {"ReduceSum",
       FoldAxes([](const auto& v, DType) { return Sum(v); }),
       [](GradContext&, const Kept& k) { return k.dy; },
       "",
       {1, 11, 13}},
      {"ReduceMean", FoldAxes([](const auto& v, DType) {
         using V = typename std::decay_t<decltype(v)>::value_type;
         if (v.empty()) return std::is_floating_point_v<V> ? static_cast<V>(NAN) : V{};
         return static_cast<V>(Sum(v) / static_cast<V>(v.size()));
       }),
       [](GradContext& g, const Kept& k) {
         return g.Mul(k.dy, 1.0 / static_cast<double>(k.count));
       }},
      {"ReduceSumSquare", FoldAxes([](auto v, DType) {
         for (auto& value : v) value = WrapMul(value, value);
         return Sum(v);
       }),
       [](GradContext& g, const Kept& k) { return g.Mul(g.Mul(k.x, 2.0), k.dy); }},
      {"ReduceProd", FoldAxes([](const auto& v, DType) {
         typename std::decay_t<decltype(v)>::value_type product{1};
         for (auto value : v) product = WrapMul(product, value);
         return product;
       }),
       ProdRule, "away_from(0)"},
  };
}

std::vector<Row> Norms() {
  return {
      {"ReduceL1", FoldAxes([](auto v, DType) {
         for (auto& value : v)
           if (value < decltype(+value){}) value = WrapSub(decltype(+value){}, value);
         return Sum(v);
       }),
       [](GradContext& g, const Kept& k) { return g.Mul(g.Emit("Sign", {k.x}), k.dy); },
       "away_from(0)"},
      {"ReduceL2", FoldAxes([](const auto& v, DType) {
         double sum = 0;
         for (auto value : v) sum += static_cast<double>(value) * static_cast<double>(value);
         return std::sqrt(sum);
       }),
       [](GradContext& g, const Kept& k) { return g.Mul(g.Mul(k.x, Inverse(g, k.y)), k.dy); },
       "away_from(0)"},
      {"ReduceLogSum",
       FoldAxes([](const auto& v, DType) { return std::log(static_cast<double>(Sum(v))); }),
       [](GradContext& g, const Kept& k) { return g.Mul(g.Emit("Exp", {g.Neg(k.y)}), k.dy); },
       "uniform(1,3)"},
      {"ReduceLogSumExp", FoldAxes([](const auto& v, DType) { return LogSumExp(v); }),
       [](GradContext& g, const Kept& k) { return g.Mul(g.Emit("Exp", {g.Sub(k.x, k.y)}), k.dy); }},
  };
}

std::vector<Row> Extremes() {
  return {
      {"ReduceMax",
       FoldAxes([](const auto& v, DType dtype) {
         return Extreme(v, -INFINITY, dtype, [](auto a, auto b) { return a > b; });
       }),
       ExtremeRule,
       "",
       {1, 11, 12, 13, 18, 20},
       kWithBool,
       PrecisionClass::kWidest},
      {"ReduceMin",
       FoldAxes([](const auto& v, DType dtype) {
         return Extreme(v, INFINITY, dtype, [](auto a, auto b) { return a < b; });
       }),
       ExtremeRule,
       "",
       {1, 11, 12, 13, 18, 20},
       kWithBool,
       PrecisionClass::kWidest},
  };
}

std::string Samples(const Row& row) {
  const std::string from = row.generator.empty() ? "" : " = " + row.generator;
  std::string text = fmt::format(
      "{0}(x: f32[3,2,5]{1})\n{0}(x: f32[3,2,5]{1}, a: i64[2] = [0,-1]) {{keepdims=0}}\n"
      "{0}(x: f32[3,4]{1}, a: i64[1] = [1])\n{0}(x: f32{1})\n"
      "{0}(x: f32[2,3]{1}, a: i64[0] = []) {{noop_with_empty_axes=1}}\n"
      "{0}(x: f16[9]{1})\n{0}(x: bf16[9]{1})\n{0}(x: i32[5] = uniform(1,5))\n"
      "{0}(x: u64[5] = uniform(1,5))\n",
      row.name, from);
  if (row.dtypes.size() == kAllTypes.size()) text += fmt::format("{}(x: bool[3])\n", row.name);
  return text;
}

}  // namespace

std::vector<OpDef> Reductions() {
  std::vector<OpDef> defs;
  for (const auto& table : {Sums(), Norms(), Extremes()}) {
    for (const Row& row : table) {
      defs.push_back({.name = row.name,
                      .onnx_since = row.since,
                      .max_inputs = 2,
                      .dtypes = row.dtypes,
                      .infer = InferReduce,
                      .gradient = Gradient(row.rule),
                      .reference = row.reference,
                      .upgrade = [](UpgradeContext& u) -> Status {  // axes were an attribute
                        u.AttributeToInput("axes", 1);
                        return {};
                      },
                      .precision = row.precision,
                      .samples = Samples(row)});
    }
  }
  return defs;
}

}  // namespace minim::ops
