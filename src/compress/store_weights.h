// Weights in fewer bytes: stored as small integers or 16-bit floats, computed with as FP32.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "graph/graph.h"

namespace minim {

/// What storing a tensor in 16 bits does to it.
struct TensorRange {
  std::string name;
  float max_abs = 0;
  float smallest_nonzero = 0;     // of the magnitudes
  int64_t overflow = 0;           // elements that become infinite
  int64_t underflow = 0;          // elements that become 0
  double relative_rms_error = 0;  // of what stays finite: |stored - given| / |given|
};

/// Weights in `dtype` (f16 or bf16) behind a Cast. `ranges`, if given, receives a line for each.
/// Errors: kUnsupported if there are none.
Result<Graph> StoreWeights16(const Graph& graph, DType dtype,
                             std::vector<TensorRange>* ranges = nullptr);

/// Weights as symmetric integers of `bits` (8 or 4) behind a DequantizeLinear. `block`: a scale for
/// so many neighbours along the summed axis, a power of two from 16 up; 0: one per output channel.
/// What would not shrink stays, and so do the weights of the ops that `keep_float` names (as
/// QuantizableOps does). Errors: kUnsupported if there are none; kInvalidArgument for other `bits`
/// or `block` and for unknown names.
Result<Graph> StoreWeightsInt(const Graph& graph, int bits, int block,
                              const std::set<std::string>& keep_float = {});

}  // namespace minim
