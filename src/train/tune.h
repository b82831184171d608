// What a training step takes, timed, and the settings under which it is fastest.
#pragma once

#include "graph/graph.h"
#include "minim/train.h"

namespace minim {

/// The median of some real steps on `like`, repeated, after one that warms up; nothing is kept.
/// Errors: those of StepRunner::Make and Run.
Result<TuneTrial> TimeStep(const Graph& forward, const TrainConfig& config,
                           TrainPrecision precision, const Batch& like);

/// Chooses, one after the other: the precision of FP32 and BF16 that is faster, the fewest threads
/// within 3 % of the fastest, and the smallest batch, from config.batch by doubling, after which a
/// sample gains less than 5 %; at least ten steps an epoch stay. A step that takes more than
/// `most_bytes` gets that as its budget. `tried` is called with each measurement; false stops with
/// kCancelled. Errors: those of the first measurement.
Result<TrainConfig> TuneSteps(const Graph& forward, const TrainConfig& config, DataSource& data,
                              size_t most_bytes,
                              const std::function<bool(const TuneTrial&)>& tried);

}  // namespace minim
