// The gradients of LSTM and GRU. The layer's node gets one output more, of its gates; LstmGrad and
// GruGrad walk the steps back from it to the gradients of what entered the gates, from which plain
// products make those of weights, biases and inputs.
#include <algorithm>
#include <cmath>

#include "ops/builder.h"
#include "ops/infer.h"
#include "ops/recurrent.h"
#include "ops/reference.h"

namespace minim::ops {
namespace {

// Inputs and outputs of both ops. The state is c for LSTM, h for GRU.
enum GradInput { kR, kSaved, kState0, kDy, kDyH, kLast };  // kLast: LSTM's dY_c; GRU's Y
enum GradOutput { kDa, kDh0, kDc0, kDr = kDc0 };

bool Linear(const Attributes& a) { return a.Int("linear_before_reset", 0) != 0; }

// The layer's output `index`, which its node may have to be given first.
ValueId Output(GradContext& g, int index) {
  const ValueId known = *std::find_if(g.node().outputs.begin(), g.node().outputs.end(),
                                      [](ValueId id) { return id != kNoValue; });
  for (Node& node : g.graph().nodes) {
    if (std::find(node.outputs.begin(), node.outputs.end(), known) == node.outputs.end()) continue;
    if (node.output(index) != kNoValue) return node.output(index);
    node.outputs.resize(std::max<size_t>(node.outputs.size(), index + 1), kNoValue);
    node.outputs[index] = g.graph().AddValue("", {});
    return InferNode(g.graph(), node).ok() ? node.outputs[index] : kNoValue;
  }
  return kNoValue;
}

// Products over the steps of one direction after another.
class Layer {
 public:
  explicit Layer(GradContext& g)
      : g_(g),
        x_(g.type(g.input(0)).dims()),
        hidden_(g.type(g.input(2)).dims()[2]),
        rows_(g.type(g.input(2)).dims()[1]),
        directions_(g.type(g.input(2)).dims()[0]),
        y_(Output(g, 0)) {}

  ValueId OutputGrad(int output) {
    const bool flows = g_.output(output) != kNoValue && g_.has_output_grad(output);
    return flows ? g_.output_grad(output) : kNoValue;
  }
  ValueId y() const { return y_; }
  Dims Columns(int64_t count) const { return Dims({x_[0] * x_[1], count}); }

  // Sets the gradients of X, W and the state h. `da`: what entered the gates beside R's products.
  void SetInputs(ValueId da, ValueId dh0) {
    const ValueId rows = g_.Reshape(g_.input(0), Columns(x_[2]));
    std::vector<ValueId> dw;
    ValueId dx = kNoValue;
    for (int64_t d = 0; d < directions_; ++d) {
      const ValueId gates = Steps(da, d);
      dw.push_back(Product(gates, true, rows));
      const ValueId part = Product(gates, false, Weights(1, d, x_[2]));
      dx = dx == kNoValue ? part : g_.Add(dx, part);
    }
    g_.SetInputGrad(0, g_.Reshape(dx, x_));
    g_.SetInputGrad(1, Stacked(dw, Dims({1, rows_, x_[2]})));
    if (g_.has_input(5)) g_.SetInputGrad(5, dh0);
  }

  // Sets that of R: the product of `dr`, what entered the gates from R, with h before each step.
  void SetRecurrent(ValueId dr) {
    std::vector<ValueId> parts;
    for (int64_t d = 0; d < directions_; ++d)
      parts.push_back(Product(Steps(dr, d), true, Before(d)));
    g_.SetInputGrad(2, Stacked(parts, Dims({1, rows_, hidden_})));
  }

  // The same where the candidate's rows of R were multiplied with `reset` times h.
  void SetRecurrentResetFirst(ValueId da, ValueId saved) {
    std::vector<ValueId> parts;
    for (int64_t d = 0; d < directions_; ++d) {
      const ValueId rows = Steps(da, d), before = Before(d);
      const ValueId reset =
          g_.Reshape(g_.Slice(saved, {d, hidden_}, {d + 1, 2 * hidden_}, {1, 3}), Columns(hidden_));
      const auto gates = [&](int64_t first, int64_t last) {
        return g_.Slice(rows, {first * hidden_}, {last * hidden_}, {1});
      };
      parts.push_back(Product(gates(0, 2), true, before));
      parts.push_back(Product(gates(2, 3), true, g_.Mul(reset, before)));
    }
    const ValueId all = g_.Emit("Concat", parts, {{"axis", int64_t{0}}});
    g_.SetInputGrad(2, g_.Reshape(all, Dims({directions_, rows_, hidden_})));
  }

