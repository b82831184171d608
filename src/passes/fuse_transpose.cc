#include <algorithm>

#include "passes/passes.h"

namespace minim {
namespace {

// True for a transposition of the last two axes alone.
bool SwapsMatrices(const Graph& graph, const Node& node) {
  if (!node.Is("Transpose")) return false;
  const TensorType& type = graph.type(node.input(0));
  if (!type.ranked() || type.rank() < 2 || !IsFloat(type.dtype) || type.dtype == DType::f64)
    return false;
  std::vector<int64_t> swap(type.rank());
  for (int i = 0; i < type.rank(); ++i) swap[i] = i;
  std::swap(swap[type.rank() - 1], swap[type.rank() - 2]);
  const std::vector<int64_t> perm = node.attributes.Ints("perm");
  return perm.empty() ? type.rank() == 2 : perm == swap;
}

// A product takes its operand as it lies in memory; the name of its fused form, or "".
std::string_view FusedForm(const Node& node) {
  if (node.Is("MatMul") || node.Is("FusedMatMul", kMicrosoftDomain)) return "FusedMatMul";
  if (node.Is("Gemm")) return "Gemm";
  return node.Is("FusedGemm", kMicrosoftDomain) ? "FusedGemm" : "";
}

}  // namespace

Result<bool> FuseTranspose(Graph& graph, const PassContext& context) {
  const std::vector<int> producers = graph.Producers();
  bool changed = false;
  for (Node& node : graph.nodes) {
    const std::string_view fused = FusedForm(node);
    if (fused.empty() || !context.has_kernel(fused)) continue;
    for (int side = 0; side < 2; ++side) {
      const std::string_view suffix = side == 0 ? "A" : "B";
      const std::string flag = fmt::format("trans{}", suffix);
      if (node.input(side) == kNoValue || producers[node.input(side)] < 0 ||
          node.attributes.Int(fmt::format("transBatch{}", suffix), 0) != 0)
        continue;
      const Node& producer = graph.nodes[producers[node.input(side)]];
      if (!SwapsMatrices(graph, producer)) continue;
      node.inputs[side] = producer.input(0);
      node.attributes.Set(flag, int64_t{node.attributes.Int(flag, 0) == 0});
      if (node.op == "MatMul") {
        node.op = fused;
        node.domain = std::string(kMicrosoftDomain);
      }
      changed = true;
    }
  }
  return changed;
}

}  // namespace minim
