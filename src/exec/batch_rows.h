// Whether the rows of a batch may be computed a few at a time, and how many that should be.
#pragma once

#include "graph/graph.h"

namespace minim {

/// The number of rows (axis 0 of every input and output) if what the graph makes of a row depends
/// on that row and constants alone, and every value in between holds the rows one after the other;
/// else 0. Needs static types.
int64_t IndependentRows(const Graph& graph);

/// How many of `rows` one run should take on `threads` threads: a divisor; `rows` where nothing is
/// gained. Of graphs with convolutions, whose values outgrow the caches before their products are
/// large enough to be worth a batch: as few rows as read their weights for less than a third of
/// the bytes of the values they move, in slices that keep the threads at work.
int64_t RowsTogether(const Graph& graph, int64_t rows, int threads);

/// Makes the graph one for `together` of its IndependentRows, a divisor: the same nodes, axis 0 of
/// what has rows shorter. Returns how many such slices the batch has; 1 leaves the graph as it is.
int64_t SliceBatch(Graph& graph, int64_t together);

}  // namespace minim
