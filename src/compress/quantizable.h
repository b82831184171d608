// Which nodes have weights that fewer bits could hold, and what they are called.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "graph/graph.h"

namespace minim {

/// LSTM, GRU or RNN whose weights are constant FP32.
bool RecurrentWithWeights(const Graph& graph, const Node& node);

/// The inputs of a node that are constant FP32 weights: of Conv, Gemm, MatMul, LSTM, GRU and RNN.
std::vector<int> WeightInputs(const Graph& graph, const Node& node);

/// The name of the node's first output that is there.
std::string OpName(const Graph& graph, const Node& node);

/// The ops that can be quantized, by OpName, in order: Conv, Gemm and MatMul with constant weights,
/// then (dynamically only) recurrent layers.
std::vector<std::string> QuantizableOps(const Graph& prepared);

/// Errors: kInvalidArgument for a name that is none of QuantizableOps.
Status CheckKeepFloat(const Graph& prepared, const std::set<std::string>& keep_float);

/// Removes nodes and constants that nothing reads. Unlike EliminateDeadCode it leaves all outputs
/// of the nodes that stay: other readers of a file may rely on them.
void DropUnread(Graph& graph);

}  // namespace minim
