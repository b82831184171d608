// LinearAttention, one step of its recurrence after another, and CausalConvWithState.
#include <cmath>

#include "ops/attention.h"
#include "ops/infer.h"

namespace minim::ops {
namespace {

// ---- LinearAttention: query, key, value, past_state, decay, beta

bool Gated(const std::string& rule) { return rule == "gated" || rule == "gated_delta"; }
bool Corrects(const std::string& rule) { return rule == "delta" || rule == "gated_delta"; }

std::string RuleOf(const Attributes& a) { return a.String("update_rule", "gated_delta"); }

Status CheckRule(InferContext& op) {
  const std::string rule = RuleOf(op.attributes());
  if (rule != "linear" && !Gated(rule) && !Corrects(rule))
    return op.Error("update_rule is '{}', expected linear, gated, delta or gated_delta", rule);
  if (op.has_input(4) != Gated(rule))
    return op.Error("update_rule '{}' {} a decay", rule, Gated(rule) ? "needs" : "takes no");
  if (op.has_input(5) != Corrects(rule))
    return op.Error("update_rule '{}' {} a beta", rule, Corrects(rule) ? "needs" : "takes no");
  return {};
}

Status InferLinear(InferContext& op) {
  MINIM_TRY(CheckRule(op));
  const int64_t query_heads = op.attributes().Int("q_num_heads", 0);
  const int64_t heads = op.attributes().Int("kv_num_heads", 0);
  if (heads < 1 || query_heads < 1 || query_heads % heads != 0)
    return op.Error("{} query heads are no multiple of {} kv heads", query_heads, heads);
  const DType state = op.has_input(3) ? op.dtype(3) : op.dtype(0);
  MINIM_TRY(op.SetUnknown(0, op.dtype(0)));
  MINIM_TRY(op.SetUnknown(1, state));
  for (int i = 0; i < 3; ++i) {
    MINIM_TRY(op.SameDType(0, i));
    MINIM_TRY(op.HasRank(i, 3));
    if (!op.input(i).ranked()) return {};
    const Dim& width = op.input(i).shape->back();
    if (width.known() && width.value() % (i == 0 ? query_heads : heads) != 0)
      return op.Error("the heads do not divide the width of input {}, {}", i, width.value());
  }
  const Shape &q = *op.input(0).shape, &v = *op.input(2).shape;
  const auto per_head = [](const Dim& width, int64_t count) {
    return width.Map([count](int64_t size) { return size / count; });
  };
  const Dim out = per_head(v[2], heads).Times(query_heads);
  MINIM_TRY(op.SetOutput(0, op.dtype(0), Shape{q[0], q[1], out}));
  return op.SetOutput(1, state,
                      Shape{q[0], Dim(heads), per_head(q[2], query_heads), per_head(v[2], heads)});
}

// Everything in f32 (or f64), heads apart: [B,H,T,D].
struct Sequences {
  ValueId query, key, value, decay = kNoValue, beta = kNoValue, state;
  int64_t steps;
};

Sequences SequencesOf(ExpandContext& e) {
  const int64_t query_heads = e.attributes().Int("q_num_heads", 1);
  const int64_t heads = e.attributes().Int("kv_num_heads", 1);
  const DType wide = e.dtype(e.input(0)) == DType::f64 ? DType::f64 : DType::f32;
  const auto split = [&](int i, int64_t count) {
    return SplitHeads(e, e.Cast(e.input(i), wide), count);
  };
  Sequences s{.query = split(0, query_heads), .key = split(1, heads), .value = split(2, heads)};
  const Dims q = e.DimsOf(s.query), v = e.DimsOf(s.value);
  s.steps = q[2];
  if (e.has_input(4))  // as factors of the state's rows, [B,H,D or 1,T]
    s.decay = e.Transpose(e.Emit("Exp", {split(4, heads)}), {0, 1, 3, 2});
  if (e.has_input(5)) s.beta = split(5, e.DimsOf(e.input(5))[2]);
  s.state = e.has_input(3) ? e.Cast(e.input(3), wide)
                           : e.Filled(0, wide, Dims({q[0], heads, q[3], v[3]}));
  const float scale = e.attributes().Float("scale", 0);
  s.query = e.Mul(s.query, scale != 0 ? scale : 1 / std::sqrt(static_cast<double>(q[3])));
  return s;
}

// One step: S decays, takes in k (v - what it holds for k), and answers q.
ValueId Step(ExpandContext& e, Sequences& s, int64_t t) {
  const auto at = [&](ValueId x, int64_t axis) { return e.Slice(x, {t}, {t + 1}, {axis}); };
  if (s.decay != kNoValue) s.state = e.Mul(s.state, at(s.decay, 3));
  const ValueId key = at(s.key, 2);
  ValueId value = at(s.value, 2);
  if (s.beta != kNoValue)
    value = e.Mul(at(s.beta, 2), e.Sub(value, e.Emit("MatMul", {key, s.state})));
  s.state = e.Add(s.state, e.Mul(e.Transpose(key, {0, 1, 3, 2}), value));
  return GroupedProduct(e, at(s.query, 2), s.state);
}

Status ExpandLinear(ExpandContext& e) {
  MINIM_TRY(NeedShapes(e));
  Sequences s = SequencesOf(e);
  MINIM_TRY(e.status());
  if (s.steps == 0)
    return Unsupported("LinearAttention '{}': the sequence is empty", e.node().name);
  std::vector<ValueId> answers;
  for (int64_t t = 0; t < s.steps; ++t) answers.push_back(Step(e, s, t));
  const ValueId y = MergeHeads(e, e.Emit("Concat", answers, {{"axis", int64_t{2}}}));
  e.SetOutput(0, e.Cast(y, e.dtype(e.input(0))));
  e.SetOutput(1, e.Cast(s.state, e.dtype(e.input(e.has_input(3) ? 3 : 0))));
  return {};
}

// ---- CausalConvWithState: input [B,C,L], weight [C,1,K], bias, past_state [B,C,K-1]

Status InferCausalConv(InferContext& op) {
  const std::string activation = op.attributes().String("activation", "none");
  if (activation != "none" && activation != "silu" && activation != "swish")
    return op.Error("activation is '{}', expected none, silu or swish", activation);
  MINIM_TRY(op.SameDType(0, 1));
  MINIM_TRY(op.HasRank(0, 3));
  MINIM_TRY(op.HasRank(1, 3));
  MINIM_TRY(op.SetOutput(0, op.input(0)));
  if (!op.input(0).ranked() || !op.input(1).ranked()) return op.SetUnknown(1, op.dtype(0));
  const Shape &x = *op.input(0).shape, &w = *op.input(1).shape;
  if (w[2].known() && w[2].value() < 1) return op.Error("weight has shape {}", ToString(w));
  if (!x[1].Compatible(w[0]) || !w[1].Compatible(Dim(1)))
    return op.Error("weight {} does not fit the channels of {}", ToString(w), ToString(x));
  const Dim kept = w[2].Map([](int64_t size) { return size - 1; });
  if (op.has_input(3) && op.input(3).ranked() &&
      (op.input(3).rank() != 3 || !(*op.input(3).shape)[2].Compatible(kept)))
    return op.Error("past_state {} does not fit the weight {}", ToString(*op.input(3).shape),
                    ToString(w));
  return op.SetOutput(1, op.dtype(0), Shape{x[0], x[1], kept});
}

Status ExpandCausalConv(ExpandContext& e) {
  MINIM_TRY(NeedShapes(e));
  const Dims x = e.DimsOf(e.input(0));
  const int64_t kept = e.DimsOf(e.input(1))[2] - 1;
  ValueId padded = e.input(0);
  if (kept > 0) {
    const ValueId past =
        e.has_input(3) ? e.input(3) : e.Filled(0, e.dtype(padded), Dims({x[0], x[1], kept}));
    padded = e.Emit("Concat", {past, padded}, {{"axis", int64_t{2}}});
  }
  std::vector<ValueId> inputs = {padded, e.input(1)};
  if (e.has_input(2)) inputs.push_back(e.input(2));
  ValueId y = e.Emit("Conv", inputs, {{"group", x[1]}});
  if (e.attributes().String("activation", "none") != "none") y = e.Mul(y, e.Emit("Sigmoid", {y}));
  e.SetOutput(0, y);
  e.SetOutput(1, e.Slice(padded, {x[2]}, {x[2] + kept}, {2}));
  return {};
}

}  // namespace

std::vector<OpDef> LinearAttentionOps() {
  OpDef linear = {
      .name = "LinearAttention",
      .onnx_since = {27},
      .min_inputs = 3,
      .max_inputs = 6,
      .dtypes = kFloatTypes,
      .infer = InferLinear,
      .expand = ExpandLinear,
      .precision = PrecisionClass::kFp32,
      .samples =
          "y, s = LinearAttention(q: f32[2,3,8], k: f32[2,3,4], v: f32[2,3,6], p: f32[2,2,2,3], "
          "d: f32[2,3,4], b: f32[2,3,2]) {q_num_heads=4, kv_num_heads=2, scale=0.5, "
          "update_rule=\"gated_delta\"}\n"
          "y, s = LinearAttention(q: f16[1,2,4], k: f16[1,2,4], v: f16[1,2,4]) "
          "{q_num_heads=2, kv_num_heads=2, update_rule=\"linear\", chunk_size=64}\n"
          "LinearAttention(q: f32[1,2,4], k: f32[1,2,4], v: f32[1,2,4], _, d: f32[1,2,2]) "
          "{q_num_heads=2, kv_num_heads=2, update_rule=\"gated\"}\n"
          "LinearAttention(q: f32[1,2,4], k: f32[1,2,4], v: f32[1,2,4], _, _, b: f32[1,2,1]) "
          "{q_num_heads=2, kv_num_heads=2, update_rule=\"delta\"}\n"};
  OpDef conv = {.name = "CausalConvWithState",
                .onnx_since = {27},
                .min_inputs = 2,
                .max_inputs = 4,
                .dtypes = kFloatTypes,
                .infer = InferCausalConv,
                .expand = ExpandCausalConv,
                .precision = PrecisionClass::kLower,
                .samples =
                    "y, s = CausalConvWithState(x: f32[2,3,4], w: f32[3,1,3], b: f32[3], "
                    "p: f32[2,3,2]) {activation=\"silu\"}\n"
                    "y, s = CausalConvWithState(x: f16[1,2,3], w: f16[2,1,1]) "
                    "{activation=\"none\"}\n"
                    "CausalConvWithState(x: f32[1,2,3], w: f32[2,1,5]) {activation=\"swish\"}\n"};
  return {std::move(linear), std::move(conv)};
}

}  // namespace minim::ops