  void SetBias(ValueId da, ValueId dr) {
    if (!g_.has_input(3)) return;
    const ValueId dw = g_.ReduceSum(da, {1, 2}, false);
    const ValueId both[] = {dw, dr == da ? dw : g_.ReduceSum(dr, {1, 2}, false)};
    g_.SetInputGrad(3, g_.Emit("Concat", {both[0], both[1]}, {{"axis", int64_t{1}}}));
  }

 private:
  ValueId Product(ValueId a, bool trans_a, ValueId b) {
    return g_.Emit("Gemm", {a, b}, {{"transA", int64_t{trans_a}}});
  }
  ValueId Direction(ValueId all, int64_t d, int64_t axis) {
    return directions_ == 1 ? all : g_.Slice(all, {d}, {d + 1}, {axis});
  }
  ValueId Weights(int input, int64_t d, int64_t columns) {
    return g_.Reshape(Direction(g_.input(input), d, 0), Dims({rows_, columns}));
  }
  ValueId Steps(ValueId da, int64_t d) { return g_.Reshape(Direction(da, d, 0), Columns(rows_)); }
  // h before each step, [steps * batch, hidden] in the order of time.
  ValueId Before(int64_t d) {
    const bool backwards = d == 1 || g_.attributes().String("direction", "forward") == "reverse";
    const Dims state({1, x_[1], hidden_});
    const ValueId first =
        g_.has_input(5) ? Direction(g_.input(5), d, 0) : g_.Filled(0, g_.dtype(g_.input(0)), state);
    if (x_[0] == 1) return g_.Reshape(first, Columns(hidden_));
    const int64_t from = backwards ? 1 : 0;
    const ValueId steps = g_.Reshape(g_.Slice(y_, {from, d}, {from + x_[0] - 1, d + 1}, {0, 1}),
                                     Dims({x_[0] - 1, x_[1], hidden_}));
    const std::vector<ValueId> parts =
        backwards ? std::vector{steps, first} : std::vector{first, steps};
    return g_.Reshape(g_.Emit("Concat", parts, {{"axis", int64_t{0}}}), Columns(hidden_));
  }
  ValueId Stacked(const std::vector<ValueId>& parts, const Dims& each) {
    std::vector<ValueId> shaped;
    for (ValueId part : parts) shaped.push_back(g_.Reshape(part, each));
    return shaped.size() == 1 ? shaped[0] : g_.Emit("Concat", shaped, {{"axis", int64_t{0}}});
  }

  GradContext& g_;
  Dims x_;
  int64_t hidden_, rows_, directions_;
  ValueId y_;
};

Status CheckPlain(const GradContext& g) {
  const Attributes& a = g.attributes();
  const bool plain = !g.has_input(4) && !g.has_input(7) && a.Float("clip", 0) == 0 &&
                     a.Int("input_forget", 0) == 0 && a.Int("layout", 0) == 0 &&
                     a.Strings("activations").empty();
  if (plain && g.type(g.input(0)).dims()[0] > 0) return {};
  return Unsupported(
      "{} '{}': no gradient with sequence_lens, peepholes, clip, input_forget, "
      "layout 1, named activations or no steps",
      g.node().op, g.node().name);
}

Attributes GradAttributes(const GradContext& g) {
  Attributes kept{{"direction", g.attributes().String("direction", "forward")}};
  if (g.node().op == "GRU") kept.Set("linear_before_reset", int64_t{Linear(g.attributes())});
  return kept;
}

// Sizes of one call of a companion op; the state's rows are the layer's.
struct Sizes {
  int64_t gates, steps, directions, batch, planes, hidden;
  bool reverse_only;

