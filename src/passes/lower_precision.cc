#include <set>

#include "ops/infer.h"
#include "passes/passes.h"

namespace minim {
namespace {

// What kernels apply before they round: they clamp.
bool Clamps(const Node& node) {
  const std::string activation = node.attributes.String("activation", "Relu");
  return activation.empty() || activation == "Relu" || activation == "Clip";
}

bool IsConv(const Node& node) { return node.Is("Conv") || node.Is("FusedConv", kMicrosoftDomain); }
bool IsProduct(const Node& node) {
  return node.Is("MatMul") || node.Is("Gemm") || node.Is("FusedMatMul", kMicrosoftDomain) ||
         node.Is("FusedGemm", kMicrosoftDomain);
}

// Kernels read BF16 where a constant is packed for them.
bool HasKernel(const Graph& graph, const Node& node) {
  const Tensor* w = IsConv(node) || IsProduct(node) ? graph.constant(node.input(1)) : nullptr;
  if (w == nullptr || !Clamps(node)) return false;
  if (IsConv(node)) return w->dims().rank() == 4 && node.attributes.Int("group", 1) == 1;
  return w->dims().rank() == 2 && node.attributes.Int("transA", 0) == 0 &&
         node.attributes.Float("alpha", 1) == 1;
}

// Ops that take elements of any kind as they are, or compute chains of them in FP32.
bool PassesOn(const Node& node) {
  static const std::set<std::string> kMoving = {"Concat", "Split",  "Slice",  "Transpose",
                                                "Expand", "Gather", "MaxPool"};
  const OpDef* def = FindOp(node);
  return def != nullptr && (Has(def->traits, OpTrait::kElementwise) ||
                            Has(def->traits, OpTrait::kAlias) || kMoving.contains(node.op));
}

}  // namespace

Result<bool> LowerPrecision(Graph& graph, const PassContext& context) {
  if (context.precision == DType::f32) return false;
  const bool computes = context.precision == DType::bf16 && context.isa >= Isa::kAvx512Bf16;
  const auto gains = [&](const Graph& of, const Node& node) {
    return computes && (HasKernel(of, node) || PassesOn(node));
  };
  const size_t before = graph.nodes.size();
  MINIM_TRY(
      Autocast(graph, {.precision = context.precision, .keep_low = computes, .gains = gains}));
  return graph.nodes.size() != before;
}

}  // namespace minim
