// Element-wise functions of one argument without attributes: a table of f and its derivative.
#include <cmath>
#include <numbers>

#include "ops/builder.h"
#include "ops/elementwise.h"
#include "ops/infer.h"

namespace minim::ops {
namespace {

using Slope = std::function<ValueId(GradContext&, ValueId x, ValueId y)>;

struct Row {
  std::string name;
  std::vector<int> since;
  Reference reference;
  Slope slope;  // dy/dx
  std::string generator = "uniform(-3,3)";
  PrecisionClass precision = PrecisionClass::kWidest;
  DTypeList dtypes = kFloatTypes;
};

ValueId Square(Builder& g, ValueId a) { return g.Mul(a, a); }
ValueId Sqrt(Builder& g, ValueId a) { return g.Emit("Sqrt", {a}); }
ValueId Inverse(Builder& g, ValueId a) { return g.Emit("Reciprocal", {a}); }
ValueId OneMinus(Builder& g, ValueId a) { return g.Add(g.Neg(a), 1.0); }
ValueId Flat(GradContext& g, ValueId x, ValueId) { return g.ZerosLike(x); }

// An even tie goes to the even neighbour, whatever the floating-point environment says.
double RoundHalfEven(double x) { return x - std::remainder(x, 1.0); }

double Sigmoid(double x) {  // no overflow on either side
  return x >= 0 ? 1 / (1 + std::exp(-x)) : std::exp(x) / (1 + std::exp(x));
}
double Softplus(double x) { return std::max(x, 0.0) + std::log1p(std::exp(-std::fabs(x))); }
double Mish(double x) { return x * std::tanh(Softplus(x)); }

ValueId MishSlope(GradContext& g, ValueId x, ValueId) {
  const ValueId t = g.Emit("Tanh", {g.Emit("Softplus", {x})});
  const ValueId rest = g.Mul(g.Mul(x, g.Emit("Sigmoid", {x})), OneMinus(g, Square(g, t)));
  return g.Add(t, rest);
}

std::vector<Row> Arithmetic() {
  return {
      {"Neg",
       {1, 6, 13},
       EachNumber([](auto x) { return WrapSub(decltype(x){}, x); }),
       [](GradContext& g, ValueId x, ValueId) { return g.Add(g.ZerosLike(x), -1.0); },
       "uniform(-3,3)",
       PrecisionClass::kWidest,
       kSignedTypes},
      {"Abs",
       {1, 6, 13},
       EachNumber([](auto x) {
         if constexpr (std::is_same_v<decltype(x), double>)
           return std::fabs(x);
         else
           return x < decltype(x){} ? WrapSub(decltype(x){}, x) : x;
       }),
       [](GradContext& g, ValueId x, ValueId) { return g.Emit("Sign", {x}); },
       "away_from(0)",
       PrecisionClass::kWidest,
       kNumericTypes},
      {"Sign",
       {9, 13},
       EachNumber([](auto x) {
         using T = decltype(x);
         return x > T{} ? T{1} : x == T{} ? T{} : x < T{} ? static_cast<T>(T{} - T{1}) : x;
       }),
       Flat,
       "away_from(0)",
       PrecisionClass::kWidest,
       kNumericTypes},
      {"Floor", {1, 6, 13}, EachFloat([](double x) { return std::floor(x); }), Flat},
      {"Ceil", {1, 6, 13}, EachFloat([](double x) { return std::ceil(x); }), Flat},
      {"Round",
       {11, 22},
       EachFloat([](double x) { return std::isfinite(x) ? RoundHalfEven(x) : x; }),
       Flat},
      {"Sqrt",
       {1, 6, 13},
       EachFloat([](double x) { return std::sqrt(x); }),
       [](GradContext& g, ValueId, ValueId y) { return Inverse(g, g.Mul(y, 2.0)); },
       "uniform(0.5,3)"},
      {"Reciprocal",
       {1, 6, 13},
       EachFloat([](double x) { return 1 / x; }),
       [](GradContext& g, ValueId, ValueId y) { return g.Neg(Square(g, y)); },
       "away_from(0,0.5)",
       PrecisionClass::kFp32},
      {"Exp",
       {1, 6, 13},
       EachFloat([](double x) { return std::exp(x); }),
       [](GradContext&, ValueId, ValueId y) { return y; },
       "uniform(-3,3)",
       PrecisionClass::kFp32},
      {"Log",
       {1, 6, 13},
       EachFloat([](double x) { return std::log(x); }),
       [](GradContext& g, ValueId x, ValueId) { return Inverse(g, x); },
       "uniform(0.5,3)",
       PrecisionClass::kFp32},
  };
}

std::vector<Row> Circular() {
  return {
      {"Sin",
       {7, 22},
       EachFloat([](double x) { return std::sin(x); }),
       [](GradContext& g, ValueId x, ValueId) { return g.Emit("Cos", {x}); }},
      {"Cos",
       {7, 22},
       EachFloat([](double x) { return std::cos(x); }),
       [](GradContext& g, ValueId x, ValueId) { return g.Neg(g.Emit("Sin", {x})); }},
      {"Tan",
       {7, 22},
       EachFloat([](double x) { return std::tan(x); }),
       [](GradContext& g, ValueId, ValueId y) { return g.Add(Square(g, y), 1.0); },
       "uniform(-1.2,1.2)"},
      {"Asin",
       {7, 22},
       EachFloat([](double x) { return std::asin(x); }),
       [](GradContext& g, ValueId x, ValueId) {
         return Inverse(g, Sqrt(g, OneMinus(g, Square(g, x))));
       },
       "uniform(-0.9,0.9)"},
      {"Acos",
       {7, 22},
       EachFloat([](double x) { return std::acos(x); }),
       [](GradContext& g, ValueId x, ValueId) {
         return g.Neg(Inverse(g, Sqrt(g, OneMinus(g, Square(g, x)))));
       },
       "uniform(-0.9,0.9)"},
      {"Atan",
       {7, 22},
       EachFloat([](double x) { return std::atan(x); }),
       [](GradContext& g, ValueId x, ValueId) { return Inverse(g, g.Add(Square(g, x), 1.0)); }},
      {"Sinh",
       {9, 22},
       EachFloat([](double x) { return std::sinh(x); }),
       [](GradContext& g, ValueId x, ValueId) { return g.Emit("Cosh", {x}); }},
      {"Cosh",
       {9, 22},
       EachFloat([](double x) { return std::cosh(x); }),
       [](GradContext& g, ValueId x, ValueId) { return g.Emit("Sinh", {x}); }},
      {"Tanh",
       {1, 6, 13},
       EachFloat([](double x) { return std::tanh(x); }),
       [](GradContext& g, ValueId, ValueId y) { return OneMinus(g, Square(g, y)); }},
      {"Asinh",
       {9, 22},
       EachFloat([](double x) { return std::asinh(x); }),
       [](GradContext& g, ValueId x, ValueId) {
         return Inverse(g, Sqrt(g, g.Add(Square(g, x), 1.0)));
       }},
      {"Acosh",
       {9, 22},
       EachFloat([](double x) { return std::acosh(x); }),
       [](GradContext& g, ValueId x, ValueId) {
         return Inverse(g, Sqrt(g, g.Add(Square(g, x), -1.0)));
       },
       "uniform(1.5,4)"},
      {"Atanh",
       {9, 22},
       EachFloat([](double x) { return std::atanh(x); }),
       [](GradContext& g, ValueId x, ValueId) { return Inverse(g, OneMinus(g, Square(g, x))); },
       "uniform(-0.9,0.9)"},
  };
}

std::vector<Row> Smooth() {
  return {
      {"Erf",
       {9, 13},
       EachFloat([](double x) { return std::erf(x); }),
       [](GradContext& g, ValueId x, ValueId) {
         return g.Mul(g.Emit("Exp", {g.Neg(Square(g, x))}), 2 / std::sqrt(std::numbers::pi));
       }},
      {"Sigmoid",
       {1, 6, 13},
       EachFloat(Sigmoid),
       [](GradContext& g, ValueId, ValueId y) { return g.Mul(y, OneMinus(g, y)); }},
      {"Softsign",
       {1, 22},
       EachFloat([](double x) { return x / (1 + std::fabs(x)); }),
       [](GradContext& g, ValueId x, ValueId) {
         return Inverse(g, Square(g, g.Add(g.Emit("Abs", {x}), 1.0)));
       }},
      {"Softplus",
       {1, 22},
       EachFloat(Softplus),
       [](GradContext& g, ValueId x, ValueId) { return g.Emit("Sigmoid", {x}); }},
      {"Mish", {18, 22}, EachFloat(Mish), MishSlope},
  };
}

std::string Samples(const Row& row) {
  std::string text = FloatSamples(row.name, row.generator);
  for (DType dtype : row.dtypes)
    if (!IsFloat(dtype)) text += fmt::format("{}(x: {}[7])\n", row.name, Name(dtype));
  return text;
}

OpDef Define(const Row& row) {
  return {.name = row.name,
          .onnx_since = row.since,
          .dtypes = row.dtypes,
          .infer = InferSameAsFirst,
          .gradient = [slope = row.slope](GradContext& g) -> Status {
            g.SetInputGrad(0, g.Mul(g.output_grad(0), slope(g, g.input(0), g.output(0))));
            return {};
          },
          .reference = row.reference,
          .precision = row.precision,
          .traits = OpTrait::kElementwise,
          .samples = Samples(row)};
}

}  // namespace

std::vector<OpDef> UnaryOps() {
  std::vector<OpDef> defs;
  for (const auto& table : {Arithmetic(), Circular(), Smooth()})
    for (const Row& row : table) defs.push_back(Define(row));
  return defs;
}

}  // namespace minim::ops
