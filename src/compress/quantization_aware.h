// Quantization-aware training: weights learn to live with the rounding of a quantized graph.
#pragma once

#include "compress/fine_tune.h"
#include "graph/graph.h"

namespace minim {

/// Trains the weights and biases of `quantized`, a graph as QuantizeStatic makes it, under its own
/// rounding: activations keep their scales, weights are rounded anew in each step at the scale
/// max|w|/127 of their channel, and gradients pass the roundings straight through. Weights start
/// from those of `prepared`, the float graph that was quantized, where it has the constant that
/// "<name>_quantized" was made of, else from the rounded ones. The result has the form of
/// `quantized` and computes what was trained. Errors: those of FineTune; kUnsupported if no weight
/// is quantized.
Result<FineTuned> FineTuneQuantized(const Graph& prepared, const Graph& quantized,
                                    DataSource& train, const FineTuneOptions& options);

}  // namespace minim
