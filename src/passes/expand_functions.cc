#include "ops/builder.h"
#include "passes/passes.h"

namespace minim {

namespace {

// Kernels are named without a domain: where ONNX has an op of the name, they are that op's.
bool HasKernel(const Node& node, const PassContext& context) {
  const bool namesake = !node.domain.empty() && FindOp("", node.op) != nullptr;
  return !namesake && context.has_kernel(node.op);
}

}  // namespace

Result<bool> ExpandFunctions(Graph& graph, const PassContext& context) {
  bool changed = false;
  const std::vector<Node> nodes = std::move(graph.nodes);
  graph.nodes.clear();
  for (const Node& node : nodes) {
    const OpDef* def = FindOp(node);
    if (def == nullptr || !def->expand || HasKernel(node, context)) {
      graph.nodes.push_back(node);
      continue;
    }
    const size_t before = graph.nodes.size();
    ExpandContext expansion(graph, node);
    Status status = def->expand(expansion);
    if (status.ok()) status = expansion.status();
    if (status.ok()) MINIM_TRY(expansion.Check());
    if (!status.ok()) {  // an expansion may need shapes that are not known yet
      graph.nodes.resize(before);
      graph.nodes.push_back(node);
      continue;
    }
    for (size_t i = 0; i < node.outputs.size(); ++i) {
      if (node.outputs[i] == kNoValue) continue;
      graph.AddNode("Identity", {expansion.replacements()[i]}, 0).outputs = {node.outputs[i]};
    }
    changed = true;
  }
  if (changed) MINIM_TRY(Simplify(graph, context));
  return changed;
}

}  // namespace minim
