// Calibration: the ranges that values take over a sample.
#pragma once

#include <map>

#include "data/dataset.h"
#include "graph/graph.h"

namespace minim {

struct Range {
  float low = 0;
  float high = 0;

  /// Both, and NaN in neither.
  Range Union(const Range& other) const {
    return {other.low < low ? other.low : low, other.high > high ? other.high : high};
  }
};

/// Min and max of each of `values` (f32) over every sample; the range is widened to include 0.
/// Independent of how the samples are batched. Errors: kInvalidArgument under 8 samples.
Result<std::map<ValueId, Range>> CalibrateMinMax(const Graph& graph,
                                                 const std::vector<ValueId>& values,
                                                 const Dataset& samples);

}  // namespace minim
