// minim's own optimizers, with PyTorch's formulas, and the norm that they clip by. Inputs: rate R,
// the number T of this update (from 1), the inverse S of the loss scale, the clipping coefficient
// C, then the tensors X..., their gradients G... and their states; outputs are the new X... and
// states. A gradient is used as clamp(G * S * C, +-clip_value), plus weight_decay * X unless
// decoupled.
#include <algorithm>
#include <bit>
#include <cmath>

#include "ops/infer.h"
#include "ops/reference.h"

namespace minim::ops {
namespace {

constexpr int kFirst = 4;  // the first X

using StatesFunction = int (*)(const Attributes&);

// One tensor in f64: x and its states change.
struct Tensors {
  std::vector<double> x, g;
  std::vector<std::vector<double>> states;
};

struct Rule {
  double rate, count, decay;
};

using UpdateFunction = void (*)(const Attributes&, const Rule&, Tensors&);

int OneState(const Attributes&) { return 1; }
int TwoStates(const Attributes&) { return 2; }
int MomentumState(const Attributes& a) { return a.Float("momentum", 0) != 0 ? 1 : 0; }
int SquareAndMomentum(const Attributes& a) { return 1 + MomentumState(a); }

Status UpdateReference(RefContext& op, int states, UpdateFunction update) {
  const Attributes& a = op.attributes();
  const int n = (op.input_count() - kFirst) / (2 + states);
  const bool decoupled = a.Int("decoupled", 0) != 0;
  const double limit = a.Float("clip_value", 0);
  const Rule rule{op.input(0).At(0), op.input(1).At(0), a.Float("weight_decay", 0)};
  const double scale = op.input(2).At(0) * op.input(3).At(0);
  for (int i = 0; i < n; ++i) {
    const auto values = [&](int group) {
      const auto from = op.input(kFirst + group * n + i).f64();
      return std::vector<double>(from.begin(), from.end());
    };
    Tensors t{values(0), values(1), {}};
    for (int s = 0; s < states; ++s) t.states.push_back(values(2 + s));
    for (size_t k = 0; k < t.x.size(); ++k) {
      t.g[k] *= scale;
      if (limit > 0) t.g[k] = std::clamp(t.g[k], -limit, limit);
      if (!decoupled) t.g[k] += rule.decay * t.x[k];
    }
    update(a, rule, t);
    const auto store = [&](int group, const std::vector<double>& from) {
      std::copy(from.begin(), from.end(), op.Output(group * n + i).f64().begin());
    };
    store(0, t.x);
    for (int s = 0; s < states; ++s) store(1 + s, t.states[s]);
  }
  return {};
}

void Sgd(const Attributes& a, const Rule& rule, Tensors& t) {
  const double momentum = a.Float("momentum", 0);
  const bool nesterov = a.Int("nesterov", 0) != 0;
  for (size_t k = 0; k < t.x.size(); ++k) {
    double step = t.g[k];
    if (momentum != 0) {
      double& v = t.states[0][k];
      v = momentum * v + t.g[k];
      step = nesterov ? t.g[k] + momentum * v : v;
    }
    t.x[k] -= rule.rate * step;
  }
}

// Moments of Adam; f(k, direction) with the corrected quotient, before the rate.
template <typename F>
void AdamDirections(const Attributes& a, const Rule& rule, Tensors& t, F&& visit) {
  const double beta1 = a.Float("beta1", 0.9f), beta2 = a.Float("beta2", 0.999f);
  const double epsilon = a.Float("epsilon", 1e-8f);
  const double first = 1 - std::pow(beta1, rule.count), second = 1 - std::pow(beta2, rule.count);
  for (size_t k = 0; k < t.x.size(); ++k) {
    double &v = t.states[0][k], &h = t.states[1][k];
    v = beta1 * v + (1 - beta1) * t.g[k];
    h = beta2 * h + (1 - beta2) * t.g[k] * t.g[k];
    visit(k, v / first / (std::sqrt(h / second) + epsilon));
  }
}

void Adam(const Attributes& a, const Rule& rule, Tensors& t) {
  const double keep = a.Int("decoupled", 0) != 0 ? 1 - rule.rate * rule.decay : 1;
  AdamDirections(a, rule, t, [&](size_t k, double direction) {
    t.x[k] = keep * t.x[k] - rule.rate * direction;
  });
}

double SumOfSquares(const std::vector<double>& values) {
  double sum = 0;
  for (double value : values) sum += value * value;
  return sum;
}

void Lamb(const Attributes& a, const Rule& rule, Tensors& t) {
  const double decay = a.Int("decoupled", 0) != 0 ? rule.decay : 0;
  std::vector<double> steps(t.x.size());
  AdamDirections(a, rule, t,
                 [&](size_t k, double direction) { steps[k] = direction + decay * t.x[k]; });
  const double parameter = SumOfSquares(t.x), step = SumOfSquares(steps);
  const double trust = parameter > 0 && step > 0 ? std::sqrt(parameter / step) : 1;
  for (size_t k = 0; k < t.x.size(); ++k) t.x[k] -= rule.rate * trust * steps[k];
}

void Adagrad(const Attributes& a, const Rule& rule, Tensors& t) {
  const double epsilon = a.Float("epsilon", 1e-10f);
  const double rate = rule.rate / (1 + (rule.count - 1) * a.Float("rate_decay", 0));
  for (size_t k = 0; k < t.x.size(); ++k) {
    double& h = t.states[0][k];
    h += t.g[k] * t.g[k];
    t.x[k] -= rate * t.g[k] / (std::sqrt(h) + epsilon);
  }
}

void Rmsprop(const Attributes& a, const Rule& rule, Tensors& t) {
  const double alpha = a.Float("alpha", 0.99f), epsilon = a.Float("epsilon", 1e-8f);
  const double momentum = a.Float("momentum", 0);
  for (size_t k = 0; k < t.x.size(); ++k) {
    double& h = t.states[0][k];
    h = alpha * h + (1 - alpha) * t.g[k] * t.g[k];
    double step = t.g[k] / (std::sqrt(h) + epsilon);
    if (momentum != 0) step = t.states[1][k] = momentum * t.states[1][k] + step;
    t.x[k] -= rule.rate * step;
  }
}

// torch.nn.utils.clip_grad_norm_ over all G * S, and whether every element of G is finite.
Status InferNorm(InferContext& op) {
  MINIM_TRY(op.SetOutput(0, {DType::bool_, Shape()}));
  MINIM_TRY(op.SetOutput(1, {DType::f32, Shape()}));
  return op.SetOutput(2, {DType::f32, Shape()});
}

Status NormReference(RefContext& op) {
  const double scale = op.input(0).At(0), max_norm = op.attributes().Float("max_norm", 0);
  double squares = 0;
  bool finite = true;
  for (int i = 1; i < op.input_count(); ++i) {
    for (double g : op.input(i).f64()) {
      squares += g * scale * g * scale;
      finite = finite && std::isfinite(g);
    }
  }
  const double norm = std::sqrt(squares);
  if (max_norm > 0) finite = finite && std::isfinite(static_cast<float>(norm));
  op.Output(0).b()[0] = finite;
  if (op.has_output(1)) op.Output(1).f64()[0] = norm;
  if (op.has_output(2))
    op.Output(2).f64()[0] = max_norm > 0 ? std::min(1.0, max_norm / (norm + 1e-6)) : 1;
  return {};
}

// How many elements have each biased exponent of FP32.
Status HistogramReference(RefContext& op) {
  RefTensor& counts = op.Output(0);
  for (int64_t i = 0; i < counts.size(); ++i) counts.i64()[i] = 0;
  for (int i = 0; i < op.input_count(); ++i) {
    for (double g : op.input(i).f64()) {
      const uint32_t bits = std::bit_cast<uint32_t>(static_cast<float>(g));
      ++counts.i64()[bits >> 23 & 0xFF];
    }
  }
  return {};
}

OpDef Define(std::string name, StatesFunction states, UpdateFunction update, std::string samples) {
  return {.name = std::move(name),
          .domain = std::string(kMinimDomain),
          .min_inputs = kFirst + 2,
          .max_inputs = -1,
          .dtypes = {DType::f32},
          .infer =
              [states](InferContext& op) {
                return InferUpdate(op, kFirst, 2 + states(op.attributes()));
              },
          .reference =
              [states, update](RefContext& op) {
                return UpdateReference(op, states(op.attributes()), update);
              },
          .precision = PrecisionClass::kFp32,
          .samples = std::move(samples)};
}

constexpr std::string_view kScalars =
    "r: f32 = [0.1], t: i64 = [3], s: f32 = [0.25], c: f32 = [0.5], ";

std::string Sample(std::string_view name, int tensors, int states, std::string_view attributes) {
  std::string outputs, inputs;
  for (int group = 0; group < 2 + states; ++group) {
    for (int i = 0; i < tensors; ++i) {
      const char* dims = i == 0 ? "2,3" : "5";
      inputs += fmt::format("{}a{}_{}: f32[{}]{}", inputs.empty() ? "" : ", ", group, i, dims,
                            group > 1 ? " = uniform(0.1,1)" : "");
      if (group != 1) outputs += fmt::format("{}b{}_{}", outputs.empty() ? "" : ", ", group, i);
    }
  }
  return fmt::format("{} = {}({}{}) {{{}}}\n", outputs, name, kScalars, inputs, attributes);
}

}  // namespace

std::vector<OpDef> ParameterUpdates() {
  return {
      Define("SgdUpdate", MomentumState, Sgd,
             Sample("SgdUpdate", 2, 0, "weight_decay=0.1") +
                 Sample("SgdUpdate", 2, 1, "momentum=0.9, clip_value=0.05") +
                 Sample("SgdUpdate", 1, 1, "momentum=0.9, nesterov=1, weight_decay=0.1")),
      Define("AdamUpdate", TwoStates, Adam,
             Sample("AdamUpdate", 2, 2, "weight_decay=0.1, beta1=0.8") +
                 Sample("AdamUpdate", 1, 2, "weight_decay=0.1, decoupled=1, epsilon=0.001")),
      Define("AdagradUpdate", OneState, Adagrad,
             Sample("AdagradUpdate", 2, 1, "rate_decay=0.1, weight_decay=0.01")),
      Define("RmspropUpdate", SquareAndMomentum, Rmsprop,
             Sample("RmspropUpdate", 2, 1, "alpha=0.9") +
                 Sample("RmspropUpdate", 1, 2, "alpha=0.9, momentum=0.5, weight_decay=0.1")),
      Define("LambUpdate", TwoStates, Lamb,
             Sample("LambUpdate", 2, 2, "weight_decay=0.1, decoupled=1") +
                 Sample("LambUpdate", 1, 2, "")),
      {.name = "GradientNorm",
       .domain = std::string(kMinimDomain),
       .min_inputs = 2,
       .max_inputs = -1,
       .dtypes = {DType::f32},
       .infer = InferNorm,
       .reference = NormReference,
       .precision = PrecisionClass::kFp32,
       .samples = "f, n, c = GradientNorm(s: f32 = [0.5], g: f32[7], h: f32[3,40]) {max_norm=1.5}\n"
                  "f, n, c = GradientNorm(s: f32 = [2.0], g: f32[2] = [1, inf])\n"
                  "f, n, c = GradientNorm(s: f32 = [1.0], g: f32[2] = [3, 4]) {max_norm=10.0}\n"},
      {.name = "ExponentHistogram",
       .domain = std::string(kMinimDomain),
       .min_inputs = 1,
       .max_inputs = -1,
       .dtypes = {DType::f32},
       .infer = [](InferContext& op) { return op.SetOutput(0, {DType::i64, Shape{256}}); },
       .reference = HistogramReference,
       .precision = PrecisionClass::kFp32,
       .samples = "ExponentHistogram(g: f32[70], h: f32[5] = [0, inf, -inf, 1e-30, nan])"},
  };
}

}  // namespace minim::ops