  Sizes(const RefContext& op, int64_t gate_count)
      : gates(gate_count),
        steps(op.dims(kSaved)[0]),
        directions(op.dims(kSaved)[1]),
        batch(op.dims(kSaved)[2]),
        hidden(op.dims(kR)[2]),
        reverse_only(op.attributes().String("direction", "forward") == "reverse") {
    planes = hidden == 0 ? 0 : op.dims(kSaved)[3] / hidden;
  }
};

// One direction and batch row, which is stepped back.
struct Row {
  const RefContext& op;
  const Sizes& s;
  int64_t d, n;
  std::vector<double> dh, dc;
  int64_t t = 0, before = -1;  // before: the time of the step before; -1 for the first

  double Saved(int64_t plane, int64_t k) const { return SavedAt(t, plane, k); }
  double SavedAt(int64_t time, int64_t plane, int64_t k) const {
    return op.input(kSaved).f64()[((RowOf(time) * s.planes) + plane) * s.hidden + k];
  }
  double Initial(int64_t k) const { return State(kState0, k); }
  double State(int input, int64_t k) const {
    return op.has_input(input) ? op.input(input).f64()[(d * s.batch + n) * s.hidden + k] : 0;
  }
  // Of a value shaped as Y.
  double Y(int input, int64_t time, int64_t k) const {
    return op.has_input(input) ? op.input(input).f64()[RowOf(time) * s.hidden + k] : 0;
  }
  // sum over rows [first, last) of R of da times their column k.
  double Through(const std::vector<double>& da, int64_t first, int64_t last, int64_t k) const {
    double sum = 0;
    for (int64_t row = first; row < last; ++row)
      sum += da[row] * op.input(kR).f64()[(d * s.gates * s.hidden + row) * s.hidden + k];
    return sum;
  }

