// Scaled dot-product attention as exporters write it, op by op, becomes one FusedAttention.
#include <algorithm>
#include <numeric>
#include <optional>

#include "passes/neighbours.h"
#include "passes/passes.h"

namespace minim {
namespace {

// Products of fewer rows read K and V in place; here they are packed.
constexpr int64_t kLeastRows = 16;

using Perm = std::vector<int64_t>;

struct Operand {
  ValueId id = kNoValue;
  Perm perm;  // from the value's axes to the product's
};

struct Attention {
  Operand q, k, v;
  ValueId mask = kNoValue;
  float scale = 1;
};

class AttentionFuser {
 public:
  AttentionFuser(Graph& graph, const PassContext& context)
      : graph_(graph), context_(context), near_(graph) {}

  bool Run() {
    bool changed = false;
    for (size_t i = 0; i < graph_.nodes.size(); ++i)
      if (graph_.nodes[i].Is("Softmax")) changed |= Fuse(static_cast<int>(i));
    return changed;
  }

 private:
  DType dtype(ValueId id) const { return graph_.type(id).dtype; }
  bool Static(ValueId id) const { return id != kNoValue && graph_.type(id).Static(); }
  Dims dims(ValueId id) const { return graph_.type(id).dims(); }

  std::optional<float> Scalar(ValueId id) const {
    const Tensor* tensor = graph_.constant(id);
    if (tensor == nullptr || tensor->size() != 1 || !IsFloat(tensor->dtype())) return std::nullopt;
    return static_cast<float>(Converted(tensor->view(), DType::f64).as<double>()[0]);
  }

  static bool IsProduct(const Node& node) {
    return node.Is("MatMul") ||
           (node.Is("FusedMatMul", kMicrosoftDomain) && node.attributes.Int("transA", 0) == 0 &&
            node.attributes.Int("transBatchA", 0) == 0 &&
            node.attributes.Int("transBatchB", 0) == 0);
  }
  // The scalar that scales a value, as a factor, or none.
  std::optional<float> Factor(const Node& node) const {
    if (!node.Is("Mul") && !node.Is("Div")) return std::nullopt;
    const std::optional<float> scalar = Scalar(node.input(1));
    if (!scalar || !Static(node.input(0)) || dims(node.output(0)) != dims(node.input(0)))
      return std::nullopt;
    return node.Is("Div") ? 1 / *scalar : *scalar;
  }
  bool Widens(const Node& node) const {
    return node.Is("Cast") && dtype(node.input(0)) == DType::bf16 &&
           dtype(node.output(0)) == DType::f32;
  }

  // From the scores that a Softmax reads up to their product.
  bool MatchScores(ValueId id, Attention* a) const {
    const Dims scores = dims(id);
    for (const Node* node = near_.SoleProducer(id); node != nullptr;
         node = near_.SoleProducer(id)) {
      if (IsProduct(*node)) {
        if (!Static(node->input(0)) || !Static(node->input(1))) return false;
        a->scale *= node->attributes.Float("alpha", 1);
        a->q = {node->input(0), Identity(scores.rank())};
        a->k = OperandB(*node);
        return dims(node->input(0)).rank() == scores.rank() &&
               dims(node->input(1)).rank() == scores.rank();
      }
      if (Widens(*node)) {
        id = node->input(0);
      } else if (const std::optional<float> factor = Factor(*node)) {
        a->scale *= *factor;
        id = node->input(0);
      } else if (node->Is("Add") && a->mask == kNoValue && a->scale == 1) {
        const int side = LeadsToProduct(node->input(0)) ? 0 : 1;
        id = node->input(side);
        a->mask = node->input(1 - side);
        if (!IsMask(a->mask, scores) || !Static(id) || dims(id) != scores) return false;
      } else {
        return false;
      }
    }
    return false;
  }
  bool LeadsToProduct(ValueId id) const {
    const Node* node = near_.SoleProducer(id);
    return node != nullptr && (IsProduct(*node) || Widens(*node) || Factor(*node));
  }
  bool IsMask(ValueId id, const Dims& scores) const {
    const TensorType& type = graph_.type(id);
    return type.Static() && type.dtype == DType::f32 && type.rank() > 0 &&
           type.rank() <= scores.rank() &&
           type.dims()[type.rank() - 1] == scores[scores.rank() - 1];
  }

  static Perm Identity(int rank) {
    Perm perm(rank);
    std::iota(perm.begin(), perm.end(), 0);
    return perm;
  }
  Operand OperandB(const Node& product) const {
    Operand operand{product.input(1), Identity(dims(product.input(1)).rank())};
    if (product.attributes.Int("transB", 0) != 0 && operand.perm.size() > 1)
      std::swap(operand.perm.end()[-1], operand.perm.end()[-2]);
    return operand;
  }
  Perm PermOf(const Node& transpose) const {
    Perm perm = transpose.attributes.Ints("perm");
    if (perm.empty()) {
      perm = Identity(dims(transpose.input(0)).rank());
      std::reverse(perm.begin(), perm.end());
    }
    return perm;
  }

