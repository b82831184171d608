#include "ops/builder.h"
#include "ops/infer.h"
#include "passes/passes.h"

namespace minim {
namespace {

class Caster {
 public:
  Caster(Graph& graph, DType precision) : graph_(graph), builder_(graph), precision_(precision) {}

  Status Run() {
    const std::vector<Node> nodes = std::move(graph_.nodes);
    graph_.nodes.clear();
    for (const Node& node : nodes) MINIM_TRY(Rewrite(node));
    return builder_.status();
  }

 private:
  Status Rewrite(Node node) {
    const OpDef* def = FindOp(node);
    const PrecisionClass precision = def ? def->precision : PrecisionClass::kWidest;
    const bool weighs = precision == PrecisionClass::kLowerWeights;
    const bool lower = (weighs || precision == PrecisionClass::kLower) && !node.outputs.empty() &&
                       DTypeOfResult(node) == DType::f32;
    if (lower && weighs && graph_.constant(node.input(1)) && graph_.constant(node.input(2))) {
      for (int i : {1, 2}) node.inputs[i] = builder_.Cast(Lowered(node.inputs[i]), DType::f32);
      graph_.nodes.push_back(std::move(node));
      return {};
    }
    if (!lower) {
      graph_.nodes.push_back(std::move(node));
      return {};
    }
    for (ValueId& id : node.inputs)
      if (id != kNoValue && graph_.type(id).dtype == DType::f32) id = Lowered(id);
    std::vector<ValueId> wide;
    for (ValueId& id : node.outputs) {
      wide.push_back(id);
      if (id != kNoValue) id = graph_.AddValue("", {precision_, graph_.type(id).shape});
    }
    graph_.nodes.push_back(node);
    MINIM_TRY(InferNode(graph_, node));
    for (size_t i = 0; i < wide.size(); ++i) {
      if (wide[i] == kNoValue) continue;
      const Attributes to_f32{{"to", int64_t{OnnxId(DType::f32)}}};
      graph_.AddNode("Cast", {node.outputs[i]}, 0, to_f32).outputs = {wide[i]};
    }
    return {};
  }

  // Of the first output that is there: a recurrent layer may leave out Y.
  DType DTypeOfResult(const Node& node) const {
    for (ValueId id : node.outputs)
      if (id != kNoValue) return graph_.type(id).dtype;
    return DType::bool_;
  }

  // One cast per value, however many readers.
  ValueId Lowered(ValueId id) {
    const auto [it, fresh] = lowered_.emplace(id, kNoValue);
    if (fresh) it->second = builder_.Cast(id, precision_);
    return it->second;
  }

  Graph& graph_;
  Builder builder_;
  DType precision_;
  std::map<ValueId, ValueId> lowered_;
};

}  // namespace

Status Autocast(Graph& graph, DType precision) { return Caster(graph, precision).Run(); }

}  // namespace minim
