// Activations with attributes: a table of f, its derivative, and the attributes' defaults.
#include <cmath>
#include <numbers>

#include "ops/builder.h"
#include "ops/elementwise.h"
#include "ops/infer.h"

namespace minim::ops {
namespace {

using Slope = std::function<ValueId(GradContext&, ValueId x, ValueId y)>;
// ONNX's defaults for Selu, to the digits that float32 keeps.
constexpr float kSeluAlpha = 1.67326319217681884765625f;
constexpr float kSeluGamma = 1.05070102214813232421875f;
constexpr float kQuickGeluAlpha = 1.702f;
const double kGeluTanhScale = std::sqrt(2 / std::numbers::pi);
constexpr double kGeluCubic = 0.044715;

struct Row {
  std::string name;
  std::vector<int> since;
  Reference reference;
  Slope slope;
  std::string generator;
  std::string attributes;  // of the sample that sets them all
  std::string domain = "";
  std::function<Status(UpgradeContext&)> upgrade = {};
};

ValueId Constant(GradContext& g, ValueId like, double value) {
  return g.Add(g.ZerosLike(like), value);
}

double Sigmoid(double x) {
  return x >= 0 ? 1 / (1 + std::exp(-x)) : std::exp(x) / (1 + std::exp(x));
}

double GeluErf(double x) { return 0.5 * x * (1 + std::erf(x / std::numbers::sqrt2)); }
double GeluTanh(double x) {
  return 0.5 * x * (1 + std::tanh(kGeluTanhScale * (x + kGeluCubic * x * x * x)));
}

ValueId GeluErfSlope(GradContext& g, ValueId x) {
  const ValueId cdf = g.Mul(g.Add(g.Emit("Erf", {g.Mul(x, 1 / std::numbers::sqrt2)}), 1.0), 0.5);
  const ValueId bell = g.Emit("Exp", {g.Mul(g.Mul(x, x), -0.5)});
  return g.Add(cdf, g.Mul(g.Mul(x, bell), 1 / std::sqrt(2 * std::numbers::pi)));
}

ValueId GeluTanhSlope(GradContext& g, ValueId x) {
  const ValueId square = g.Mul(x, x);
  const ValueId inner = g.Mul(g.Mul(x, g.Add(g.Mul(square, kGeluCubic), 1.0)), kGeluTanhScale);
  const ValueId t = g.Emit("Tanh", {inner});
  const ValueId inner_slope = g.Mul(g.Add(g.Mul(square, 3 * kGeluCubic), 1.0), kGeluTanhScale);
  const ValueId rest = g.Mul(g.Mul(x, g.Add(g.Neg(g.Mul(t, t)), 1.0)), inner_slope);
  return g.Mul(g.Add(g.Add(t, 1.0), rest), 0.5);
}

// x * sigmoid(alpha x)
ValueId SwishSlope(GradContext& g, ValueId x, ValueId y, double alpha) {
  const ValueId s = g.Emit("Sigmoid", {g.Mul(x, alpha)});
  return g.Add(s, g.Mul(g.Mul(y, g.Add(g.Neg(s), 1.0)), alpha));
}

Row SwishRow(std::string name, std::vector<int> since, float fallback, std::string domain) {
  return {std::move(name),
          std::move(since),
          EachFloatWith([fallback](const Attributes& a) {
            return
                [alpha = a.Float("alpha", fallback)](double x) { return x * Sigmoid(alpha * x); };
          }),
          [fallback](GradContext& g, ValueId x, ValueId y) {
            return SwishSlope(g, x, y, g.attributes().Float("alpha", fallback));
          },
          "uniform(-3,3)",
          "{alpha=0.7}",
          std::move(domain)};
}

std::vector<Row> Gelus() {
  return {
      {"Gelu",
       {20},
       EachFloatWith([](const Attributes& a) {
         return a.String("approximate", "none") == "tanh" ? GeluTanh : GeluErf;
       }),
       [](GradContext& g, ValueId x, ValueId) {
         const bool tanh = g.attributes().String("approximate", "none") == "tanh";
         return tanh ? GeluTanhSlope(g, x) : GeluErfSlope(g, x);
       },
       "uniform(-3,3)",
       "{approximate=\"tanh\"}"},
      {"Gelu",
       {1},
       EachFloat(GeluErf),
       [](GradContext& g, ValueId x, ValueId) { return GeluErfSlope(g, x); },
       "uniform(-3,3)",
       "",
       std::string(kMicrosoftDomain)},
      SwishRow("QuickGelu", {1}, kQuickGeluAlpha, std::string(kMicrosoftDomain)),
      SwishRow("Swish", {24}, 1.0f, ""),
  };
}

std::vector<Row> Hard() {
  return {
      {"HardSigmoid",
       {1, 6, 22},
       EachFloatWith([](const Attributes& a) {
         return [alpha = a.Float("alpha", 0.2f), beta = a.Float("beta", 0.5f)](double x) {
           return std::isnan(x) ? x : std::clamp(alpha * x + beta, 0.0, 1.0);
         };
       }),
       [](GradContext& g, ValueId x, ValueId y) {
         const ValueId inside = g.Emit("And", {g.Greater(y, 0.0), g.Less(y, 1.0)});
         return g.Select(inside, Constant(g, x, g.attributes().Float("alpha", 0.2f)), 0.0);
       },
       "uniform(-1.5,1.5)",
       "{alpha=0.4, beta=0.3}"},
      {"HardSwish",
       {14, 22},
       EachFloat(
           [](double x) { return std::isnan(x) ? x : x * std::clamp(x / 6 + 0.5, 0.0, 1.0); }),
       [](GradContext& g, ValueId x, ValueId) {
         const ValueId middle = g.Add(g.Mul(x, 1.0 / 3), 0.5);
         const ValueId upper = g.Select(g.Less(x, 3.0), middle, 1.0);
         return g.Select(g.Greater(x, -3.0), upper, 0.0);
       },
       "uniform(-5,5)",
       ""},
      {"LeakyRelu",
       {1, 6, 16},
       EachFloatWith([](const Attributes& a) {
         return [alpha = a.Float("alpha", 0.01f)](double x) { return x < 0 ? alpha * x : x; };
       }),
       [](GradContext& g, ValueId x, ValueId) {
         return g.Select(g.Less(x, 0.0), Constant(g, x, g.attributes().Float("alpha", 0.01f)), 1.0);
       },
       "away_from(0)",
       "{alpha=0.2}"},
      {"ThresholdedRelu",
       {10, 22},
       EachFloatWith([](const Attributes& a) {
         return [alpha = a.Float("alpha", 1.0f)](double x) { return x > alpha ? x : 0.0; };
       }),
       [](GradContext& g, ValueId x, ValueId) {
         const ValueId above = g.Greater(x, g.attributes().Float("alpha", 1.0f));
         return g.Select(above, Constant(g, x, 1.0), 0.0);
       },
       "away_from(1)",
       "{alpha=0.95}"},
  };
}

Status SeluUpgrade(UpgradeContext& u) {  // 1 rounded its defaults
  if (u.from_version >= 6) return {};
  if (!u.node.attributes.Has("alpha")) u.node.attributes.Set("alpha", 1.6732f);
  if (!u.node.attributes.Has("gamma")) u.node.attributes.Set("gamma", 1.0507f);
  return {};
}

std::vector<Row> Exponential() {
  return {
      {"Elu",
       {1, 6, 22},
       EachFloatWith([](const Attributes& a) {
         return [alpha = a.Float("alpha", 1.0f)](double x) {
           return x < 0 ? alpha * std::expm1(x) : x;
         };
       }),
       [](GradContext& g, ValueId x, ValueId y) {
         return g.Select(g.Less(x, 0.0), g.Add(y, g.attributes().Float("alpha", 1.0f)), 1.0);
       },
       "away_from(0)",
       "{alpha=0.7}"},
      {"Celu",
       {12},
       EachFloatWith([](const Attributes& a) {
         return [alpha = a.Float("alpha", 1.0f)](double x) {
           return x < 0 ? alpha * std::expm1(x / alpha) : x;
         };
       }),
       [](GradContext& g, ValueId x, ValueId) {
         const ValueId scaled = g.Mul(x, 1.0 / g.attributes().Float("alpha", 1.0f));
         return g.Select(g.Less(x, 0.0), g.Emit("Exp", {scaled}), 1.0);
       },
       "away_from(0)",
       "{alpha=0.7}"},
      {"Selu",
       {1, 6, 22},
       EachFloatWith([](const Attributes& a) {
         const double gamma = a.Float("gamma", kSeluGamma);
         return [gamma, alpha = a.Float("alpha", kSeluAlpha)](double x) {
           return gamma * (x > 0 ? x : alpha * std::expm1(x));
         };
       }),
       [](GradContext& g, ValueId x, ValueId y) {
         const double gamma = g.attributes().Float("gamma", kSeluGamma);
         const double alpha = g.attributes().Float("alpha", kSeluAlpha);
         return g.Select(g.Less(x, 0.0), g.Add(y, gamma * alpha), gamma);
       },
       "away_from(0)",
       "{alpha=1.5, gamma=1.25}",
       "",
       SeluUpgrade},
  };
}

OpDef Define(const Row& row) {
  return {.name = row.name,
          .domain = row.domain,
          .onnx_since = row.since,
          .dtypes = kFloatTypes,
          .infer = InferSameAsFirst,
          .gradient = [slope = row.slope](GradContext& g) -> Status {
            g.SetInputGrad(0, g.Mul(g.output_grad(0), slope(g, g.input(0), g.output(0))));
            return {};
          },
          .reference = row.reference,
          .upgrade = row.upgrade,
          .traits = OpTrait::kElementwise,
          .samples = row.attributes.empty()
                         ? FloatSamples(row.name, row.generator)
                         : FloatSamples(row.name, row.generator, row.attributes)};
}

// Outside the band |x| <= lambd the value moves towards zero by bias, and inside it is zero.
// Integers take part, so it stands beside the table.
Status ShrinkReference(RefContext& op) {
  const double lambd = op.attributes().Float("lambd", 0.5f);
  const double bias = op.attributes().Float("bias", 0.0f);
  RefTensor& y = op.Output(0);
  VisitWideNumber(y.wide.dtype(), [&]<typename T>() {
    const auto x = op.input(0).wide.as<T>();
    for (size_t i = 0; i < x.size(); ++i) {
      const double v = static_cast<double>(x[i]);
      y.wide.as<T>()[i] = static_cast<T>(v < -lambd ? v + bias : v > lambd ? v - bias : 0.0);
    }
  });
  return {};
}

Status ShrinkGradient(GradContext& g) {
  const ValueId size = g.Emit("Abs", {g.input(0)});
  const ValueId outside = g.Greater(size, g.attributes().Float("lambd", 0.5f));
  g.SetInputGrad(0, g.Select(outside, g.output_grad(0), 0.0));
  return {};
}

OpDef Shrink() {
  return {.name = "Shrink",
          .onnx_since = {9},
          .dtypes = kNumericTypes,
          .infer = InferSameAsFirst,
          .gradient = ShrinkGradient,
          .reference = ShrinkReference,
          .traits = OpTrait::kElementwise,
          .samples = FloatSamples("Shrink", "uniform(-0.4,0.4)") +
                     "Shrink(x: f32[9] = away_from(0)) {lambd=0.05, bias=0.25}\n"
                     "Shrink(x: i32[9]) {lambd=2.0, bias=1.0}\n"};
}

}  // namespace

std::vector<OpDef> Activations() {
  std::vector<OpDef> defs;
  for (const auto& table : {Gelus(), Hard(), Exponential()})
    for (const Row& row : table) defs.push_back(Define(row));
  defs.push_back(Shrink());
  return defs;
}

}  // namespace minim::ops
