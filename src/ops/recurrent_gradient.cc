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
  ValueId InputAt(int64_t t) {
    return g_.Reshape(g_.Slice(g_.input(0), {t}, {t + 1}, {0}), Dims({x_[1], x_[2]}));
  }
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
  // Columns of gates [first, last).
  ValueId Gates(ValueId all, int64_t first, int64_t last) {
    return g_.Slice(all, {first * hidden_}, {last * hidden_}, {1});
  }
  ValueId SigmoidSlope(ValueId y) { return g_.Mul(y, g_.Add(g_.Neg(y), 1.0)); }
  ValueId TanhSlope(ValueId y) { return g_.Add(g_.Neg(g_.Mul(y, y)), 1.0); }
  void Accumulate(ValueId& sum, ValueId value) {
    sum = sum == kNoValue ? value : g_.Add(sum, value);
  }

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
    for (int64_t i = 0; i < x_[0]; ++i) {
      Step step{.t = TimeOf(i), .h = h, .c = c};
      step.x = InputAt(step.t);
      const ValueId sum =
          Plus(g_.Add(Product(step.x, false, w_, true), Product(h, false, r_, true)), bias);
      for (int k = 0; k < 4; ++k)
        step.gates[k] = g_.Emit(k == 3 ? "Tanh" : "Sigmoid", {Gates(sum, k, k + 1)});
      c = g_.Add(g_.Mul(step.gates[2], c), g_.Mul(step.gates[0], step.gates[3]));
      step.squashed = g_.Emit("Tanh", {c});
      h = g_.Mul(step.gates[1], step.squashed);
      steps_.push_back(step);
    }
  }

  // Walks the steps back; adds each step's dx to `dx` at its time.
  void Backward(std::vector<ValueId>& dx) {
    ValueId dh = Last(1), dc = Last(2);
    for (size_t i = steps_.size(); i-- > 0;) {
      const Step& s = steps_[i];
      dh = g_.Add(dh, Output(s.t));
      const auto [input, output, forget, cell] = s.gates;
      dc = g_.Add(dc, g_.Mul(g_.Mul(dh, output), TanhSlope(s.squashed)));
      const ValueId sums[] = {g_.Mul(g_.Mul(dc, cell), SigmoidSlope(input)),
                              g_.Mul(g_.Mul(dh, s.squashed), SigmoidSlope(output)),
                              g_.Mul(g_.Mul(dc, s.c), SigmoidSlope(forget)),
                              g_.Mul(g_.Mul(dc, input), TanhSlope(cell))};
      const ValueId da =
          g_.Emit("Concat", {sums[0], sums[1], sums[2], sums[3]}, {{"axis", int64_t{1}}});
      Accumulate(dw_, Product(da, true, s.x, false));
      Accumulate(dr_, Product(da, true, s.h, false));
      Accumulate(dwb_, g_.ReduceSum(da, {0}, false));
      Accumulate(dx[s.t], Product(da, false, w_, false));
      dh = Product(da, false, r_, false);
      dc = g_.Mul(dc, forget);
    }
    drb_ = dwb_;  // both halves are added, so both have the same gradient
    dh0_ = dh, dc0_ = dc;
  }
  ValueId dc0() { return g_.Reshape(dc0_, Dims({1, x_[1], hidden_})); }

 private:
  struct Step {
    int64_t t = 0;
    ValueId h, c;  // before the step
    ValueId x = kNoValue, squashed = kNoValue;
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
    for (int64_t i = 0; i < x_[0]; ++i) {
      Step s{.t = TimeOf(i), .h = h};
      s.x = InputAt(s.t);
      const ValueId in = Plus(Product(s.x, false, w_, true), w_bias_);
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

  void Backward(std::vector<ValueId>& dx) {
    ValueId dh = Last(1), dr_gates = kNoValue, dr_candidate = kNoValue;
    for (size_t i = steps_.size(); i-- > 0;) {
      const Step& s = steps_[i];
      dh = g_.Add(dh, Output(s.t));
      const ValueId candidate =
          g_.Mul(g_.Mul(dh, g_.Add(g_.Neg(s.update), 1.0)), TanhSlope(s.fresh));
      const ValueId update = g_.Mul(g_.Mul(dh, g_.Sub(s.h, s.fresh)), SigmoidSlope(s.update));
      ValueId through = kNoValue;  // the gradient at R's candidate product
      ValueId reset = kNoValue, before = kNoValue;
      if (linear_) {
        through = g_.Mul(candidate, s.reset);
        reset = g_.Mul(g_.Mul(candidate, s.product), SigmoidSlope(s.reset));
        before = Product(through, false, r_candidate_, false);
        Accumulate(dr_candidate, Product(through, true, s.h, false));
      } else {
        through = candidate;
        const ValueId product = Product(candidate, false, r_candidate_, false);
        reset = g_.Mul(g_.Mul(product, s.h), SigmoidSlope(s.reset));
        before = g_.Mul(product, s.reset);
        Accumulate(dr_candidate, Product(candidate, true, s.product, false));
      }
      const ValueId gates = Join({update, reset}), da = Join({update, reset, candidate});
      Accumulate(dr_gates, Product(gates, true, s.h, false));
      Accumulate(dw_, Product(da, true, s.x, false));
      Accumulate(dwb_, g_.ReduceSum(da, {0}, false));
      Accumulate(drb_, g_.ReduceSum(Join({update, reset, through}), {0}, false));
      Accumulate(dx[s.t], Product(da, false, w_, false));
      dh = g_.Add(g_.Add(g_.Mul(dh, s.update), before), Product(gates, false, r_gates_, false));
    }
    dr_ = g_.Emit("Concat", {dr_gates, dr_candidate}, {{"axis", int64_t{0}}});
    dh0_ = dh;
  }

 private:
  struct Step {
    int64_t t = 0;
    ValueId h = kNoValue;  // before the step
    ValueId x = kNoValue, update = kNoValue, reset = kNoValue, fresh = kNoValue;
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
  const Dims x = g.type(g.input(0)).dims();
  std::vector<ValueId> dx(x[0], kNoValue), dw, dr, db, dh0;
  for (int64_t d = 0; d < g.type(g.input(1)).dims()[0]; ++d) {
    Layer layer(g, d);
    layer.Forward();
    layer.Backward(dx);
    dw.push_back(layer.dw());
    dr.push_back(layer.dr());
    db.push_back(layer.db());
    dh0.push_back(layer.dh0());
    end(layer);
  }
  for (ValueId& step : dx) step = g.Reshape(step, Dims({1, x[1], x[2]}));
  g.SetInputGrad(0, Joined(g, dx));
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
