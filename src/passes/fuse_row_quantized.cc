#include <cmath>

#include "core/dtype.h"
#include "passes/passes.h"

namespace minim {
namespace {

// Matches, from the last node up:
//   s   = ReduceMax(Abs(x), -1) / 127;  safe = Where(Equal(s, 0), 1, s)
//   q   = Cast(Round(Div(x, safe)), int8)
//   y   = Mul(Mul(Cast(MatMulInteger(q, W), float), safe), w_scale)  [+ bias]
class Matcher {
 public:
  explicit Matcher(Graph& graph) : graph_(graph), producers_(graph.Producers()) {}

  bool Run() {
    bool changed = false;
    for (size_t i = 0; i < graph_.nodes.size(); ++i) {
      if (!graph_.nodes[i].Is("Mul")) continue;
      Node fused;
      if (!Match(graph_.nodes[i], fused)) continue;
      fused.outputs = graph_.nodes[i].outputs;
      graph_.nodes[i] = std::move(fused);
      changed = true;
    }
    return changed;
  }

 private:
  const Node* From(ValueId id, std::string_view op) const {
    if (id == kNoValue || producers_[id] < 0) return nullptr;
    const Node& node = graph_.nodes[producers_[id]];
    return node.Is(op) ? &node : nullptr;
  }

  bool IsScalar(ValueId id, double expected) const {
    const Tensor* tensor = graph_.constant(id);
    return tensor != nullptr && tensor->size() == 1 &&
           Converted(tensor->view(), DType::f64).as<double>()[0] == expected;
  }

  bool Match(const Node& mul, Node& fused) const {
    const Tensor* w_scale = graph_.constant(mul.input(1));
    const Node* by_row = From(mul.input(0), "Mul");
    if (w_scale == nullptr || w_scale->dtype() != DType::f32 || by_row == nullptr) return false;
    const Node* to_float = From(by_row->input(0), "Cast");
    const Node* product = to_float ? From(to_float->input(0), "MatMulInteger") : nullptr;
    if (product == nullptr || product->inputs.size() != 2) return false;
    const Tensor* weights = graph_.constant(product->input(1));
    if (weights == nullptr || weights->dtype() != DType::i8 || weights->dims().rank() != 2 ||
        w_scale->size() != weights->dims()[1])
      return false;
    ValueId x = kNoValue;
    if (!MatchRows(product->input(0), by_row->input(1), x)) return false;
    fused = Node{
        .op = "RowQuantizedMatMul", .domain = std::string(kMinimDomain), .name = product->name};
    fused.inputs = {x, product->input(1), mul.input(1)};
    return true;
  }

  bool MatchRows(ValueId quantized, ValueId safe, ValueId& x) const {
    const Node* cast = From(quantized, "Cast");
    const Node* round = cast ? From(cast->input(0), "Round") : nullptr;
    const Node* div = round ? From(round->input(0), "Div") : nullptr;
    if (div == nullptr || div->input(1) != safe) return false;
    if (graph_.type(quantized).dtype != DType::i8) return false;
    x = div->input(0);
    const Node* where = From(safe, "Where");
    const Node* is_zero = where ? From(where->input(0), "Equal") : nullptr;
    if (is_zero == nullptr || !IsScalar(where->input(1), 1) || !IsScalar(is_zero->input(1), 0) ||
        where->input(2) != is_zero->input(0))
      return false;
    const Node* scale = From(where->input(2), "Div");
    const Node* most =
        scale && IsScalar(scale->input(1), 127) ? From(scale->input(0), "ReduceMax") : nullptr;
    const Node* abs = most ? From(most->input(0), "Abs") : nullptr;
    const bool last_axis =
        most && IsScalar(most->input(1), -1) && most->attributes.Int("keepdims", 1);
    return abs != nullptr && last_axis && abs->input(0) == x && graph_.type(x).dtype == DType::f32;
  }

  Graph& graph_;
  std::vector<int> producers_;
};

}  // namespace

Result<bool> FuseRowQuantized(Graph& graph, const PassContext& context) {
  if (!context.has_kernel("RowQuantizedMatMul")) return false;
  const bool changed = Matcher(graph).Run();
  if (changed) MINIM_TRY(EliminateDeadCode(graph, context));
  return changed;
}

}  // namespace minim
