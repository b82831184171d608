#include "ops/builder.h"
#include "ops/recurrent.h"

namespace minim::ops {
namespace {

// The steps of one direction, unrolled. Gates stand in ONNX's order i, o, f, c.
class Unrolled {
 public:
  Unrolled(GradContext& g, int64_t direction)
      : g_(g),
        d_(direction),
        x_(g.type(g.input(0)).dims()),
        hidden_(g.type(g.input(2)).dims()[2]),
        backward_(direction == 1 || g.attributes().String("direction", "forward") == "reverse") {
    w_ = Direction(g.input(1), {4 * hidden_, x_[2]});
    r_ = Direction(g.input(2), {4 * hidden_, hidden_});
  }

  void Forward() {
    ValueId h = State(5), c = State(6);
    ValueId bias = kNoValue;
    if (g_.has_input(3)) {
      const ValueId both = Direction(g_.input(3), {2, 4 * hidden_});
      bias = g_.ReduceSum(both, {0}, true);
    }
    for (int64_t i = 0; i < x_[0]; ++i) {
      Step step{.t = backward_ ? x_[0] - 1 - i : i, .h = h, .c = c};
      step.x = g_.Reshape(g_.Slice(g_.input(0), {step.t}, {step.t + 1}, {0}), Dims({x_[1], x_[2]}));
      ValueId sum = g_.Add(Product(step.x, false, w_, true), Product(h, false, r_, true));
      if (bias != kNoValue) sum = g_.Add(sum, bias);
      for (int k = 0; k < 4; ++k)
        step.gates[k] = g_.Emit(k == 3 ? "Tanh" : "Sigmoid",
                                {g_.Slice(sum, {k * hidden_}, {(k + 1) * hidden_}, {1})});
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
      Accumulate(db_, g_.ReduceSum(da, {0}, false));
      Accumulate(dx[s.t], Product(da, false, w_, false));
      dh = Product(da, false, r_, false);
      dc = g_.Mul(dc, forget);
    }
    dh0_ = dh, dc0_ = dc;
  }

  ValueId dw() { return g_.Reshape(dw_, Dims({1, 4 * hidden_, x_[2]})); }
  ValueId dr() { return g_.Reshape(dr_, Dims({1, 4 * hidden_, hidden_})); }
  ValueId db() {  // both halves are added, so both have the same gradient
    const ValueId row = g_.Reshape(db_, Dims({1, 4 * hidden_}));
    return g_.Emit("Concat", {row, row}, {{"axis", int64_t{1}}});
  }
  ValueId dh0() { return g_.Reshape(dh0_, Dims({1, x_[1], hidden_})); }
  ValueId dc0() { return g_.Reshape(dc0_, Dims({1, x_[1], hidden_})); }

 private:
  struct Step {
    int64_t t = 0;
    ValueId h, c;  // before the step
    ValueId x = kNoValue, squashed = kNoValue;
    std::array<ValueId, 4> gates{};
  };

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
  ValueId Product(ValueId a, bool trans_a, ValueId b, bool trans_b) {
    return g_.Emit("Gemm", {a, b}, {{"transA", int64_t{trans_a}}, {"transB", int64_t{trans_b}}});
  }
  ValueId SigmoidSlope(ValueId y) { return g_.Mul(y, g_.Add(g_.Neg(y), 1.0)); }
  ValueId TanhSlope(ValueId y) { return g_.Add(g_.Neg(g_.Mul(y, y)), 1.0); }
  void Accumulate(ValueId& sum, ValueId value) {
    sum = sum == kNoValue ? value : g_.Add(sum, value);
  }

  GradContext& g_;
  int64_t d_;
  Dims x_;
  int64_t hidden_;
  bool backward_;
  ValueId w_, r_;
  std::vector<Step> steps_;
  ValueId dw_ = kNoValue, dr_ = kNoValue, db_ = kNoValue, dh0_ = kNoValue, dc0_ = kNoValue;
};

Status CheckPlain(const GradContext& g) {
  const Attributes& a = g.attributes();
  const bool plain = !g.has_input(4) && !g.has_input(7) && a.Float("clip", 0) == 0 &&
                     a.Int("input_forget", 0) == 0 && a.Int("layout", 0) == 0 &&
                     a.Strings("activations").empty();
  if (plain && g.type(g.input(0)).dims()[0] > 0) return {};
  return Unsupported(
      "LSTM '{}': no gradient with sequence_lens, peepholes, clip, input_forget, "
      "layout 1, named activations or no steps",
      g.node().name);
}

ValueId Joined(GradContext& g, const std::vector<ValueId>& parts) {
  return parts.size() == 1 ? parts[0] : g.Emit("Concat", parts, {{"axis", int64_t{0}}});
}

}  // namespace

Status LstmGradient(GradContext& g) {
  MINIM_TRY(CheckPlain(g));
  const Dims x = g.type(g.input(0)).dims();
  std::vector<ValueId> dx(x[0], kNoValue), dw, dr, db, dh0, dc0;
  for (int64_t d = 0; d < g.type(g.input(1)).dims()[0]; ++d) {
    Unrolled layer(g, d);
    layer.Forward();
    layer.Backward(dx);
    dw.push_back(layer.dw());
    dr.push_back(layer.dr());
    db.push_back(layer.db());
    dh0.push_back(layer.dh0());
    dc0.push_back(layer.dc0());
  }
  for (ValueId& step : dx) step = g.Reshape(step, Dims({1, x[1], x[2]}));
  g.SetInputGrad(0, Joined(g, dx));
  g.SetInputGrad(1, Joined(g, dw));
  g.SetInputGrad(2, Joined(g, dr));
  if (g.has_input(3)) g.SetInputGrad(3, Joined(g, db));
  if (g.has_input(5)) g.SetInputGrad(5, Joined(g, dh0));
  if (g.has_input(6)) g.SetInputGrad(6, Joined(g, dc0));
  return {};
}

}  // namespace minim::ops
