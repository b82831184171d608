// Binding of graph nodes to CPU kernels.
#pragma once

#include "exec/runtime.h"
#include "graph/graph.h"

namespace minim {

/// How one node will run.
struct BoundStep {
  std::shared_ptr<const Kernel> kernel;  // null: the reference runs it
  std::string how;                       // for `minim explain`
  std::string_view row = {};             // of the CPU table
};

/// Binds `node`, whose values have static types. An op without a fitting row is evaluated by its
/// reference; `how` then lists the refusals.
BoundStep BindNode(const Graph& graph, const Node& node, Runtime& runtime, int threads);

/// Rows of the CPU table that could run `node`, best by the cost models first.
std::vector<std::string_view> RowsFor(const Graph& graph, const Node& node, Runtime& runtime,
                                      int threads);

/// True if the CPU table has a row for an op of this name.
bool HasCpuKernel(std::string_view op);

}  // namespace minim
