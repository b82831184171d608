#include "core/dtype.h"
#include "ops/infer.h"
#include "passes/passes.h"

namespace minim {
namespace {

// The branch an If will take, if its condition is constant; else null.
const Graph* BranchOf(const Graph& graph, const Node& node) {
  if (!node.Is("If")) return nullptr;
  const Tensor* condition = graph.constant(node.input(0));
  if (condition == nullptr || condition->dtype() != DType::bool_ || condition->size() != 1)
    return nullptr;
  const auto it = node.subgraphs.find(condition->as<bool>()[0] ? "then_branch" : "else_branch");
  return it == node.subgraphs.end() ? nullptr : it->second.get();
}

// Appends the branch's nodes to `graph`, reading what the node gives it.
Status Inline(Graph& graph, const Node& node, const Graph& branch) {
  std::vector<ValueId> ids(branch.values.size(), kNoValue);
  for (size_t i = 0; i < branch.inputs.size(); ++i) ids[branch.inputs[i]] = node.input(i + 1);
  for (const auto& [id, tensor] : branch.constants)
    ids[id] = graph.AddConstant(branch.value(id).name, tensor);
  for (const Node& inner : branch.nodes) {
    Node copy = inner;
    for (ValueId& id : copy.inputs)
      if (id != kNoValue) id = ids[id];
    for (ValueId& id : copy.outputs)
      if (id != kNoValue) id = ids[id] = graph.AddValue(branch.value(id).name, branch.type(id));
    graph.nodes.push_back(copy);
    MINIM_TRY(InferNode(graph, copy));
  }
  for (size_t o = 0; o < node.outputs.size(); ++o) {
    if (node.outputs[o] == kNoValue) continue;
    Node same{.op = "Identity", .inputs = {ids[branch.outputs[o]]}, .outputs = {node.outputs[o]}};
    graph.nodes.push_back(same);
    MINIM_TRY(InferNode(graph, same));
  }
  return {};
}

}  // namespace

Result<bool> InlineBranches(Graph& graph, const PassContext&) {
  bool changed = false;
  std::vector<Node> nodes;
  std::swap(nodes, graph.nodes);
  for (const Node& node : nodes) {
    const Graph* branch = BranchOf(graph, node);
    if (branch == nullptr || branch->outputs.size() < node.outputs.size()) {
      graph.nodes.push_back(node);
      continue;
    }
    MINIM_TRY(Inline(graph, node, *branch));
    changed = true;
  }
  return changed;
}

}  // namespace minim
