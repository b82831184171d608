// The training step as a graph: forward, loss, backward, optimizer, with weights and moments as
// states.
#pragma once

#include "graph/graph.h"
#include "minim/train.h"

namespace minim {

struct StepGraph {
  /// Inputs: samples, labels, learning rate (f32 scalar). Outputs: loss, predictions.
  /// States: every parameter under its value's name, its moments, running statistics, "step".
  Graph graph;
  std::vector<Tensor> initial_states;  // in the order of graph.states
  int64_t parameter_count = 0;
};

/// `forward` has one input and one output; f32 constants that feed differentiable ops are trained.
/// Errors: kUnsupported names an operator without a gradient.
Result<StepGraph> BuildStep(const Graph& forward, const TrainConfig& config,
                            const Dims& sample_dims, const Tensor& labels_like);

/// `forward` with its constants replaced by the states of the same name.
Graph WithStates(const Graph& forward, const StepGraph& step, const std::vector<Tensor>& states);

}  // namespace minim
