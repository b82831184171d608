#include "ops/builder.h"
#include "passes/passes.h"

namespace minim {
namespace {

// Which nodes lie between the wanted values and the loss.
std::vector<bool> DependsOn(const Graph& graph, const std::vector<ValueId>& wrt) {
  std::vector<bool> depends(graph.values.size(), false);
  for (ValueId id : wrt) depends[id] = true;
  for (const Node& node : graph.nodes) {
    bool any = false;
    for (ValueId id : node.inputs) any = any || (id != kNoValue && depends[id]);
    for (ValueId id : node.outputs)
      if (id != kNoValue && any && IsFloat(graph.type(id).dtype)) depends[id] = true;
  }
  return depends;
}

class Reverse {
 public:
  Reverse(Graph& graph, const std::vector<ValueId>& wrt)
      : graph_(graph), wanted_(DependsOn(graph, wrt)) {}

  Result<std::vector<ValueId>> Run(ValueId loss, const std::vector<ValueId>& wrt) {
    Builder builder(graph_);
    grads_[loss] = builder.Emit("Expand", {builder.ScalarLike(1, loss), DimsOf(builder, loss)});
    MINIM_TRY(builder.status());
    const std::vector<Node> forward(graph_.nodes.begin(), graph_.nodes.end());
    for (size_t i = forward.size(); i-- > 0;) MINIM_TRY(Visit(forward[i]));
    std::vector<ValueId> results;
    for (ValueId id : wrt) {
      const auto it = grads_.find(id);
      results.push_back(it == grads_.end() ? kNoValue : it->second);
    }
    return results;
  }

 private:
  static ValueId DimsOf(Builder& builder, ValueId id) {
    const Dims dims = builder.type(id).dims();
    return builder.Ints({dims.begin(), dims.end()});
  }

  bool Wanted(ValueId id) const {
    return id != kNoValue && id < static_cast<ValueId>(wanted_.size()) && wanted_[id];
  }

  Status Visit(const Node& node) {
    std::vector<ValueId> output_grads;
    bool reached = false, wanted = false;
    for (ValueId id : node.outputs) {
      const auto it = id == kNoValue ? grads_.end() : grads_.find(id);
      output_grads.push_back(it == grads_.end() ? kNoValue : it->second);
      reached = reached || it != grads_.end();
    }
    for (ValueId id : node.inputs) wanted = wanted || Wanted(id);
    if (!reached || !wanted) return {};
    const OpDef* def = FindOp(node);
    if (def == nullptr || (!def->gradient && !def->expand))
      return Unsupported("node '{}': {} has no gradient", node.name, node.op);
    const size_t first = graph_.nodes.size();
    GradContext context(graph_, node, std::move(output_grads));
    MINIM_TRY(def->gradient
                  ? def->gradient(context)
                  : Unsupported("node '{}': expand {} before autodiff", node.name, node.op));
    MINIM_TRY(context.status());
    MINIM_TRY(Accumulate(node, context.input_grads()));
    for (size_t i = first; i < graph_.nodes.size(); ++i)
      graph_.nodes[i].name = "gradient of " + Title(node);
    return {};
  }

  std::string Title(const Node& node) const {
    if (!node.name.empty()) return node.name;
    for (ValueId id : node.outputs)
      if (id != kNoValue) return fmt::format("{} '{}'", node.op, graph_.value(id).name);
    return node.op;
  }

  Status Accumulate(const Node& node, const std::vector<ValueId>& input_grads) {
    Builder builder(graph_);
    for (size_t i = 0; i < node.inputs.size(); ++i) {
      const ValueId id = node.inputs[i];
      if (!Wanted(id) || input_grads[i] == kNoValue) continue;
      const auto [it, fresh] = grads_.emplace(id, input_grads[i]);
      if (!fresh) it->second = builder.Add(it->second, input_grads[i]);
    }
    return builder.status();
  }

  Graph& graph_;
  std::vector<bool> wanted_;
  std::map<ValueId, ValueId> grads_;
};

}  // namespace

Result<std::vector<ValueId>> Autodiff(Graph& graph, ValueId loss, const std::vector<ValueId>& wrt) {
  return Reverse(graph, wrt).Run(loss, wrt);
}

}  // namespace minim
