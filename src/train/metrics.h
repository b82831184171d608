// Metrics of a model over a data set.
#pragma once

#include <vector>

#include "data/dataset.h"
#include "minim/session.h"

namespace minim {

/// The class with the largest first output per sample, in order. Runs in batches of 100.
Result<std::vector<int64_t>> Classify(const Session& session, const Dataset& data);

/// The fraction of samples whose class equals the label.
Result<double> Accuracy(const Session& session, const Dataset& data);

}  // namespace minim
