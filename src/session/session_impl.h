// A Session straight from a graph, for the layers above that build graphs themselves.
#pragma once

#include "graph/graph.h"
#include "minim/session.h"

namespace minim {

/// Runs the load pipeline on `graph` and prepares to serve it.
Result<std::shared_ptr<Session>> MakeSession(Graph graph, const SessionOptions& options);

}  // namespace minim
