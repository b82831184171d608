// Cross-layer equalization (Nagel et al., "Data-Free Quantization Through Weight Equalization and
// Bias Correction", 2019).
#pragma once

#include "graph/graph.h"

namespace minim {

/// Between a Conv, Gemm or MatMul and the next one, where only a bias, a Relu, a LeakyRelu or a
/// pool lies between them and nothing else reads what does: each channel in between is divided by s
/// = sqrt(r1/r2) in the first op and multiplied by it in the second, r1 and r2 being the largest
/// weights that make and read it. The FP32 function stays, but for rounding.
/// To be called before a profile is collected. Returns how many pairs were changed.
/// `prepared`: by PrepareForQuantization.
Result<int> EqualizeWeights(Graph& prepared);

}  // namespace minim
