#include <algorithm>

#include "passes/passes.h"

namespace minim {
namespace {

// A mask that nothing reads is no reason to keep it.
bool IsInferenceDropout(const Graph& graph, const Node& node) {
  if (!node.Is("Dropout")) return false;
  if (node.output(1) != kNoValue && graph.UseCounts()[node.output(1)] > 0) return false;
  if (node.input(2) == kNoValue) return true;
  const Tensor* training = graph.constant(node.input(2));
  return training != nullptr && training->dtype() == DType::bool_ && !training->as<bool>()[0];
}

bool IsNoOp(const Graph& graph, const Node& node) {
  if (node.Is("Identity") || IsInferenceDropout(graph, node)) return true;
  if (node.Is("Sum") && node.inputs.size() == 1) return true;
  return node.Is("Cast") && graph.type(node.input(0)).dtype == graph.type(node.output(0)).dtype &&
         OnnxId(graph.type(node.input(0)).dtype) == node.attributes.Int("to", 0);
}

// A graph output keeps its value (and name): its producer is made to write it directly.
bool MoveToProducer(Graph& graph, ValueId from, ValueId to) {
  if (std::find(graph.outputs.begin(), graph.outputs.end(), from) != graph.outputs.end())
    return false;
  for (const State& state : graph.states)
    if (state.next == from) return false;
  for (Node& node : graph.nodes) {
    const auto it = std::find(node.outputs.begin(), node.outputs.end(), from);
    if (it == node.outputs.end()) continue;
    *it = to;
    graph.value(to).type = graph.type(from);
    graph.ReplaceUses(from, to);
    return true;
  }
  return false;
}

}  // namespace

Result<bool> RemoveNoOps(Graph& graph, const PassContext&) {
  bool changed = false;
  for (size_t i = 0; i < graph.nodes.size();) {
    if (graph.nodes[i].Is("Sum") && graph.nodes[i].inputs.size() == 2) {  // one name for it
      graph.nodes[i].op = "Add";
      changed = true;
    }
    const Node node = graph.nodes[i];
    if (!IsNoOp(graph, node)) {
      ++i;
      continue;
    }
    const ValueId from = node.input(0), to = node.output(0);
    const bool is_output =
        std::find(graph.outputs.begin(), graph.outputs.end(), to) != graph.outputs.end();
    graph.nodes.erase(graph.nodes.begin() + static_cast<ptrdiff_t>(i));
    if (!is_output) {
      graph.ReplaceUses(to, from);
    } else if (!MoveToProducer(graph, from, to)) {
      graph.nodes.insert(graph.nodes.begin() + static_cast<ptrdiff_t>(i), node);
      ++i;
      continue;
    }
    changed = true;
  }
  return changed;
}

}  // namespace minim
