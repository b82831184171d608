// Builds a sequential model with freshly drawn weights.
#pragma once

#include "graph/graph.h"
#include "minim/train.h"

namespace minim {

/// Input "input" f32[N, ...], output "logits". Weights are He-normal (He et al. 2015), a function
/// of `seed`. Errors: kInvalidArgument names the layer that does not fit.
Result<Graph> BuildModel(const ModelSpec& spec, uint64_t seed);

}  // namespace minim
