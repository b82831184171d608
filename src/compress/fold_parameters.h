// Constant folding before a graph is changed and trained.
#pragma once

#include "graph/graph.h"

namespace minim {

/// `graph` with constants folded, what is not read left out, and types inferred. What was made of
/// literals alone is one: FineTune must not take a formula for parameters.
Result<Graph> FoldParameters(const Graph& graph);

}  // namespace minim
