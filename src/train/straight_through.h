// Gradients through the roundings of a quantized graph.
#pragma once

#include <vector>

#include "graph/graph.h"

namespace minim {

/// Where a DequantizeLinear undoes a QuantizeLinear of a value that depends on `trained`, gradients
/// go straight through the pair: as if it were the identity between the least and the largest value
/// that the integers reach, and zero beyond. The forward pass keeps its bits. Scales take no
/// gradient; where one is not a constant it is taken to cover the values. Needs: static shapes,
/// before autodiff.
Status PassThroughRounding(Graph& graph, const std::vector<ValueId>& trained);

}  // namespace minim