 private:
  int64_t RowOf(int64_t time) const { return (time * s.directions + d) * s.batch + n; }
};

// Of the gates' sums: those that W makes, and those that R makes.
struct GateGrads {
  std::vector<double> da, dr;
};

void LstmBack(Row& row, GateGrads* grads) {
  const int64_t n = row.s.hidden;
  std::vector<double>& da = grads->da;
  for (int64_t k = 0; k < n; ++k) {
    const double i = row.Saved(0, k), o = row.Saved(1, k), f = row.Saved(2, k), g = row.Saved(3, k);
    const double shown = std::tanh(row.Saved(4, k));
    const double old = row.before < 0 ? row.Initial(k) : row.SavedAt(row.before, 4, k);
    const double dh = row.dh[k], dc = row.dc[k] + dh * o * (1 - shown * shown);
    da[k] = dc * g * i * (1 - i);
    da[n + k] = dh * shown * o * (1 - o);
    da[2 * n + k] = dc * old * f * (1 - f);
    da[3 * n + k] = dc * i * (1 - g * g);
    row.dc[k] = dc * f;
  }
  for (int64_t k = 0; k < n; ++k) row.dh[k] = row.Through(da, 0, 4 * n, k);
}

void GruBack(Row& row, GateGrads* grads) {
  const int64_t n = row.s.hidden;
  const bool linear = Linear(row.op.attributes());
  std::vector<double>&da = grads->da, &dr = grads->dr;
  const auto old = [&](int64_t k) {
    return row.before < 0 ? row.Initial(k) : row.Y(kLast, row.before, k);
  };
  for (int64_t k = 0; k < n; ++k) {
    const double z = row.Saved(0, k), fresh = row.Saved(2, k);
    da[k] = row.dh[k] * (old(k) - fresh) * z * (1 - z);
    da[2 * n + k] = row.dh[k] * (1 - z) * (1 - fresh * fresh);
  }
  std::vector<double> next(n);
  for (int64_t k = 0; k < n; ++k) {
    const double r = row.Saved(1, k), inside = linear ? 0 : row.Through(da, 2 * n, 3 * n, k);
    da[n + k] = (linear ? da[2 * n + k] * row.Saved(3, k) : inside * old(k)) * r * (1 - r);
    next[k] = row.dh[k] * row.Saved(0, k) + inside * r;
  }
  dr = da;
  for (int64_t k = 0; linear && k < n; ++k) dr[2 * n + k] *= row.Saved(1, k);
  for (int64_t k = 0; k < n; ++k) row.dh[k] = next[k] + row.Through(dr, 0, (linear ? 3 : 2) * n, k);
}

using BackFunction = void (*)(Row&, GateGrads*);

Status Reference(RefContext& op, int64_t gates, BackFunction back) {
  const Sizes s(op, gates);
  for (int i = 0; i < op.output_count(); ++i)
    if (op.has_output(i)) op.Output(i);
  const auto store = [&](int output, int64_t at, const std::vector<double>& from) {
    if (output < op.output_count() && op.has_output(output))
      std::copy(from.begin(), from.end(), op.MutableOutput(output).f64().begin() + at);
  };
  for (int64_t d = 0; d < s.directions; ++d) {
    for (int64_t n = 0; n < s.batch; ++n) {
      Row row{op, s, d, n, std::vector<double>(s.hidden), std::vector<double>(s.hidden)};
      for (int64_t k = 0; k < s.hidden; ++k) {
        row.dh[k] = row.State(kDyH, k);
        row.dc[k] = gates == 4 ? row.State(kLast, k) : 0;
      }
      GateGrads grads{std::vector<double>(gates * s.hidden), {}};
      for (int64_t step = s.steps; step-- > 0;) {
        const bool backwards = s.reverse_only || d == 1;
        row.t = backwards ? s.steps - 1 - step : step;
        row.before = step == 0 ? -1 : backwards ? row.t + 1 : row.t - 1;
        for (int64_t k = 0; k < s.hidden; ++k) row.dh[k] += row.Y(kDy, row.t, k);
        back(row, &grads);
        const int64_t at = ((d * s.steps + row.t) * s.batch + n) * gates * s.hidden;
        store(kDa, at, grads.da);
        if (gates == 3) store(kDr, at, grads.dr);
      }
      const int64_t state = (d * s.batch + n) * s.hidden;
      store(kDh0, state, row.dh);
      if (gates == 4) store(kDc0, state, row.dc);
    }
  }
  return {};
}

Status Infer(InferContext& op, int64_t gates) {
  MINIM_TRY(op.HasRank(kR, 3));
  MINIM_TRY(op.HasRank(kSaved, 4));
  for (int i = kSaved; i < op.input_count(); ++i)
    if (op.has_input(i)) MINIM_TRY(op.SameDType(kR, i));
  const Shape r = op.input(kR).ranked() ? *op.input(kR).shape : Shape(3);
  const Shape saved = op.input(kSaved).ranked() ? *op.input(kSaved).shape : Shape(4);
  const Dim hidden = r[2], rows = hidden.Times(gates);
  const int64_t planes = gates == 4 ? 5 : Linear(op.attributes()) ? 4 : 3;
  const Shape state{saved[1], saved[2], hidden};
  const Shape expected[] = {{saved[1], rows, hidden},
                            {saved[0], saved[1], saved[2], hidden.Times(planes)},
                            state,
                            {saved[0], saved[1], saved[2], hidden},
                            state,
                            gates == 4 ? state : Shape{saved[0], saved[1], saved[2], hidden}};
  for (int i = 0; i < op.input_count(); ++i) {
    if (!op.has_input(i)) continue;
    MINIM_TRY(op.HasRank(i, static_cast<int>(expected[i].size())));
    MINIM_TRY(op.HasShape(i, expected[i]));
  }
  if (gates == 3 && !op.has_input(kLast)) return op.Error("input {} is missing", int{kLast});
  const Shape all{saved[1], saved[0], saved[2], rows};
  MINIM_TRY(op.SetOutput(kDa, op.dtype(kR), all));
  MINIM_TRY(op.SetOutput(kDh0, op.dtype(kR), state));
  return op.SetOutput(2, op.dtype(kR), gates == 4 ? state : all);
}

OpDef Define(std::string name, int64_t gates, BackFunction back, std::string samples) {
  return {.name = std::move(name),
          .domain = std::string(kMinimDomain),
          .min_inputs = 2,
          .max_inputs = 6,
          .dtypes = kFloatTypes,
          .infer = [gates](InferContext& op) { return Infer(op, gates); },
          .reference = [=](RefContext& op) { return Reference(op, gates, back); },
          .flops =
              [](const std::vector<TensorType>& inputs, const std::vector<TensorType>&,
                 const Attributes&) {
                const Dims saved = inputs[kSaved].dims();
                return 2 * saved[0] * saved[2] * inputs[kR].dims().Elements();
              },
          .samples = std::move(samples)};
}

}  // namespace

Status LstmGradient(GradContext& g) {
  MINIM_TRY(CheckPlain(g));
  Layer layer(g);
  const std::vector<ValueId> grads =
      g.EmitMany("LstmGrad",
                 {g.input(2), Output(g, 3), g.has_input(6) ? g.input(6) : kNoValue,
                  layer.OutputGrad(0), layer.OutputGrad(1), layer.OutputGrad(2)},
                 3, GradAttributes(g), kMinimDomain);
  layer.SetInputs(grads[kDa], grads[kDh0]);
  layer.SetRecurrent(grads[kDa]);
  layer.SetBias(grads[kDa], grads[kDa]);
  if (g.has_input(6)) g.SetInputGrad(6, grads[kDc0]);
  return {};
}

Status GruGradient(GradContext& g) {
  MINIM_TRY(CheckPlain(g));
  Layer layer(g);
  const bool linear = Linear(g.attributes());
  const ValueId saved = Output(g, 2);
  const std::vector<ValueId> grads =
      g.EmitMany("GruGrad",
                 {g.input(2), saved, g.has_input(5) ? g.input(5) : kNoValue, layer.OutputGrad(0),
                  layer.OutputGrad(1), layer.y()},
                 linear ? 3 : 2, GradAttributes(g), kMinimDomain);
  layer.SetInputs(grads[kDa], grads[kDh0]);
  if (linear)
    layer.SetRecurrent(grads[kDr]);
  else
    layer.SetRecurrentResetFirst(grads[kDa], saved);
  layer.SetBias(grads[kDa], linear ? grads[kDr] : grads[kDa]);
  return {};
}

std::vector<OpDef> RecurrentGradients() {
  constexpr std::string_view r = "r: f32[1,76,19] = uniform(-0.3,0.3), ";
  return {
      Define("LstmGrad", 4, LstmBack,
             fmt::format(
                 "a, h, c = LstmGrad({}s: f32[3,1,2,95], c0: f32[1,2,19], dy: f32[3,1,2,19], dyh: "
                 "f32[1,2,19], dyc: f32[1,2,19])\n",
                 r) +
                 "a, h, c = LstmGrad(r: f32[2,12,3], s: f32[3,2,2,15], _, dy: f32[3,2,2,3]) "
                 "{direction=\"bidirectional\"}\n"
                 "a, h = LstmGrad(r: bf16[1,8,2], s: bf16[3,1,2,10], _, _, dyh: bf16[1,2,2]) "
                 "{direction=\"reverse\"}\n"),
      Define("GruGrad", 3, GruBack,
             "a, h, d = GruGrad(r: f32[1,57,19] = uniform(-0.3,0.3), s: f32[3,1,2,76], h0: "
             "f32[1,2,19], dy: f32[3,1,2,19], dyh: f32[1,2,19], y: f32[3,1,2,19]) "
             "{linear_before_reset=1, direction=\"reverse\"}\n"
             "a, h = GruGrad(r: f32[2,9,3], s: f32[3,2,2,9], h0: f32[2,2,3], dy: f32[3,2,2,3], _, "
             "y: f32[3,2,2,3]) {direction=\"bidirectional\"}\n"
             "a, h, d = GruGrad(r: f32[2,9,3], s: f32[3,2,2,9], _, dy: f32[3,2,2,3], _, "
             "y: f32[3,2,2,3]) {direction=\"bidirectional\"}\n"
             "a, h = GruGrad(r: bf16[1,6,2], s: bf16[3,1,2,6], _, _, dyh: bf16[1,2,2], y: "
             "bf16[3,1,2,2])\n"),
  };
}

}  // namespace minim::ops
