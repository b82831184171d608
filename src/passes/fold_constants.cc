#include <algorithm>

#include "ops/infer.h"
#include "ops/reference.h"
#include "passes/passes.h"

namespace minim {
namespace {

// Larger results stay computed: folding must not blow a small file up without bound.
constexpr int64_t kMaxFoldedElements = int64_t{1} << 28;

bool AllConstant(const Graph& graph, const Node& node, const std::set<ValueId>& variables) {
  return std::all_of(node.inputs.begin(), node.inputs.end(), [&](ValueId id) {
    return id == kNoValue || (graph.constant(id) != nullptr && !variables.contains(id));
  });
}

bool SmallOutputs(const Graph& graph, const Node& node) {
  for (ValueId id : node.outputs) {
    if (id == kNoValue || !graph.type(id).shape) continue;
    const auto elements = ElementsOf(*graph.type(id).shape);
    if (elements && *elements > kMaxFoldedElements) return false;
  }
  return true;
}

// Sub-graphs may take any time, and only tensors can be constants.
bool TensorsOnly(const Graph& graph, const Node& node) {
  return node.subgraphs.empty() &&
         std::all_of(node.outputs.begin(), node.outputs.end(),
                     [&](ValueId id) { return id == kNoValue || graph.type(id).is_tensor(); });
}

void MakeConstant(Graph& graph, ValueId id, Tensor tensor) {
  graph.value(id).type = {tensor.dtype(), ToShape(tensor.dims())};
  graph.constants.emplace(id, std::move(tensor));
}

// Shape and Size need only the type of their input.
Result<bool> FoldShape(Graph& graph, const Node& node) {
  if (!node.Is("Shape") && !node.Is("Size")) return false;
  if (!graph.type(node.input(0)).Static()) return false;
  const Dims dims = graph.type(node.input(0)).dims();
  if (node.op == "Size") {
    MakeConstant(graph, node.output(0), Tensor::Scalar<int64_t>(dims.Elements()));
    return true;
  }
  const int64_t rank = dims.rank();
  const auto clamp = [&](int64_t at) {
    return std::clamp<int64_t>(at < 0 ? at + rank : at, 0, rank);
  };
  const int64_t start = clamp(node.attributes.Int("start", 0));
  const int64_t end = std::max(start, clamp(node.attributes.Int("end", rank)));
  MakeConstant(graph, node.output(0),
               Tensor::From<int64_t>({end - start}, dims.span().subspan(start, end - start)));
  return true;
}

// Of weights, whose reference would widen every one to FP64.
bool FoldCast(Graph& graph, const Node& node) {
  const Tensor* x = node.Is("Cast") ? graph.constant(node.input(0)) : nullptr;
  const DType to = graph.type(node.output(0)).dtype;
  if (x == nullptr || !IsFloat(x->dtype()) || !IsFloat(to)) return false;
  MakeConstant(graph, node.output(0), Converted(x->view(), to));
  return true;
}

Result<bool> FoldNode(Graph& graph, const Node& node, const std::set<ValueId>& variables) {
  MINIM_TRY(const bool shape, FoldShape(graph, node));
  if (shape) return true;
  const OpDef* def = FindOp(node);
  if (def == nullptr || Has(def->traits, OpTrait::kRandom) ||
      !AllConstant(graph, node, variables) || !SmallOutputs(graph, node) ||
      !TensorsOnly(graph, node))
    return false;
  if (FoldCast(graph, node)) return true;
  std::vector<const Tensor*> inputs;
  for (ValueId id : node.inputs) inputs.push_back(id == kNoValue ? nullptr : graph.constant(id));
  MINIM_TRY(std::vector<Tensor> outputs, EvaluateNode(node, inputs));
  for (size_t i = 0; i < outputs.size(); ++i)
    if (node.outputs[i] != kNoValue) MakeConstant(graph, node.outputs[i], std::move(outputs[i]));
  return true;
}

}  // namespace

Result<bool> FoldConstants(Graph& graph, const PassContext& context) {
  std::vector<bool> folded(graph.nodes.size(), false);
  bool changed = false;
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    const Node node = graph.nodes[i];
    // Folding an input may have made a shape known.
    if (changed) MINIM_TRY(InferNode(graph, node));
    MINIM_TRY(folded[i], FoldNode(graph, node, context.variables));
    changed = changed || folded[i];
  }
  size_t index = 0;
  graph.RemoveNodes([&](const Node&) { return folded[index++]; });
  return changed;
}

}  // namespace minim
