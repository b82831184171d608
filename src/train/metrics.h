// Metrics of a model over a data set.
#pragma once

#include <vector>

#include "data/dataset.h"
#include "minim/session.h"

namespace minim {

/// The class of each sample, in order: the largest of its scores in the first output [N, classes],
/// or, of a single score, 1 if it is above 0, as a logit. Runs in batches of 100.
Result<std::vector<int64_t>> Classify(const Session& session, const Dataset& data);

/// The fraction of samples whose class equals the label.
Result<double> Accuracy(const Session& session, const Dataset& data);

}  // namespace minim
