// Binary arithmetic: a table of the expression and the gradients of both sides.
#include <cmath>

#include "ops/builder.h"
#include "ops/elementwise.h"
#include "ops/infer.h"
#include "ops/upgrade.h"

namespace minim::ops {
namespace {

using Gradient = std::function<Status(GradContext&)>;

struct Row {
  std::string name;
  std::vector<int> since;
  Reference reference;
  Gradient gradient;
  std::string samples;
  DTypeList dtypes = kNumericTypes;
  std::function<Status(InferContext&)> infer = InferBroadcast;
  PrecisionClass precision = PrecisionClass::kWidest;
};

// Sets a side's gradient, summed over the axes along which the side was stretched.
void SetSide(GradContext& g, int side, ValueId grad) {
  g.SetInputGrad(side, g.SumToShapeOf(grad, g.input(side)));
}

Status AddGradient(GradContext& g) {
  SetSide(g, 0, g.output_grad(0));
  SetSide(g, 1, g.output_grad(0));
  return {};
}

Status SubGradient(GradContext& g) {
  SetSide(g, 0, g.output_grad(0));
  SetSide(g, 1, g.Neg(g.output_grad(0)));
  return {};
}

Status MulGradient(GradContext& g) {
  SetSide(g, 0, g.Mul(g.output_grad(0), g.input(1)));
  SetSide(g, 1, g.Mul(g.output_grad(0), g.input(0)));
  return {};
}

Status DivGradient(GradContext& g) {
  const ValueId da = g.Div(g.output_grad(0), g.input(1));
  SetSide(g, 0, da);
  SetSide(g, 1, g.Neg(g.Mul(da, g.output(0))));
  return {};
}

Status PowGradient(GradContext& g) {  // d(a^b) = b a^(b-1) da + a^b log(a) db
  const ValueId dy = g.output_grad(0), a = g.input(0);
  const ValueId b = g.Cast(g.input(1), g.dtype(a));
  const ValueId slope = g.Mul(b, g.Emit("Pow", {a, g.Add(b, -1.0)}));
  // A constant 0 exponent has slope 0 even where a^(b-1) is infinite.
  const ValueId zero = g.Emit("Equal", {b, g.ScalarLike(0, b)});
  SetSide(g, 0, g.Mul(dy, g.Select(zero, g.ZerosLike(g.output(0)), slope)));
  if (!IsFloat(g.dtype(g.input(1)))) return {};
  // log is only asked where a > 0; elsewhere the derivative in b is taken as 0.
  const ValueId positive = g.Greater(a, 0.0);
  const ValueId log = g.Emit("Log", {g.Select(positive, a, 1.0)});
  const ValueId db = g.Mul(dy, g.Mul(g.output(0), log));
  SetSide(g, 1, g.Cast(g.Select(positive, db, 0.0), g.dtype(g.input(1))));
  return {};
}

Status ModGradient(GradContext& g) {  // a - b * trunc(a / b)
  SetSide(g, 0, g.output_grad(0));
  const ValueId quotient = g.Div(g.Sub(g.input(0), g.output(0)), g.input(1));
  const ValueId whole = g.Emit("Round", {quotient});
  SetSide(g, 1, g.Neg(g.Mul(g.output_grad(0), whole)));
  return {};
}

Status PReluGradient(GradContext& g) {
  const ValueId below = g.Less(g.input(0), 0.0);
  const ValueId dy = g.output_grad(0);
  SetSide(g, 0, g.Select(below, g.Mul(dy, g.input(1)), dy));
  SetSide(g, 1, g.Select(below, g.Mul(dy, g.input(0)), 0.0));
  return {};
}

// Integers truncate towards zero. A zero divisor, which ONNX leaves open, gives 0; the one
// overflow, min / -1, wraps.
template <typename T>
T Divide(T a, T b) {
  if constexpr (std::is_floating_point_v<T>)
    return a / b;
  else if (b == 0)
    return T{};
  else if constexpr (std::is_signed_v<T>)
    return b == -1 ? WrapSub(T{}, a) : static_cast<T>(a / b);
  else
    return a / b;
}

// fmod = 0: the sign of the divisor (Python). fmod = 1: the sign of the dividend (C).
template <typename T>
T Modulo(T a, T b, bool c_style) {
  if constexpr (std::is_floating_point_v<T>)
    return std::fmod(a, b);
  else {
    if (b == 0 || b == static_cast<T>(-1)) return b == 0 || std::is_signed_v<T> ? T{} : a % b;
    const T r = a % b;
    return !c_style && r != 0 && (r < 0) != (b < 0) ? static_cast<T>(r + b) : r;
  }
}

Status ModReference(RefContext& op) {
  const bool c_style = op.attributes().Int("fmod", 0) != 0;
  return PairNumbers([c_style](auto a, auto b) { return Modulo(a, b, c_style); })(op);
}

Status InferMod(InferContext& op) {
  if (IsFloat(op.dtype(0)) && op.attributes().Int("fmod", 0) == 0)
    return op.Error("fmod is 0 on {}, expected 1: floats have no integer modulus",
                    Name(op.dtype(0)));
  return InferBroadcast(op);
}

int64_t IntegerPower(int64_t base, int64_t exponent) {
  if (exponent < 0) return ConvertTo<int64_t>(std::pow(static_cast<double>(base), exponent));
  int64_t result = 1;
  for (; exponent > 0; exponent >>= 1, base = WrapMul(base, base))
    if (exponent & 1) result = WrapMul(result, base);
  return result;
}

// The base and the exponent may differ in dtype; the result has the base's.
Status PowReference(RefContext& op) {
  RefTensor& y = op.Output(0);
  const RefTensor &a = op.input(0), &b = op.input(1);
  const bool integers = !a.is_float() && !b.is_float();
  VisitWideNumber(y.wide.dtype(), [&]<typename T>() {
    const auto dst = y.wide.as<T>();
    ForEachPair(y.dims(), a.dims(), b.dims(), [&](int64_t i, int64_t ia, int64_t ib) {
      dst[i] = integers ? static_cast<T>(IntegerPower(a.IntAt(ia), b.IntAt(ib)))
                        : ConvertTo<T>(std::pow(a.At(ia), b.At(ib)));
    });
  });
  return {};
}

std::string NumericSamples(const std::string& op, std::string_view divisor = "") {
  std::string text = PairSamples(op, "f32", "", divisor) + PairSamples(op, "i32", "", divisor);
  for (std::string_view dtype : {"f16", "bf16", "i64", "i8", "u8", "u64"})
    text += fmt::format("{0}(a: {1}[9] = uniform(1,9), b: {1}[9] = uniform(1,9))\n", op, dtype);
  return text;
}

// Before 7 a slope of one axis stood at the channels.
Status PReluUpgrade(UpgradeContext& u) {
  if (u.from_version >= 7 || u.node.input(1) == kNoValue) return {};
  const TensorType& slope = u.graph.type(u.node.input(1));
  const bool channels = slope.ranked() && slope.rank() == 1 && !((*slope.shape)[0] == Dim(1));
  return channels ? AlignOperand(u, 1) : Status();
}

std::vector<Row> Table() {
  return {
      {"Add",
       {1, 6, 7, 13, 14},
       PairNumbers([](auto a, auto b) { return WrapAdd(a, b); }),
       AddGradient,
       NumericSamples("Add")},
      {"Sub",
       {1, 6, 7, 13, 14},
       PairNumbers([](auto a, auto b) { return WrapSub(a, b); }),
       SubGradient,
       NumericSamples("Sub")},
      {"Mul",
       {1, 6, 7, 13, 14},
       PairNumbers([](auto a, auto b) { return WrapMul(a, b); }),
       MulGradient,
       NumericSamples("Mul")},
      {"Div",
       {1, 6, 7, 13, 14},
       PairNumbers([](auto a, auto b) { return Divide(a, b); }),
       DivGradient,
       NumericSamples("Div", "away_from(0,0.5)")},
      {"Pow",
       {1, 7, 12, 13, 15},
       PowReference,
       PowGradient,
       PairSamples("Pow", "f32", "uniform(0.5,2)") +
           "Pow(a: f32[5], b: i64[5] = index(4))\n"
           "Pow(a: f32[5] = away_from(0), b: f32 = const [3])\n"
           "Pow(a: i32[5], b: i32[5] = index(4))\n"
           "Pow(a: i64[5], b: f32[5] = index(4))\n",
       kNumericTypes,
       [](InferContext& op) { return InferBroadcastAs(op, op.dtype(0)); },
       PrecisionClass::kFp32},
      {"Mod",
       {10, 13},
       ModReference,
       ModGradient,
       PairSamples("Mod", "f32", "uniform(2,9)", "away_from(0,0.7)", "{fmod=1}") +
           "Mod(a: i32[5] = [7,-7,7,-7,3], b: i32[5] = [3,3,-3,-3,0])\n"
           "Mod(a: i32[5] = [7,-7,7,-7,3], b: i32[5] = [3,3,-3,-3,0]) {fmod=1}\n"
           "Mod(a: u8[3], b: u8[1] = [3])\n",
       kNumericTypes,
       InferMod},
      {"PRelu",
       {1, 6, 7, 9, 16},
       PairNumbers([](auto x, auto slope) { return x < decltype(x){} ? WrapMul(x, slope) : x; }),
       PReluGradient,
       "PRelu(x: f32[2,3,4] = away_from(0), slope: f32[3,1])\n"
       "PRelu(x: f32[7] = away_from(0), slope: f32[7])\n"
       "PRelu(x: f16[7], slope: f16)\nPRelu(x: i32[7], slope: i32[1])\n",
       kNumericTypes},
  };
}

}  // namespace

std::vector<OpDef> BinaryArithmetic() {
  std::vector<OpDef> defs;
  for (const Row& row : Table()) {
    defs.push_back({.name = row.name,
                    .onnx_since = row.since,
                    .min_inputs = 2,
                    .max_inputs = 2,
                    .dtypes = row.dtypes,
                    .infer = row.infer,
                    .gradient = row.gradient,
                    .reference = row.reference,
                    .upgrade = row.name == "PRelu" ? PReluUpgrade : BroadcastUpgrade,
                    .precision = row.precision,
                    .traits = OpTrait::kElementwise,
                    .samples = row.samples});
  }
  return defs;
}

}  // namespace minim::ops
