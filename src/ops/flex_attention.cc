// FlexAttention: attention whose scores and weights its subgraphs rewrite.
#include <cmath>

#include "ops/attention.h"
#include "ops/infer.h"

namespace minim::ops {
namespace {

Status InferFlex(InferContext& op) {
  for (const char* name : {"score_mod", "prob_mod"}) {
    const Graph* mod = op.Subgraph(name);
    if (mod != nullptr && (mod->inputs.size() != 1 || mod->outputs.size() != 1))
      return op.Error("{} has {} inputs and {} outputs, expected 1 and 1", name, mod->inputs.size(),
                      mod->outputs.size());
  }
  MINIM_TRY(op.SameDType(0, 1));
  for (int i = 0; i < 3; ++i) MINIM_TRY(op.HasRank(i, 4));
  MINIM_TRY(TensorType type, TypeOf("Attention", {op.input(0), op.input(1), op.input(2)}));
  type.dtype = op.dtype(2);
  return op.SetOutput(0, std::move(type));
}

// The body's output on x. Bodies within the body are not followed.
Result<ValueId> Inline(ExpandContext& e, const Graph& body, ValueId x) {
  std::map<ValueId, ValueId> values = {{kNoValue, kNoValue}, {body.inputs[0], x}};
  for (const auto& [id, tensor] : body.constants) values[id] = e.Constant(tensor);
  for (const Node& node : body.nodes) {
    std::vector<ValueId> inputs;
    for (ValueId id : node.inputs) {
      if (!values.contains(id) || !node.subgraphs.empty())
        return Unsupported("{} '{}': its body's {} '{}' reads more than the body", e.node().op,
                           e.node().name, node.op, node.name);
      inputs.push_back(values[id]);
    }
    const auto outputs = e.EmitMany(node.op, inputs, static_cast<int>(node.outputs.size()),
                                    node.attributes, node.domain);
    for (size_t i = 0; i < outputs.size(); ++i)
      if (node.outputs[i] != kNoValue) values[node.outputs[i]] = outputs[i];
  }
  const auto it = values.find(body.outputs[0]);
  return it == values.end() ? x : it->second;
}

// The subgraph as a function; its errors end up in `status`.
std::function<ValueId(ValueId)> Mod(ExpandContext& e, const char* name, Status& status) {
  const auto it = e.node().subgraphs.find(name);
  if (it == e.node().subgraphs.end()) return {};
  return [&e, &status, body = it->second](ValueId x) {
    auto y = Inline(e, *body, x);
    if (!y.ok()) status = y.status();
    return y.ok() ? *y : x;
  };
}

Status ExpandFlex(ExpandContext& e) {
  MINIM_TRY(NeedShapes(e));
  const Attributes& a = e.attributes();
  const DType dtype = SoftmaxDType(a, e.dtype(e.input(0)));
  AttentionForm form{.q = e.input(0), .k = e.input(1), .v = e.Cast(e.input(2), dtype)};
  const double width = static_cast<double>(e.DimsOf(form.q)[3]);
  form.q = e.Cast(form.q, dtype);
  form.k = e.Cast(form.k, dtype);
  form.scale = a.Has("scale") ? a.Float("scale", 1) : 1 / std::sqrt(width);
  form.softmax_dtype = dtype;
  Status status;
  form.score_mod = Mod(e, "score_mod", status);
  form.weight_mod = Mod(e, "prob_mod", status);
  e.SetOutput(0, e.Cast(EmitAttention(e, form).y, e.dtype(e.input(2))));
  return status;
}

}  // namespace

OpDef FlexAttention() {
  return {.name = "FlexAttention",
          .domain = "ai.onnx.preview",
          .onnx_since = {1},
          .min_inputs = 3,
          .max_inputs = 3,
          .dtypes = kFloatTypes,
          .infer = InferFlex,
          .expand = ExpandFlex,
          .precision = PrecisionClass::kLower,
          .samples =
              "FlexAttention(q: f32[2,4,3,5], k: f32[2,2,6,5], v: f32[2,2,6,7]) {scale=0.5}\n"
              "FlexAttention(q: f32[1,1,2,4], k: f32[1,1,3,4], v: f32[1,1,3,4]) {score_mod=graph "
              "\"s\"(s: f32[1,1,2,3]) -> (y) { y: f32[1,1,2,3] = Tanh(s) }, prob_mod=graph "
              "\"p\"(p: f32[1,1,2,3]) -> (y) { y: f32[1,1,2,3] = Mul(p, p) }}\n"
              "FlexAttention(q: f16[1,1,3,4], k: f16[1,1,3,4], v: f16[1,1,3,4]) "
              "{softmax_precision=f64}\n"};
}

}  // namespace minim::ops
