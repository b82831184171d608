// Latency of several sessions, measured in turns.
#pragma once

#include <memory>
#include <vector>

#include "compress/shrink.h"
#include "compress/stream.h"
#include "data/dataset.h"
#include "minim/session.h"

namespace minim {

struct TimingOptions {
  int most_rounds = 300;
  int least_rounds = 5;
  std::chrono::milliseconds budget{4000};  // large models get fewer rounds
  Feedback feedback = {};                  // states are carried from run to run
};

/// Runs each session on the first `batch` samples (of fewer: from the start again) in turns, so
/// that a noisy moment hits all of them; very short runs are repeated within a turn. In the order
/// of `sessions`; the first is the reference of the ratios.
Result<std::vector<Latency>> TimeInTurns(const std::vector<std::shared_ptr<Session>>& sessions,
                                         const Dataset& data, int64_t batch,
                                         const TimingOptions& options = {});

}  // namespace minim