  // Reads what a Transpose reads. The rows of some operands must lie in order.
  void TakeTranspose(Operand* operand, bool in_order) const {
    const Node* transpose = near_.Producer(operand->id);
    if (transpose == nullptr || !transpose->Is("Transpose") || !Static(transpose->input(0))) return;
    const Perm inner = PermOf(*transpose);
    Perm perm;
    for (const int64_t axis : operand->perm) perm.push_back(inner[axis]);
    if (in_order && perm.back() != static_cast<int64_t>(perm.size()) - 1) return;
    *operand = {transpose->input(0), perm};
  }

  std::vector<int64_t> BatchOf(const Operand& operand) const {
    std::vector<int64_t> batch;
    for (size_t i = 0; i + 2 < operand.perm.size(); ++i)
      batch.push_back(dims(operand.id)[static_cast<int>(operand.perm[i])]);
    return batch;
  }

  bool Fits(const Attention& a, const Dims& scores) const {
    const DType type = dtype(a.q.id);
    const bool computes =
        type == DType::f32 || (type == DType::bf16 && context_.isa >= Isa::kAvx512Bf16);
    return computes && dtype(a.k.id) == type && dtype(a.v.id) == type && scores.rank() >= 3 &&
           a.v.perm.size() == a.q.perm.size() && scores[scores.rank() - 2] >= kLeastRows &&
           scores.Elements() > 0 && BatchOf(a.k) == BatchOf(a.q) && BatchOf(a.v) == BatchOf(a.q);
  }

  bool Fuse(int index) {
    const Node& softmax = graph_.nodes[index];
    if (!graph_.type(softmax.input(0)).Static() || dtype(softmax.input(0)) != DType::f32)
      return false;
    const Dims scores = dims(softmax.input(0));
    const int64_t axis = softmax.attributes.Int("axis", -1);
    if (axis != -1 && axis != scores.rank() - 1) return false;
    Attention a;
    if (!MatchScores(softmax.input(0), &a)) return false;
    ValueId weights = softmax.output(0);
    int last = near_.SoleReader(weights);
    if (last >= 0 && graph_.nodes[last].Is("Cast")) {
      weights = graph_.nodes[last].output(0);
      last = near_.SoleReader(weights);
    }
    if (last < 0 || !IsProduct(graph_.nodes[last]) || graph_.nodes[last].input(0) != weights ||
        graph_.nodes[last].input(1) == weights || !Static(graph_.nodes[last].input(1)) ||
        graph_.nodes[last].attributes.Float("alpha", 1) != 1 || dtype(weights) != dtype(a.q.id))
      return false;
    a.v = OperandB(graph_.nodes[last]);
    if (!Fits(a, scores)) return false;
    TakeTranspose(&a.q, true);
    TakeTranspose(&a.k, false);
    TakeTranspose(&a.v, false);
    Replace(a, last);
    return true;
  }

  void Replace(const Attention& a, int last) {
    Node fused{.op = "FusedAttention", .domain = std::string(kMinimDomain)};
    fused.name = graph_.nodes[last].name;
    fused.inputs = {a.q.id, a.k.id, a.v.id};
    if (a.mask != kNoValue) fused.inputs.push_back(a.mask);
    fused.attributes.Set("scale", a.scale);
    fused.attributes.Set("perm_q", a.q.perm);
    fused.attributes.Set("perm_k", a.k.perm);
    fused.attributes.Set("perm_v", a.v.perm);
    fused.outputs = graph_.nodes[last].outputs;
    const int next = near_.SoleReader(fused.output(0));
    if (next >= 0 && graph_.nodes[next].Is("Transpose")) {
      const Perm perm = PermOf(graph_.nodes[next]);
      if (perm.back() == static_cast<int64_t>(perm.size()) - 1) {
        fused.attributes.Set("perm_y", perm);
        fused.outputs = graph_.nodes[next].outputs;
        // What made the product's rows is dead; its place is after all operands.
        graph_.nodes[next] = std::move(fused);
        return;
      }
    }
    graph_.nodes[last] = std::move(fused);
  }

  Graph& graph_;
  const PassContext& context_;
  const Neighbours near_;
};

}  // namespace

Result<bool> FuseAttention(Graph& graph, const PassContext& context) {
  if (!context.has_kernel("FusedAttention")) return false;
  return AttentionFuser(graph, context).Run();
}

}  // namespace minim
