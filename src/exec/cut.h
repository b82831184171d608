// Where a graph stops being foreseeable. Early nodes have static shapes and fixed-size dtypes: one
// executable runs them. Host nodes come next: those whose shape depends on values, and those on
// strings, sequences, optionals, maps or sub-graphs. Late nodes wait for what these produce.
#pragma once

#include "graph/graph.h"

namespace minim {

struct Cut {
  std::vector<Node> early;
  std::vector<Node> host;
  std::vector<std::vector<TensorType>> host_types;  // of their outputs, as far as known
  std::vector<Node> late;
  /// Values whose contents the shapes of late nodes wait for.
  std::vector<ValueId> awaited;
  /// What early nodes and inputs hand over: read by host or late nodes, or outputs of the graph.
  std::vector<ValueId> handed;
};

/// Cuts a specialised graph, inferring its nodes on the way.
Result<Cut> CutGraph(Graph& graph);

}  // namespace minim
