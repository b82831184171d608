#include <set>

#include "ops/builder.h"
#include "ops/infer.h"
#include "passes/passes.h"

namespace minim {
namespace {

bool IsConv(const Node& node) { return node.Is("Conv") || node.Is("FusedConv", kMicrosoftDomain); }
bool IsProduct(const Node& node) {
  return node.Is("MatMul") || node.Is("Gemm") || node.Is("FusedMatMul", kMicrosoftDomain) ||
         node.Is("FusedGemm", kMicrosoftDomain);
}

// What kernels apply before they round: they clamp; those of products have Gelu, too.
bool Activates(const Node& node) {
  const std::string activation = node.attributes.String("activation", "");
  return activation.empty() || activation == "Relu" || activation == "Clip" ||
         (activation == "Gelu" && IsProduct(node));
}

bool HasKernel(const Graph& graph, const Node& node) {
  if (!Activates(node)) return false;
  if (IsConv(node)) {
    const Tensor* w = graph.constant(node.input(1));
    const int64_t groups = node.attributes.Int("group", 1);
    return w != nullptr && w->dims().rank() == 4 &&
           (groups == 1 || (w->dims()[0] == groups && w->dims()[1] == 1));
  }
  const auto matrices = [&](ValueId id) {
    return graph.type(id).ranked() && graph.type(id).rank() >= 2;
  };
  return IsProduct(node) && matrices(node.input(0)) && matrices(node.input(1)) &&
         node.attributes.Int("transA", 0) == 0 && node.attributes.Float("alpha", 1) == 1;
}

// Copies elements.
bool ResizesByCopies(const Node& node) {
  return node.Is("Resize") && node.attributes.String("mode", "nearest") == "nearest" &&
         node.attributes.String("coordinate_transformation_mode", "") != "tf_crop_and_resize";
}

// Ops that take elements of any kind as they are, or compute chains and means of them in FP32.
bool PassesOn(const Node& node) {
  static const std::set<std::string> kMoving = {"Concat", "Split",  "Slice",   "Transpose",
                                                "Expand", "Gather", "MaxPool", "AveragePool"};
  const OpDef* def = FindOp(node);
  return def != nullptr &&
         (Has(def->traits, OpTrait::kElementwise) || Has(def->traits, OpTrait::kAlias) ||
          kMoving.contains(node.op) || ResizesByCopies(node));
}

// Casts to the lower precision move up, before ops that only move elements, so that these move half
// the bytes and the casts meet what computed the elements.
class CastLifter {
 public:
  CastLifter(Graph& graph, DType to) : graph_(graph), to_(to) {}

  void Run() {
    while (LiftOne()) continue;
  }

 private:
  bool IsCast(const Node& node) const {
    return node.Is("Cast") && graph_.type(node.output(0)).dtype == to_ &&
           graph_.type(node.input(0)).dtype == DType::f32;
  }
  static bool Moves(const Node& node) {
    static const std::set<std::string> kOps = {"Concat", "Transpose", "Slice", "Expand"};
    const OpDef* def = FindOp(node);
    return def != nullptr && node.outputs.size() == 1 &&
           (Has(def->traits, OpTrait::kAlias) || kOps.contains(node.op) || ResizesByCopies(node));
  }

  bool LiftOne() {
    const std::vector<int> producers = graph_.Producers(), uses = graph_.UseCounts();
    for (size_t i = 0; i < graph_.nodes.size(); ++i) {
      const Node& cast = graph_.nodes[i];
      if (!IsCast(cast) || producers[cast.input(0)] < 0 || uses[cast.input(0)] != 1) continue;
      const int mover = producers[cast.input(0)];
      if (!Moves(graph_.nodes[mover])) continue;
      Lift(mover, static_cast<int>(i));
      return true;
    }
    return false;
  }

  void Lift(int mover, int cast) {
    Node moved = graph_.nodes[mover];
    moved.outputs = graph_.nodes[cast].outputs;
    std::vector<Node> nodes = std::exchange(graph_.nodes, {});
    graph_.nodes.assign(nodes.begin(), nodes.begin() + mover);
    Builder builder(graph_);
    const size_t data = moved.op == "Concat" ? moved.inputs.size() : 1;
    for (size_t i = 0; i < data; ++i) moved.inputs[i] = Lowered(builder, moved.inputs[i]);
    graph_.nodes.push_back(std::move(moved));
    for (int i = mover + 1; i < static_cast<int>(nodes.size()); ++i)
      if (i != cast) graph_.nodes.push_back(std::move(nodes[i]));
  }

  // A value that was widened, or is lowered already, needs no other cast.
  ValueId Lowered(Builder& builder, ValueId id) const {
    for (const Node& node : graph_.nodes) {
      if (IsCast(node) && node.input(0) == id) return node.output(0);
      if (node.Is("Cast") && node.output(0) == id && graph_.type(node.input(0)).dtype == to_)
        return node.input(0);
    }
    return builder.Cast(id, to_);
  }

  Graph& graph_;
  const DType to_;
};

}  // namespace

Result<bool> LowerPrecision(Graph& graph, const PassContext& context) {
  if (context.precision == DType::f32) return false;
  const bool computes = context.precision == DType::bf16 && GainsByBf16(context.isa);
  const auto gains = [&](const Graph& of, const Node& node) {
    return computes && (HasKernel(of, node) || PassesOn(node));
  };
  const size_t before = graph.nodes.size();
  MINIM_TRY(
      Autocast(graph, {.precision = context.precision, .keep_low = computes, .gains = gains}));
  CastLifter(graph, context.precision).Run();
  // Their inputs stay FP32 in the graph: kernels round them where that pays.
  for (Node& node : graph.nodes) {
    const OpDef* def = FindOp(node);
    if (def != nullptr && def->precision == PrecisionClass::kLowerWeights)
      node.attributes.Set("precision", std::string(Name(context.precision)));
  }
  return graph.nodes.size() != before;
}

}  // namespace minim
