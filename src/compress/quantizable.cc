#include "compress/quantizable.h"

#include <algorithm>

#include "compress/value_choice.h"
#include "core/error.h"

namespace minim {

bool RecurrentWithWeights(const Graph& graph, const Node& node) {
  if (!node.Is("LSTM") && !node.Is("GRU") && !node.Is("RNN")) return false;
  const Tensor *w = graph.constant(node.input(1)), *r = graph.constant(node.input(2));
  return w != nullptr && r != nullptr && w->dtype() == DType::f32 && r->dtype() == DType::f32;
}

std::vector<int> WeightInputs(const Graph& graph, const Node& node) {
  if (ChannelAxis(graph, node) >= 0) return {1};
  return RecurrentWithWeights(graph, node) ? std::vector<int>{1, 2} : std::vector<int>{};
}

std::string OpName(const Graph& graph, const Node& node) {
  for (ValueId id : node.outputs)
    if (id != kNoValue) return graph.value(id).name;
  return "";
}

std::vector<std::string> QuantizableOps(const Graph& prepared) {
  std::vector<std::string> names, recurrent;
  for (const Node& node : prepared.nodes) {
    if (ChannelAxis(prepared, node) >= 0) names.push_back(OpName(prepared, node));
    if (RecurrentWithWeights(prepared, node)) recurrent.push_back(OpName(prepared, node));
  }
  names.insert(names.end(), recurrent.begin(), recurrent.end());
  return names;
}

Status CheckKeepFloat(const Graph& prepared, const std::set<std::string>& keep_float) {
  const std::vector<std::string> known = QuantizableOps(prepared);
  for (const std::string& name : keep_float)
    if (std::find(known.begin(), known.end(), name) == known.end())
      return InvalidArgument("keep_float: no op that can be quantized makes '{}'", name);
  return {};
}

void DropUnread(Graph& graph) {
  std::vector<int> uses = graph.UseCounts();
  std::set<size_t> dead;
  for (size_t i = graph.nodes.size(); i-- > 0;) {
    const Node& node = graph.nodes[i];
    if (std::any_of(node.outputs.begin(), node.outputs.end(),
                    [&](ValueId id) { return id != kNoValue && uses[id] > 0; }))
      continue;
    dead.insert(i);
    for (ValueId id : node.inputs)
      if (id != kNoValue) --uses[id];
  }
  size_t index = 0;
  graph.RemoveNodes([&](const Node&) { return dead.contains(index++); });
  std::erase_if(graph.constants, [&](const auto& c) { return uses[c.first] == 0; });
}

}  // namespace minim
