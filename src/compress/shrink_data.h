// The samples that shrink works with: read, checked, and kept apart.
#pragma once

#include "compress/shrink.h"
#include "compress/stream.h"
#include "data/dataset.h"
#include "graph/graph.h"

namespace minim {

struct ShrinkData {
  Dataset gate;         // what variants are judged on
  Dataset calibration;  // none of which is in `gate`
  Dataset profiled;     // the same with the states before each step, where there are states
  Dataset train;        // undefined samples: none
  Feedback feedback;
  std::vector<std::string> warnings;

  bool has_train() const { return train.samples.defined(); }
};

/// Without calibration samples of their own a fifth of the data, drawn by the seed, is taken from
/// the gate's; of a stream its first steps, whole sequences of them. Errors: those of reading;
/// kInvalidArgument for inputs without data or a known rank, arrays that do not fit the model or
/// each other, samples that are not finite, fewer than 8 of a part.
Result<ShrinkData> ReadShrinkData(const Graph& model, const ShrinkOptions& options);

/// The first `count` samples, or all of fewer.
Dataset FirstSamples(const Dataset& data, int64_t count);

}  // namespace minim
