// The samples that shrink works with: read, checked, and kept apart.
#pragma once

#include "compress/shrink.h"
#include "data/dataset.h"
#include "graph/graph.h"

namespace minim {

struct ShrinkData {
  Dataset gate;         // what variants are judged on
  Dataset calibration;  // none of which is in `gate`
  Dataset train;        // undefined samples: none
  std::vector<std::string> warnings;

  bool has_train() const { return train.samples.defined(); }
};

/// `model` has one input of known rank. Without calibration samples of their own a fifth of the
/// data, drawn by the seed, is taken from the gate's. Errors: those of reading; kInvalidArgument
/// for shapes that do not fit the model, samples that are not finite, fewer than 8 of a part.
Result<ShrinkData> ReadShrinkData(const Graph& model, const ShrinkOptions& options);

/// The first `count` samples, or all of fewer.
Dataset FirstSamples(const Dataset& data, int64_t count);

}  // namespace minim
