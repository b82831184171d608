// LSTM, GRU, RNN: the reference steps one direction, one batch row and one time at a time. LSTM and
// GRU have an output more than ONNX's, by [time, direction, batch row, plane, unit], for which
// their gradients ask: LSTM's i, o, f, c gates after activation and cell; GRU's z, r, h gates and,
// with linear_before_reset, the product that the reset gate scales.
#include "ops/recurrent.h"

#include <cmath>

#include "ops/builder.h"
#include "ops/infer.h"
#include "ops/reference.h"

namespace minim::ops {
namespace {

using Activation = std::function<double(double)>;

double Sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

// What a gradient reads, per unit, and the output that has it: behind ONNX's own.
int64_t SavedPlanes(const Attributes& a, int64_t gates) {
  if (gates == 4) return 5;
  return gates == 3 ? a.Int("linear_before_reset", 0) != 0 ? 4 : 3 : 0;
}
int SavedOutput(int gates) { return gates == 4 ? 3 : 2; }

struct Layer {
  int gates = 4;
  int64_t steps, batch, inputs, hidden, directions;
  int64_t saved;  // planes of its last output
  bool batch_first = false;
  std::string direction;
};

Layer LayerOf(const Attributes& a, const Dims& x, const Dims& w, int gates) {
  Layer l{.gates = gates};
  l.batch_first = a.Int("layout", 0) != 0;
  l.steps = x[l.batch_first ? 1 : 0];
  l.batch = x[l.batch_first ? 0 : 1];
  l.inputs = x[2];
  l.hidden = w[1] / gates;
  l.saved = SavedPlanes(a, gates);
  l.directions = w[0];
  l.direction = a.String("direction", "forward");
  return l;
}

Result<Activation> MakeActivation(const std::string& name, float alpha, float beta, bool given) {
  if (name == "sigmoid") return Activation(Sigmoid);
  if (name == "tanh") return Activation([](double x) { return std::tanh(x); });
  if (name == "relu") return Activation([](double x) { return std::max(0.0, x); });
  if (name == "softsign") return Activation([](double x) { return x / (1 + std::fabs(x)); });
  if (name == "softplus") return Activation([](double x) { return std::log1p(std::exp(x)); });
  const double a = given ? alpha : name == "leakyrelu" ? 0.01 : name == "hardsigmoid" ? 0.2 : 1.0;
  const double b = given ? beta : name == "hardsigmoid" ? 0.5 : 0.0;
  if (name == "leakyrelu") return Activation([a](double x) { return x < 0 ? a * x : x; });
  if (name == "thresholdedrelu") return Activation([a](double x) { return x > a ? x : 0.0; });
  if (name == "hardsigmoid")
    return Activation([a, b](double x) { return std::clamp(a * x + b, 0.0, 1.0); });
  if (name == "elu") return Activation([a](double x) { return x < 0 ? a * std::expm1(x) : x; });
  if (name == "affine") return Activation([a, b](double x) { return a * x + b; });
  if (name == "scaledtanh") return Activation([a, b](double x) { return a * std::tanh(b * x); });
  return Unsupported("activation '{}' is unknown", name);
}

// The activations of direction d, `defaults` where the attribute is absent.
Result<std::vector<Activation>> ActivationsOf(const Attributes& a, int64_t d,
                                              std::vector<std::string> defaults) {
  const std::vector<std::string> names = a.Strings("activations");
  const std::vector<float> alphas = a.Floats("activation_alpha"),
                           betas = a.Floats("activation_beta");
  std::vector<Activation> result;
  for (size_t i = 0; i < defaults.size(); ++i) {
    const size_t at = d * defaults.size() + i;
    std::string name = at < names.size() ? names[at] : defaults[i];
    for (char& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    const bool given = at < alphas.size() || at < betas.size();
    MINIM_TRY(Activation f, MakeActivation(name, at < alphas.size() ? alphas[at] : 1.0f,
                                           at < betas.size() ? betas[at] : 0.0f, given));
    result.push_back(std::move(f));
  }
  return result;
}

// One row's state while it is stepped, and what its last step leaves for the gradient.
struct Row {
  std::vector<double> h, c;
  std::vector<std::vector<double>> saved;
};

class Stepper {
 public:
  Stepper(RefContext& op, const Layer& layer) : op_(op), l_(layer) {
    clip_ = op.attributes().Float("clip", 0);
  }

  // x W^T + h R^T + biases of gate g, unit k. `recurrent` scales only the h part (GRU).
  double Input(int64_t d, int64_t n, int64_t t, int64_t unit) const {
    const int64_t rows = l_.gates * l_.hidden;
    double sum = Bias(d, unit);
    const int64_t x = (l_.batch_first ? n * l_.steps + t : t * l_.batch + n) * l_.inputs;
    for (int64_t i = 0; i < l_.inputs; ++i)
      sum += op_.input(0).f64()[x + i] * op_.input(1).f64()[(d * rows + unit) * l_.inputs + i];
    return sum;
  }
  double Hidden(int64_t d, const std::vector<double>& h, int64_t unit) const {
    const int64_t rows = l_.gates * l_.hidden;
    double sum = Bias(d, rows + unit);
    for (int64_t i = 0; i < l_.hidden; ++i)
      sum += h[i] * op_.input(2).f64()[(d * rows + unit) * l_.hidden + i];
    return sum;
  }
  double Bias(int64_t d, int64_t at) const {
    return op_.has_input(3) ? op_.input(3).f64()[d * 2 * l_.gates * l_.hidden + at] : 0;
  }
  double Peephole(int64_t d, int64_t gate, int64_t k) const {
    return op_.has_input(7) ? op_.input(7).f64()[(d * 3 + gate) * l_.hidden + k] : 0;
  }
  double Clip(double x) const { return clip_ > 0 ? std::clamp(x, -clip_, clip_) : x; }
  int64_t hidden() const { return l_.hidden; }
  const Attributes& attributes() const { return op_.attributes(); }

 private:
  RefContext& op_;
  const Layer& l_;
  double clip_;
};

using StepFn = void (*)(const Stepper&, const std::vector<Activation>&, int64_t d, int64_t n,
                        int64_t t, Row&);

void LstmStep(const Stepper& s, const std::vector<Activation>& act, int64_t d, int64_t n, int64_t t,
              Row& row) {
  const int64_t hidden = s.hidden();
  const bool coupled = s.attributes().Int("input_forget", 0) != 0;
  Row next = row;
  for (int64_t k = 0; k < hidden; ++k) {
    const auto gate = [&](int64_t g) {
      return s.Input(d, n, t, g * hidden + k) + s.Hidden(d, row.h, g * hidden + k);
    };
    const double i = act[0](s.Clip(gate(0) + s.Peephole(d, 0, k) * row.c[k]));
    const double f = coupled ? 1 - i : act[0](s.Clip(gate(2) + s.Peephole(d, 2, k) * row.c[k]));
    next.c[k] = f * row.c[k] + i * act[1](s.Clip(gate(3)));
    const double o = act[0](s.Clip(gate(1) + s.Peephole(d, 1, k) * next.c[k]));
    next.h[k] = o * act[2](s.Clip(next.c[k]));
    const double saved[] = {i, o, f, act[1](s.Clip(gate(3))), next.c[k]};
    for (int plane = 0; plane < 5; ++plane) next.saved[plane][k] = saved[plane];
  }
  row = std::move(next);
}

void GruStep(const Stepper& s, const std::vector<Activation>& act, int64_t d, int64_t n, int64_t t,
             Row& row) {
  const int64_t hidden = s.hidden();
  const bool linear = s.attributes().Int("linear_before_reset", 0) != 0;
  std::vector<double> z(hidden), r(hidden), reset(hidden), next(hidden);
  for (int64_t k = 0; k < hidden; ++k) {
    z[k] = act[0](s.Clip(s.Input(d, n, t, k) + s.Hidden(d, row.h, k)));
    r[k] = act[0](s.Clip(s.Input(d, n, t, hidden + k) + s.Hidden(d, row.h, hidden + k)));
    reset[k] = r[k] * row.h[k];
  }
  for (int64_t k = 0; k < hidden; ++k) {
    const double product = s.Hidden(d, linear ? row.h : reset, 2 * hidden + k);
    const double recurrent = linear ? r[k] * product : product;
    const double candidate = act[1](s.Clip(s.Input(d, n, t, 2 * hidden + k) + recurrent));
    next[k] = (1 - z[k]) * candidate + z[k] * row.h[k];
    const double saved[] = {z[k], r[k], candidate, product};
    for (size_t plane = 0; plane < row.saved.size(); ++plane) row.saved[plane][k] = saved[plane];
  }
  row.h = std::move(next);
}

void RnnStep(const Stepper& s, const std::vector<Activation>& act, int64_t d, int64_t n, int64_t t,
             Row& row) {
  std::vector<double> next(s.hidden());
  for (int64_t k = 0; k < s.hidden(); ++k)
    next[k] = act[0](s.Clip(s.Input(d, n, t, k) + s.Hidden(d, row.h, k)));
  row.h = std::move(next);
}

std::vector<double> Initial(const RefContext& op, const Layer& l, int input, int64_t d, int64_t n) {
  std::vector<double> state(l.hidden, 0);
  const int64_t at = (l.batch_first ? n * l.directions + d : d * l.batch + n) * l.hidden;
  for (int64_t k = 0; op.has_input(input) && k < l.hidden; ++k)
    state[k] = op.input(input).f64()[at + k];
  return state;
}

void Store(RefContext& op, int output, int64_t at, const std::vector<double>& values) {
  if (output < op.output_count() && op.has_output(output))
    std::copy(values.begin(), values.end(), op.MutableOutput(output).f64().begin() + at);
}

Status Run(RefContext& op, int gates, StepFn step, const std::vector<std::string>& defaults) {
  const Layer l = LayerOf(op.attributes(), op.dims(0), op.dims(1), gates);
  for (int i = 0; i < op.output_count(); ++i)
    if (op.has_output(i)) op.Output(i);
  const Stepper stepper(op, l);
  for (int64_t d = 0; d < l.directions; ++d) {
    MINIM_TRY(const auto activations, ActivationsOf(op.attributes(), d, defaults));
    const bool backward = l.direction == "reverse" || d == 1;
    for (int64_t n = 0; n < l.batch; ++n) {
      Row row{Initial(op, l, 5, d, n), Initial(op, l, 6, d, n),
              std::vector(l.saved, std::vector<double>(l.hidden))};
      const int64_t length =
          op.has_input(4) ? std::clamp<int64_t>(op.input(4).IntAt(n), 0, l.steps) : l.steps;
      for (int64_t i = 0; i < length; ++i) {
        const int64_t t = backward ? length - 1 - i : i;
        step(stepper, activations, d, n, t, row);
        Store(op, 0,
              (l.batch_first ? (n * l.steps + t) * l.directions + d
                             : (t * l.directions + d) * l.batch + n) *
                  l.hidden,
              row.h);
        for (int64_t plane = 0; plane < l.saved; ++plane)
          Store(op, SavedOutput(gates),
                (((t * l.directions + d) * l.batch + n) * l.saved + plane) * l.hidden,
                row.saved[plane]);
      }
      const int64_t last = (l.batch_first ? n * l.directions + d : d * l.batch + n) * l.hidden;
      Store(op, 1, last, row.h);
      if (gates == 4) Store(op, 2, last, row.c);
    }
  }
  return {};
}

struct Sizes {
  Dim directions, gates_hidden, hidden, batch;
  bool batch_first;
};

// The optional inputs: biases, sequence lengths, first states and peepholes.
Status CheckOptionalInputs(const InferContext& op, const Sizes& s) {
  const Shape state = s.batch_first ? Shape{s.batch, s.directions, s.hidden}
                                    : Shape{s.directions, s.batch, s.hidden};
  const Shape expected[] = {{s.directions, s.gates_hidden.Times(2)},
                            {s.batch},
                            state,
                            state,
                            {s.directions, s.hidden.Times(3)}};
  for (int i = 3; i < 8; ++i)
    if (op.has_input(i)) MINIM_TRY(op.HasShape(i, expected[i - 3]));
  return {};
}

Status InferRecurrent(InferContext& op, int gates) {
  const TensorType &x = op.input(0), &w = op.input(1), &r = op.input(2);
  for (int i = 0; i < 3; ++i) MINIM_TRY(op.HasRank(i, 3));
  const std::string direction = op.attributes().String("direction", "forward");
  if (direction != "forward" && direction != "reverse" && direction != "bidirectional")
    return op.Error("direction is '{}', expected forward, reverse or bidirectional", direction);
  const Dim directions(direction == "bidirectional" ? 2 : 1);
  Dim hidden = r.ranked() ? (*r.shape)[2] : Dim();
  if (op.attributes().Has("hidden_size")) {
    const Dim stated(op.attributes().Int("hidden_size", 0));
    if (!stated.known()) return op.Error("hidden_size is negative");
    if (!stated.Compatible(hidden))
      return op.Error("hidden_size is {}, the recurrent weight {}", stated.ToString(),
                      ToString(*r.shape));
    hidden = stated;
  }
  const Dim rows = hidden.Times(gates);
  if (w.ranked() && (!(*w.shape)[0].Compatible(directions) || !(*w.shape)[1].Compatible(rows)))
    return op.Error("weight is {}, expected [{},{},...]", ToString(*w.shape), directions.ToString(),
                    rows.ToString());
  if (r.ranked() && (!(*r.shape)[0].Compatible(directions) || !(*r.shape)[1].Compatible(rows)))
    return op.Error("recurrent weight is {}, expected [{},{},{}]", ToString(*r.shape),
                    directions.ToString(), rows.ToString(), hidden.ToString());
  const Shape in = x.ranked() ? *x.shape : Shape(3);
  if (w.ranked() && !in[2].Compatible((*w.shape)[2]))
    return op.Error("input {} has {} features, the weight {} takes {}", ToString(in),
                    in[2].ToString(), ToString(*w.shape), (*w.shape)[2].ToString());
  const bool batch_first = op.attributes().Int("layout", 0) != 0;
  const Dim steps = in[batch_first ? 1 : 0], batch = in[batch_first ? 0 : 1];
  MINIM_TRY(CheckOptionalInputs(op, {directions, rows, hidden, batch, batch_first}));
  const Shape last =
      batch_first ? Shape{batch, directions, hidden} : Shape{directions, batch, hidden};
  MINIM_TRY(op.SetOutput(0, x.dtype,
                         batch_first ? Shape{batch, steps, directions, hidden}
                                     : Shape{steps, directions, batch, hidden}));
  MINIM_TRY(op.SetOutput(1, x.dtype, last));
  if (gates == 4) MINIM_TRY(op.SetOutput(2, x.dtype, last));
  const Dim planes = hidden.Times(SavedPlanes(op.attributes(), gates));
  return op.SetOutput(SavedOutput(gates), x.dtype, {steps, directions, batch, planes});
}

OpDef Define(std::string name, std::vector<int> since, int gates, int max_inputs, StepFn step,
             std::vector<std::string> activations, std::string samples) {
  return {.name = std::move(name),
          .onnx_since = std::move(since),
          .min_inputs = 3,
          .max_inputs = max_inputs,
          .dtypes = kFloatTypes,
          .infer = [gates](InferContext& op) { return InferRecurrent(op, gates); },
          .reference = [=](RefContext& op) { return Run(op, gates, step, activations); },
          .upgrade = [](UpgradeContext& u) -> Status {  // a hint: Y is made where it is named
            u.node.attributes.Erase("output_sequence");
            return {};
          },
          .precision = PrecisionClass::kLowerWeights,
          .flops =
              [](const std::vector<TensorType>& inputs, const std::vector<TensorType>&,
                 const Attributes&) {
                const Dims x = inputs[0].dims();
                return 2 * x[0] * x[1] *
                       (inputs[1].dims().Elements() + inputs[2].dims().Elements());
              },
          .samples = std::move(samples)};
}

}  // namespace

std::vector<OpDef> RecurrentOps() {
  OpDef lstm = Define(
      "LSTM", {1, 7, 14, 22}, 4, 8, LstmStep, {"sigmoid", "tanh", "tanh"},
      "y, h, c = LSTM(x: f32[3,2,4], w: f32[1,12,4], r: f32[1,12,3], b: f32[1,24]) "
      "{hidden_size=3}\n"
      "y, h, c = LSTM(x: f32[2,2,3], w: f32[2,8,3], r: f32[2,8,2], b: f32[2,16], _, h0: "
      "f32[2,2,2], "
      "c0: f32[2,2,2]) {hidden_size=2, direction=\"bidirectional\"}\n"
      "y, h, c = LSTM(x: f32[2,2,3], w: f32[1,8,3], r: f32[1,8,2]) {hidden_size=2, "
      "direction=\"reverse\"}\n"
      "y, h, c = LSTM(x: f16[3,2,4], w: f16[1,12,4], r: f16[1,12,3], _, l: i32[2] = [1,3], _, _, "
      "p: f16[1,9]) {hidden_size=3, clip=0.5, input_forget=1, layout=0}\n"
      "y, h, c, s = LSTM(x: f32[3,2,4], w: f32[2,76,4], r: f32[2,76,19] = uniform(-0.3,0.3), b: "
      "f32[2,152]) {hidden_size=19, direction=\"bidirectional\"}\n"
      "y, h, c, s = LSTM(x: bf16[2,1,3], w: bf16[1,8,3], r: bf16[1,8,2]) {hidden_size=2}\n"
      "_, h = LSTM(x: f32[1,2,3], w: f32[1,8,3], r: f32[1,8,2]) {hidden_size=2}\n"
      "y = LSTM(x: f32[3,2,3], w: f32[1,8,3], r: f32[1,8,2], b: f32[1,16], _, _, c0: f32[1,2,2]) "
      "{hidden_size=2, direction=\"reverse\"}\n"
      "_, _, c = LSTM(x: f32[2,2,3], w: f32[1,8,3], r: f32[1,8,2], _, _, h0: f32[1,2,2]) "
      "{hidden_size=2}\n");
  lstm.gradient = LstmGradient;
  lstm.differentiable_outputs = SavedOutput(4);
  OpDef gru = Define(
      "GRU", {1, 3, 7, 14, 22}, 3, 6, GruStep, {"sigmoid", "tanh"},
      "y, h = GRU(x: f32[3,2,4], w: f32[1,9,4], r: f32[1,9,3], b: f32[1,18]) {hidden_size=3}\n"
      "y, h = GRU(x: f32[2,3,4], w: f32[2,9,4], r: f32[2,9,3]) {hidden_size=3, layout=1, "
      "direction=\"bidirectional\", linear_before_reset=1}\n"
      "y, h = GRU(x: f32[3,2,4], w: f32[1,57,4], r: f32[1,57,19] = uniform(-0.3,0.3), b: "
      "f32[1,114], l: i32[2] = [3,1], h0: f32[1,2,19]) {hidden_size=19, "
      "direction=\"reverse\", clip=0.7}\n"
      "y, h = GRU(x: f32[3,2,4], w: f32[1,57,4], r: f32[1,57,19] = uniform(-0.3,0.3), b: "
      "f32[1,114]) {hidden_size=19, linear_before_reset=1}\n"
      "y, h = GRU(x: bf16[3,1,4], w: bf16[1,57,4], r: bf16[1,57,19] = uniform(-0.3,0.3), b: "
      "bf16[1,114]) {hidden_size=19}\n"
      "y, h = GRU(x: f32[2,2,3], w: f32[2,6,3], r: f32[2,6,2], b: f32[2,12], _, h0: "
      "f32[2,2,2]) {hidden_size=2, linear_before_reset=1, direction=\"bidirectional\"}\n"
      "y, h, s = GRU(x: f32[3,2,4], w: f32[2,57,4], r: f32[2,57,19] = uniform(-0.3,0.3), b: "
      "f32[2,114]) {hidden_size=19, direction=\"bidirectional\"}\n"
      "y, h, s = GRU(x: f32[3,2,4], w: f32[1,57,4], r: f32[1,57,19] = uniform(-0.3,0.3), b: "
      "f32[1,114]) {hidden_size=19, linear_before_reset=1, direction=\"reverse\"}\n"
      "y, h, s = GRU(x: bf16[2,1,3], w: bf16[1,6,3], r: bf16[1,6,2]) {hidden_size=2}\n"
      "_, h = GRU(x: f32[2,2,3], w: f32[1,6,3], r: f32[1,6,2]) {hidden_size=2}\n"
      "y = GRU(x: f32[1,2,3], w: f32[1,6,3], r: f32[1,6,2], b: f32[1,12], _, h0: f32[1,2,2]) "
      "{hidden_size=2, linear_before_reset=1}\n"
      "y, h = GRU(x: f32[3,2,3], w: f32[2,6,3], r: f32[2,6,2], b: f32[2,12], _, h0: f32[2,2,2]) "
      "{hidden_size=2, direction=\"bidirectional\"}\n");
  gru.gradient = GruGradient;
  gru.differentiable_outputs = SavedOutput(3);
  return {
      std::move(lstm),
      std::move(gru),
      Define(
          "RNN", {1, 7, 14, 22}, 1, 6, RnnStep, {"tanh"},
          "y, h = RNN(x: f32[3,2,4], w: f32[1,3,4], r: f32[1,3,3], b: f32[1,6]) {hidden_size=3}\n"
          "y, h = RNN(x: f32[3,2,4], w: f32[1,3,4], r: f32[1,3,3], _, l: i32[2] = [1,3]) "
          "{hidden_size=3, direction=\"reverse\", activations=[\"Relu\"]}\n"),
  };
}

}  // namespace minim::ops
