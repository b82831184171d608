// Which values of a forward pass a training step keeps for its backward pass, and which it makes
// again, so that its arena stays within a budget.
#pragma once

#include "passes/passes.h"
#include "plan/plan.h"

namespace minim {

enum class RecomputeMode : uint8_t {
  kNone,    // everything is kept
  kSqrt,    // what crosses the borders of about sqrt(n) equal segments is kept
  kBudget,  // the cheapest choice found whose arena fits a number of bytes
};

struct RecomputeGoal {
  RecomputeMode mode = RecomputeMode::kNone;
  size_t budget_bytes = 0;  // of kBudget: of the arena and, beside it, ...
  size_t state_bytes = 0;   // ... of states
  /// The least that a value may be kept in, of kBudget; its rounding varies with `draw`.
  ActivationStorage storage = ActivationStorage::kWhole;
  ValueId draw = kNoValue;
};

struct RecomputeCost {
  int encoded = 0;  // values that are kept as codes, as ...
  ActivationStorage storage = ActivationStorage::kWhole;
  int nodes = 0;          // that run twice
  size_t kept_bytes = 0;  // live at once if nothing ran twice
  double work = 0;        // of their second run and of codes, as a share of what all nodes do once
};

struct RecomputePlan {
  Plan plan;
  /// Of each node: that of the graph given which it is or repeats; -1 if it encodes or decodes.
  std::vector<int> origins;
  RecomputeCost cost;
};

/// Scratch bytes of a node that encodes or decodes.
using ScratchOf = std::function<size_t(const Graph&, const Node&)>;

/// Plans `graph`, a training step of which the forward part is what `loss` depends on; traits[i]
/// belongs to node i. Work is counted as arithmetic plus four operations for each byte moved.
///
/// kBudget is greedy: at the step with the most live bytes it concedes, of the kept values, the
/// most bytes for the least work, until the plan fits; then it takes back what it did not need to.
/// A value is made again or, if `storage` allows, kept as codes. Borders of equal segments (Chen et
/// al. 2016) and every milder storage are tried as well; the least work wins.
///
/// Errors: kResourceExhausted if no choice found fits, naming the smallest budget found.
Result<RecomputePlan> PlanRecompute(const Graph& graph, ValueId loss,
                                    const std::vector<StepTraits>& traits,
                                    const RecomputeGoal& goal, const ScratchOf& scratch_of);

}  // namespace minim
