// Builds a sequential model with freshly drawn weights.
#pragma once

#include "graph/graph.h"
#include "minim/train.h"
#include "train/data_statistics.h"

namespace minim {

/// Input "input" f32[N, ...], output "logits". Weights are He-normal (He et al. 2015), a function
/// of `seed`. Errors: kInvalidArgument names the layer that does not fit.
Result<Graph> BuildModel(const ModelSpec& spec, uint64_t seed);

/// Puts (x - mean) / deviation before everything that reads the only input of `graph`, as literals,
/// which are not trained.
Status Standardize(Graph& graph, const FeatureStatistics& features);

}  // namespace minim
