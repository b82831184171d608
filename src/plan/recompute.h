// Which values of a forward pass a training step keeps for its backward pass, and which it makes
// again, so that its arena stays within a budget.
#pragma once

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
};

struct RecomputeCost {
  int nodes = 0;          // that run twice
  size_t kept_bytes = 0;  // live at once if nothing ran twice
  double work = 0;        // of their second run, as a share of what all nodes do once
};

struct RecomputePlan {
  Plan plan;
  std::vector<int> origins;  // of each node: that of the graph given which it is or repeats
  RecomputeCost cost;
};

/// Plans `graph`, a training step of which the forward part is what `loss` depends on; traits[i]
/// belongs to node i. Work is counted as arithmetic plus four operations for each byte moved.
///
/// kBudget is greedy: at the step with the most live bytes it gives up the kept value with the most
/// bytes for the least work, until the plan fits; then it takes back what it did not need to give
/// up. Borders of equal segments (Chen et al. 2016) are tried as well.
///
/// Errors: kResourceExhausted if no choice found fits, naming the smallest budget found.
Result<RecomputePlan> PlanRecompute(const Graph& graph, ValueId loss,
                                    const std::vector<StepTraits>& traits,
                                    const RecomputeGoal& goal);

}  // namespace minim
