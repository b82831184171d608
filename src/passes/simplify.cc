#include <algorithm>

#include "ops/window.h"
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

// Whether a pool's one window has all of the image and nothing else.
bool PoolsEverything(const TensorType& x, const Attributes& attributes) {
  if (!x.ranked() || x.rank() < 3) return false;
  const std::optional<Dims> spatial = ToDims(Shape(x.shape->begin() + 2, x.shape->end()));
  if (!spatial) return false;
  const Dims in = *spatial;
  const std::vector<int64_t> kernel = attributes.Ints("kernel_shape");
  if (!std::equal(kernel.begin(), kernel.end(), in.begin(), in.end())) return false;
  const auto window = ops::MakeWindow(attributes, in, in);
  if (!window.ok()) return false;
  for (int i = 0; i < window->rank(); ++i)
    if (window->Extent(i) != in[i] || window->begins[i] != 0 || window->ends[i] != 0) return false;
  return true;
}

// One name for what several ops can say, so that passes and kernels need to know but one.
bool Rename(const Graph& graph, Node& node) {
  if (node.Is("Sum") && node.inputs.size() == 2) {
    node.op = "Add";
  } else if (node.Is("AveragePool") &&
             PoolsEverything(graph.type(node.input(0)), node.attributes)) {
    node.op = "GlobalAveragePool";
    node.attributes = {};
  } else {
    return false;
  }
  return true;
}

}  // namespace

Result<bool> Simplify(Graph& graph, const PassContext&) {
  bool changed = false;
  for (size_t i = 0; i < graph.nodes.size();) {
    if (Rename(graph, graph.nodes[i])) changed = true;
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
