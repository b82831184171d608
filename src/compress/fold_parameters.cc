#include "compress/fold_parameters.h"

#include <algorithm>

#include "ops/infer.h"
#include "passes/passes.h"

namespace minim {
namespace {

// Values that no parameter is part of.
std::set<ValueId> Formulas(const Graph& graph) {
  std::set<ValueId> formulas;
  for (const auto& [id, tensor] : graph.constants)
    if (graph.literals.contains(id) || tensor.dtype() != DType::f32 || tensor.dims().rank() == 0)
      formulas.insert(id);
  for (const Node& node : graph.nodes) {
    const bool all = std::all_of(node.inputs.begin(), node.inputs.end(), [&](ValueId id) {
      return id == kNoValue || formulas.contains(id);
    });
    // Of a shape only numbers are known, whatever the value holds.
    if (all || node.Is("Shape") || node.Is("Size"))
      formulas.insert(node.outputs.begin(), node.outputs.end());
  }
  return formulas;
}

}  // namespace

Result<Graph> FoldParameters(const Graph& graph) {
  Graph folded = graph;
  MINIM_TRY(InferGraph(folded));
  const std::set<ValueId> formulas = Formulas(folded);
  MINIM_TRY(FoldConstants(folded, {}));
  for (const auto& [id, tensor] : folded.constants)
    if (!graph.constants.contains(id) && formulas.contains(id)) folded.literals.insert(id);
  MINIM_TRY(InferGraph(folded));
  MINIM_TRY(EliminateDeadCode(folded, {}));
  return folded;
}

}  // namespace minim
