#include "ops/builder.h"
#include "ops/recurrent.h"

namespace minim::ops {
namespace {

// What the steps of one direction, unrolled, share.
class Unrolled {
 public:
  Unrolled(GradContext& g, int64_t direction, int64_t gates)
      : g_(g),
        d_(direction),
        x_(g.type(g.input(0)).dims()),
        hidden_(g.type(g.input(2)).dims()[2]),
        gates_(gates),
        backward_(direction == 1 || g.attributes().String("direction", "forward") == "reverse") {
    w_ = Direction(g.input(1), {gates * hidden_, x_[2]});
    r_ = Direction(g.input(2), {gates * hidden_, hidden_});
  }

  ValueId dw() { return g_.Reshape(dw_, Dims({1, gates_ * hidden_, x_[2]})); }
  ValueId dr() { return g_.Reshape(dr_, Dims({1, gates_ * hidden_, hidden_})); }
  ValueId db() {
    const Dims row({1, gates_ * hidden_});
    return g_.Emit("Concat", {g_.Reshape(dwb_, row), g_.Reshape(drb_, row)},
                   {{"axis", int64_t{1}}});
  }
  ValueId dh0() { return g_.Reshape(dh0_, Dims({1, x_[1], hidden_})); }

 protected:
  int64_t TimeOf(int64_t step) const { return backward_ ? x_[0] - 1 - step : step; }
  ValueId Direction(ValueId all, const Dims& dims) {
    return g_.Reshape(g_.Slice(all, {d_}, {d_ + 1}, {0}), dims);
  }
  ValueId Zeros() { return g_.Filled(0, g_.dtype(g_.input(0)), Dims({x_[1], hidden_})); }
  ValueId State(int input) {
    return g_.has_input(input) ? Direction(g_.input(input), Dims({x_[1], hidden_})) : Zeros();
  }
  ValueId Last(int output) {
    const bool flows = g_.output(output) != kNoValue && g_.has_output_grad(output);
    return flows ? Direction(g_.output_grad(output), Dims({x_[1], hidden_})) : Zeros();
  }
  ValueId Output(int64_t t) {
    if (g_.output(0) == kNoValue || !g_.has_output_grad(0)) return Zeros();
    const ValueId step = g_.Slice(g_.output_grad(0), {t, d_}, {t + 1, d_ + 1}, {0, 1});
    return g_.Reshape(step, Dims({x_[1], hidden_}));
  }
  // Biases of W (half 0) or R (half 1) as one row; kNoValue without any.
  ValueId Bias(int64_t half) {
    if (!g_.has_input(3)) return kNoValue;
    const ValueId both = Direction(g_.input(3), {2, gates_ * hidden_});
    return g_.Slice(both, {half}, {half + 1}, {0});
  }
  ValueId Plus(ValueId a, ValueId bias) { return bias == kNoValue ? a : g_.Add(a, bias); }
  ValueId Product(ValueId a, bool trans_a, ValueId b, bool trans_b) {
    return g_.Emit("Gemm", {a, b}, {{"transA", int64_t{trans_a}}, {"transB", int64_t{trans_b}}});
  }
  // Rows of all steps, in the order of time: [steps * batch, columns].
  ValueId AllInputs() { return g_.Reshape(g_.input(0), Dims({x_[0] * x_[1], x_[2]})); }
  ValueId Rows(const std::vector<ValueId>& by_time) {
    return by_time.size() == 1 ? by_time[0] : g_.Emit("Concat", by_time, {{"axis", int64_t{0}}});
  }
  // Some rows of a value that has `batch` of them for each step.
  ValueId RowsAt(ValueId all, int64_t t) {
    return g_.Slice(all, {t * x_[1]}, {(t + 1) * x_[1]}, {0});
  }
  // Gradients of W, its bias and the inputs from those of all steps' gates.
  ValueId FinishInputs(ValueId da) {
    dw_ = Product(da, true, AllInputs(), false);
    dwb_ = g_.ReduceSum(da, {0}, false);
    return g_.Reshape(Product(da, false, w_, false), x_);
  }
  // Columns of gates [first, last).
  ValueId Gates(ValueId all, int64_t first, int64_t last) {
    return g_.Slice(all, {first * hidden_}, {last * hidden_}, {1});
  }
  ValueId SigmoidSlope(ValueId y) { return g_.Mul(y, g_.Add(g_.Neg(y), 1.0)); }
  ValueId TanhSlope(ValueId y) { return g_.Add(g_.Neg(g_.Mul(y, y)), 1.0); }

  GradContext& g_;
  int64_t d_;
  Dims x_;
  int64_t hidden_, gates_;
  bool backward_;
  ValueId w_, r_;
  ValueId dw_ = kNoValue, dr_ = kNoValue, dwb_ = kNoValue, drb_ = kNoValue, dh0_ = kNoValue;
};

// Gates stand in ONNX's order i, o, f, c.
class UnrolledLstm : public Unrolled {
 public:
  UnrolledLstm(GradContext& g, int64_t direction) : Unrolled(g, direction, 4) {}

