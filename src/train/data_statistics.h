// What one pass over the training samples says about them.
#pragma once

#include <vector>

#include "minim/data_source.h"

namespace minim {

struct FeatureStatistics {
  std::vector<double> mean, deviation;  // deviation: 1 where a feature does not vary
  Dims shape;                           // in which they broadcast against a batch of samples
};

/// Features run along the last axis of samples [F] and [T, F], else along the first.
/// Errors: those of the source; kInvalidArgument names a feature with values that are not finite.
Result<FeatureStatistics> MeasureFeatures(DataSource& data);

/// How often each class occurs; labels are i64, or f32 of 0 and 1.
/// Errors: those of the source; kInvalidArgument for other labels.
Result<std::vector<int64_t>> CountClasses(DataSource& data);

}  // namespace minim
