// The optimizer as part of a graph: finite check, clipping, update, moving average.
#pragma once

#include <vector>

#include "graph/graph.h"
#include "minim/train.h"

namespace minim {

enum class StateKind : uint8_t {
  kParameter,
  kMoment,     // of an optimizer
  kCount,      // of updates
  kStatistic,  // of a normalisation
  kAverage,    // of a parameter, moving
  kGradient,   // accumulated over batches
};

/// A graph with states, where they start, and what they are for.
struct StatefulGraph {
  Graph graph;
  std::vector<Tensor> initial_states;  // in the order of graph.states
  std::vector<StateKind> kinds;        // the same order

  void AddState(State state, Tensor value, StateKind kind);
};

struct UpdateInputs {
  ValueId rate = kNoValue;           // f32 scalars
  ValueId inverse_scale = kNoValue;  // of the loss
};

struct UpdateResult {
  ValueId finite = kNoValue;     // bool scalar: the condition of every state written here
  ValueId norm = kNoValue;       // f32 scalar, of the unscaled gradients, before clipping
  ValueId exponents = kNoValue;  // i64[256], of the scaled gradients, if asked for
};

struct UpdateSpec {
  const OptimizerSpec& optimizer;
  double ema_decay = 0;
  bool exponents = false;  // count the gradients' exponents, for an adaptive loss scale
};

/// The first values and names of parameters, which are read as `reads` and have `gradients` (f32).
struct Parameters {
  std::vector<std::string> names;
  std::vector<ValueId> reads;
  std::vector<Tensor> values;
};

/// Appends the update of `parameters` and all states it needs, the parameters among them.
/// Errors: kInvalidArgument for a group of parameters that has none.
Result<UpdateResult> AppendUpdate(StatefulGraph& to, const Parameters& parameters,
                                  const std::vector<ValueId>& gradients, const UpdateInputs& inputs,
                                  const UpdateSpec& spec);

/// Errors: kInvalidArgument for a spec that cannot work, naming the field.
Status CheckOptimizer(const OptimizerSpec& spec);

}  // namespace minim
