#include "compress/remove_channels.h"

#include <cstring>

#include "core/error.h"
#include "ops/infer.h"
#include "passes/passes.h"

namespace minim {
namespace {

using Kept = std::vector<int64_t>;  // indices, ascending

Tensor KeepAlong(const Tensor& tensor, int axis, const Kept& kept) {
  Dims dims = tensor.dims();
  const int64_t size = dims[axis], outer = dims.Elements(0, axis);
  const auto row =
      static_cast<size_t>(dims.Elements(axis + 1, dims.rank())) * SizeOf(tensor.dtype());
  dims[axis] = static_cast<int64_t>(kept.size());
  Tensor result(tensor.dtype(), dims);
  const auto* from = static_cast<const std::byte*>(tensor.data());
  auto* to = static_cast<std::byte*>(result.data());
  for (int64_t o = 0; o < outer; ++o)
    for (int64_t index : kept) {
      std::memcpy(to, from + static_cast<size_t>(o * size + index) * row, row);
      to += row;
    }
  return result;
}

Kept KeptOf(const std::vector<int>& channels, const std::vector<bool>& removed) {
  Kept kept;
  for (size_t i = 0; i < channels.size(); ++i)
    if (channels[i] == kStays || !removed[channels[i]]) kept.push_back(static_cast<int64_t>(i));
  return kept;
}

// A Conv's groups or an entry of a Reshape's shape. -1 there goes on being what is left.
void SetCount(Graph& graph, const ChannelCount& where, int64_t count) {
  Node& node = graph.nodes[where.node];
  if (!node.Is("Reshape")) {
    node.attributes.Set("group", count);
    return;
  }
  Tensor shape = graph.constant(node.input(1))->Clone();
  int64_t& entry = shape.as<int64_t>()[where.entry];
  if (entry == -1) return;
  entry = count;
  const ValueId id = graph.AddConstant(graph.value(node.input(1)).name, shape);
  graph.nodes[where.node].inputs[1] = id;
}

}  // namespace

Result<Graph> RemoveChannels(const Graph& graph, const ChannelAxes& axes,
                             const std::vector<bool>& removed) {
  Graph result = graph;
  for (const ChannelsOfAxis& axis : axes.axes) {
    const Kept kept = KeptOf(axis.channels, removed);
    if (kept.size() == axis.channels.size()) continue;
    Tensor& tensor = result.constants.at(axis.constant);
    tensor = KeepAlong(tensor, axis.axis, kept);
    result.value(axis.constant).type.shape = ToShape(tensor.dims());
  }
  for (const ChannelCount& count : axes.counts) {
    const Kept kept = KeptOf(count.channels, removed);
    if (kept.size() != count.channels.size())
      SetCount(result, count, static_cast<int64_t>(kept.size()));
  }
  MINIM_TRY(InferGraph(result));
  MINIM_TRY(EliminateDeadCode(result, {}));
  for (size_t i = 0; i < graph.outputs.size(); ++i)
    if (result.type(result.outputs[i]) != graph.type(graph.outputs[i]))
      return Internal("pruning: output '{}' became {}, expected {}",
                      graph.value(graph.outputs[i]).name, result.type(result.outputs[i]).ToString(),
                      graph.type(graph.outputs[i]).ToString());
  MINIM_TRY(Verify(result));
  return result;
}

}  // namespace minim
