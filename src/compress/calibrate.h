// Calibration: what the values of a model take over a sample of its inputs.
#pragma once

#include <map>
#include <string>

#include "compress/range_choice.h"
#include "data/dataset.h"
#include "graph/graph.h"

namespace minim {

/// The values of a graph, by name, that 8 bits could hold. Plain data: a report may keep it, to be
/// drawn or compared with what a model meets later.
struct ActivationProfile {
  int64_t samples = 0;
  std::map<std::string, ValueProfile> values;

  friend bool operator==(const ActivationProfile&, const ActivationProfile&) = default;
};

struct CollectOptions {
  int64_t batch = 64;  // samples in memory at a time; fewer where they are large
  int threads = 1;
};

/// Runs the graph over all samples twice: for ranges, then for histograms. Memory does not grow
/// with the number of samples. Samples run one at a time, or in groups of the batch size that the
/// model fixes (the last is filled with copies of the last sample), so that neither `options` nor
/// what a kernel does at another batch size changes a bit of the result.
/// `prepared`: by PrepareForQuantization. An array of the samples with one dim more than the input
/// holds a whole input for each (WithStates).
/// Errors: kInvalidArgument under 8 samples, for a sample with a number that is not finite (its
/// index is named) and for a sample that makes a value infinite or NaN (the value is named).
Result<ActivationProfile> CollectProfile(const Graph& prepared, DataSource& samples,
                                         const CollectOptions& options = {});
Result<ActivationProfile> CollectProfile(const Graph& prepared, const Dataset& samples,
                                         const CollectOptions& options = {});

}  // namespace minim