  void Forward() {
    ValueId h = State(5), c = State(6);
    const ValueId w_bias = Bias(0), r_bias = Bias(1);
    const ValueId bias = w_bias == kNoValue ? kNoValue : g_.Add(w_bias, r_bias);
    const ValueId in = Plus(Product(AllInputs(), false, w_, true), bias);
    for (int64_t i = 0; i < x_[0]; ++i) {
      Step step{.t = TimeOf(i), .h = h, .c = c};
      const ValueId sum = g_.Add(RowsAt(in, step.t), Product(h, false, r_, true));
      for (int k = 0; k < 4; ++k)
        step.gates[k] = g_.Emit(k == 3 ? "Tanh" : "Sigmoid", {Gates(sum, k, k + 1)});
      c = g_.Add(g_.Mul(step.gates[2], c), g_.Mul(step.gates[0], step.gates[3]));
      step.squashed = g_.Emit("Tanh", {c});
      h = g_.Mul(step.gates[1], step.squashed);
      steps_.push_back(step);
    }
  }

  // Walks the steps back; returns the gradient of X.
  ValueId Backward() {
    ValueId dh = Last(1), dc = Last(2);
    std::vector<ValueId> da(steps_.size()), before(steps_.size());
    for (size_t i = steps_.size(); i-- > 0;) {
      const Step& s = steps_[i];
      dh = g_.Add(dh, Output(s.t));
      const auto [input, output, forget, cell] = s.gates;
      dc = g_.Add(dc, g_.Mul(g_.Mul(dh, output), TanhSlope(s.squashed)));
      const ValueId sums[] = {g_.Mul(g_.Mul(dc, cell), SigmoidSlope(input)),
                              g_.Mul(g_.Mul(dh, s.squashed), SigmoidSlope(output)),
                              g_.Mul(g_.Mul(dc, s.c), SigmoidSlope(forget)),
                              g_.Mul(g_.Mul(dc, input), TanhSlope(cell))};
      da[s.t] = g_.Emit("Concat", {sums[0], sums[1], sums[2], sums[3]}, {{"axis", int64_t{1}}});
      before[s.t] = s.h;
      dh = Product(da[s.t], false, r_, false);
      dc = g_.Mul(dc, forget);
    }
    const ValueId all = Rows(da);
    dr_ = Product(all, true, Rows(before), false);
    const ValueId dx = FinishInputs(all);
    drb_ = dwb_;  // both halves are added, so both have the same gradient
    dh0_ = dh, dc0_ = dc;
    return dx;
  }
  ValueId dc0() { return g_.Reshape(dc0_, Dims({1, x_[1], hidden_})); }

 private:
  struct Step {
    int64_t t = 0;
    ValueId h, c;  // before the step
    ValueId squashed = kNoValue;
    std::array<ValueId, 4> gates{};
  };

  std::vector<Step> steps_;
  ValueId dc0_ = kNoValue;
};

// Gates stand in ONNX's order z (update), r (reset), h (candidate).
class UnrolledGru : public Unrolled {
 public:
  UnrolledGru(GradContext& g, int64_t direction)
      : Unrolled(g, direction, 3),
        linear_(g.attributes().Int("linear_before_reset", 0) != 0),
        r_gates_(g.Slice(r_, {0}, {2 * hidden_}, {0})),
        r_candidate_(g.Slice(r_, {2 * hidden_}, {3 * hidden_}, {0})),
        w_bias_(Bias(0)),
        r_bias_(Bias(1)) {}

  void Forward() {
    ValueId h = State(5);
    const ValueId inputs = Plus(Product(AllInputs(), false, w_, true), w_bias_);
    for (int64_t i = 0; i < x_[0]; ++i) {
      Step s{.t = TimeOf(i), .h = h};
      const ValueId in = RowsAt(inputs, s.t);
      const ValueId sums = Plus(Product(h, false, r_gates_, true), BiasOf(0, 2));
      s.update = g_.Emit("Sigmoid", {g_.Add(Gates(in, 0, 1), Gates(sums, 0, 1))});
      s.reset = g_.Emit("Sigmoid", {g_.Add(Gates(in, 1, 2), Gates(sums, 1, 2))});
      ValueId recurrent = kNoValue;
      if (linear_) {
        s.product = Plus(Product(h, false, r_candidate_, true), BiasOf(2, 3));
        recurrent = g_.Mul(s.reset, s.product);
      } else {
        s.product = g_.Mul(s.reset, h);
        recurrent = Plus(Product(s.product, false, r_candidate_, true), BiasOf(2, 3));
      }
      s.fresh = g_.Emit("Tanh", {g_.Add(Gates(in, 2, 3), recurrent)});
      h = g_.Add(g_.Mul(g_.Add(g_.Neg(s.update), 1.0), s.fresh), g_.Mul(s.update, h));
      steps_.push_back(s);
    }
  }

