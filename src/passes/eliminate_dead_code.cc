#include "passes/passes.h"

namespace minim {

Result<bool> EliminateDeadCode(Graph& graph, const PassContext&) {
  std::vector<bool> live(graph.values.size(), false);
  for (ValueId id : graph.outputs) live[id] = true;
  for (const State& state : graph.states) {
    live[state.next] = live[state.read] = true;
    if (state.commit_if != kNoValue) live[state.commit_if] = true;
  }
  std::vector<bool> keep(graph.nodes.size(), false);
  for (size_t i = graph.nodes.size(); i-- > 0;) {
    for (ValueId id : graph.nodes[i].outputs) keep[i] = keep[i] || (id != kNoValue && live[id]);
    if (!keep[i]) continue;
    for (ValueId id : graph.nodes[i].inputs)
      if (id != kNoValue) live[id] = true;
  }
  const size_t nodes_before = graph.nodes.size();
  size_t index = 0;
  graph.RemoveNodes([&](const Node&) { return !keep[index++]; });
  const size_t erased =
      std::erase_if(graph.constants, [&](const auto& c) { return !live[c.first]; });
  bool trimmed = false;  // outputs that nobody reads are omitted, so that kernels can skip them
  for (Node& node : graph.nodes) {
    for (size_t i = 1; i < node.outputs.size(); ++i) {
      if (node.outputs[i] == kNoValue || live[node.outputs[i]]) continue;
      node.outputs[i] = kNoValue;
      trimmed = true;
    }
  }
  return graph.nodes.size() != nodes_before || erased > 0 || trimmed;
}

}  // namespace minim
