#include "ops/subgraph.h"

namespace minim {

Result<std::vector<TensorType>> InferSubgraph(const InferContext& op, std::string_view name,
                                              const std::vector<TensorType>& inputs) {
  const Graph* body = op.Subgraph(name);
  if (body == nullptr) return op.Error("has no sub-graph '{}'", name);
  if (body->inputs.size() != inputs.size())
    return op.Error("'{}' takes {} inputs, the node gives {}", name, body->inputs.size(),
                    inputs.size());
  Graph copy = *body;
  for (size_t i = 0; i < inputs.size(); ++i) copy.value(copy.inputs[i]).type = inputs[i];
  MINIM_TRY(InferGraph(copy));
  std::vector<TensorType> types;
  for (ValueId id : copy.outputs) types.push_back(copy.type(id));
  return types;
}

TensorType Merged(const TensorType& a, const TensorType& b) {
  if (a.kind != b.kind) return a.kind == ValueKind::kOptional ? a : b;
  if (!a.is_tensor()) return a;
  TensorType merged = a;
  if (!a.ranked() || !b.ranked() || a.rank() != b.rank()) {
    merged.shape = std::nullopt;
    return merged;
  }
  for (int i = 0; i < a.rank(); ++i)
    if (!(*a.shape)[i].Same((*b.shape)[i])) (*merged.shape)[i] = Dim();
  return merged;
}

}  // namespace minim