  ValueId Backward() {
    ValueId dh = Last(1);
    const size_t count = steps_.size();
    // By time: gradients of W's products, of R's gates and of R's candidate; what these multiply.
    std::vector<ValueId> da(count), gates(count), through(count), before(count), product(count);
    for (size_t i = count; i-- > 0;) {
      const Step& s = steps_[i];
      dh = g_.Add(dh, Output(s.t));
      const ValueId candidate =
          g_.Mul(g_.Mul(dh, g_.Add(g_.Neg(s.update), 1.0)), TanhSlope(s.fresh));
      const ValueId update = g_.Mul(g_.Mul(dh, g_.Sub(s.h, s.fresh)), SigmoidSlope(s.update));
      ValueId reset = kNoValue, past = kNoValue;
      if (linear_) {
        through[s.t] = g_.Mul(candidate, s.reset);
        reset = g_.Mul(g_.Mul(candidate, s.product), SigmoidSlope(s.reset));
        past = Product(through[s.t], false, r_candidate_, false);
        product[s.t] = s.h;
      } else {
        through[s.t] = candidate;
        const ValueId inside = Product(candidate, false, r_candidate_, false);
        reset = g_.Mul(g_.Mul(inside, s.h), SigmoidSlope(s.reset));
        past = g_.Mul(inside, s.reset);
        product[s.t] = s.product;
      }
      gates[s.t] = Join({update, reset});
      da[s.t] = Join({update, reset, candidate});
      before[s.t] = s.h;
      dh = g_.Add(g_.Add(g_.Mul(dh, s.update), past), Product(gates[s.t], false, r_gates_, false));
    }
    const ValueId all_gates = Rows(gates), all_through = Rows(through);
    dr_ = Rows({Product(all_gates, true, Rows(before), false),
                Product(all_through, true, Rows(product), false)});
    drb_ = g_.ReduceSum(Join({all_gates, all_through}), {0}, false);
    dh0_ = dh;
    return FinishInputs(Rows(da));
  }

 private:
  struct Step {
    int64_t t = 0;
    ValueId h = kNoValue;  // before the step
    ValueId update = kNoValue, reset = kNoValue, fresh = kNoValue;
    ValueId product = kNoValue;  // of R's candidate rows with h; or reset times h
  };

  ValueId BiasOf(int64_t first, int64_t last) {
    return r_bias_ == kNoValue ? kNoValue : Gates(r_bias_, first, last);
  }
  ValueId Join(const std::vector<ValueId>& parts) {
    return g_.Emit("Concat", parts, {{"axis", int64_t{1}}});
  }

  bool linear_;
  ValueId r_gates_, r_candidate_, w_bias_, r_bias_;
  std::vector<Step> steps_;
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

ValueId Joined(GradContext& g, const std::vector<ValueId>& parts) {
  return parts.size() == 1 ? parts[0] : g.Emit("Concat", parts, {{"axis", int64_t{0}}});
}

// Of all directions; `end` sees each of them after its steps.
template <typename Layer, typename F>
Status LayerGradient(GradContext& g, F&& end) {
  MINIM_TRY(CheckPlain(g));
  std::vector<ValueId> dw, dr, db, dh0;
  ValueId dx = kNoValue;
  for (int64_t d = 0; d < g.type(g.input(1)).dims()[0]; ++d) {
    Layer layer(g, d);
    layer.Forward();
    const ValueId part = layer.Backward();
    dx = dx == kNoValue ? part : g.Add(dx, part);
    dw.push_back(layer.dw());
    dr.push_back(layer.dr());
    db.push_back(layer.db());
    dh0.push_back(layer.dh0());
    end(layer);
  }
  g.SetInputGrad(0, dx);
  g.SetInputGrad(1, Joined(g, dw));
  g.SetInputGrad(2, Joined(g, dr));
  if (g.has_input(3)) g.SetInputGrad(3, Joined(g, db));
  if (g.has_input(5)) g.SetInputGrad(5, Joined(g, dh0));
  return {};
}

}  // namespace

Status LstmGradient(GradContext& g) {
  std::vector<ValueId> dc0;
  MINIM_TRY(
      LayerGradient<UnrolledLstm>(g, [&](UnrolledLstm& layer) { dc0.push_back(layer.dc0()); }));
  if (g.has_input(6)) g.SetInputGrad(6, Joined(g, dc0));
  return {};
}

Status GruGradient(GradContext& g) {
  return LayerGradient<UnrolledGru>(g, [](UnrolledGru&) {});
}

}  // namespace minim::ops
