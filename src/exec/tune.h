// Measures what the cost models estimate: which row of the kernel table each step is fastest by,
// and how many rows of a batch are best computed together.
#pragma once

#include "exec/runtime.h"

namespace minim {

struct TuneReport {
  Tuning found;            // for every step and batch looked at, also where the models are right
  double model_us = 0;     // a run as the cost models choose, median
  double measured_us = 0;  // and as measured
  std::string text;        // what differs, a line each
};

/// Of a graph with static types, on `inputs` (one buffer for each input of the graph) and `threads`
/// threads. Alternatives run in turn, `seconds` in all but for one turn of each. What is kept is
/// faster in a run of the whole graph. Errors: those of building and running.
Result<TuneReport> TuneGraph(const Graph& graph, std::span<const void* const> inputs,
                             const Runtime& runtime, int threads, double seconds);

}  // namespace minim
