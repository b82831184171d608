// Checkpoints: the states of a graph and the numbers beside them, in one safetensors file.
#pragma once

#include "train/saved_values.h"
#include "train/update.h"

namespace minim {

/// Replaces the file atomically. Errors: those of WriteFileAtomic.
Status WriteCheckpoint(const std::string& path, const StatefulGraph& graph,
                       const std::vector<Tensor>& states, SavedValues values);

/// Makes room for the next checkpoint: this one becomes FILE.1, that FILE.2 and so on, `keep` files
/// with the next. `path` itself stays until it is replaced, so that there always is one.
void KeepOlder(const std::string& path, int64_t keep);

/// Fills `states`, in the order of graph.states, and returns the numbers. Nothing is changed on an
/// error. Errors: kNotFound; kDataLoss for a damaged file; kInvalidArgument if it has no such
/// state.
Result<SavedValues> ReadCheckpoint(const std::string& path, const StatefulGraph& graph,
                                   std::vector<Tensor>& states);

}  // namespace minim
