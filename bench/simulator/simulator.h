// The batcher in virtual time: the scheduler that the server uses (serve/batching/scheduler.h),
// with arrivals from a list and runs that take what a curve says.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "serve/batching/scheduler.h"

namespace minim {

struct SimulatedRequest {
  double arrival = 0;  // seconds
  int64_t rows = 1;
  uint64_t priority = 0;
  double timeout = 0;  // seconds after which the client no longer wants an answer; 0: never
};

struct SimulationOptions {
  serve::BatchSettings settings;
  int instances = 1;
  /// What a run of so many rows takes, in seconds.
  std::function<double(int64_t)> run_seconds;
  /// Runs take longer or shorter by a lognormal factor with this spread; every two-hundredth takes
  /// five times as long if it is above zero.
  double noise = 0;
  uint64_t seed = 1;
};

enum class Fate : uint8_t {
  kRefused,  // at its arrival
  kDropped,  // later: past its timeout, or pushed out
  kAnswered,
};

struct SimulatedAnswer {
  Fate fate = Fate::kRefused;
  double latency = 0;  // seconds from arrival to answer
};

struct SimulatedRun {
  double start = 0, seconds = 0;
  int64_t rows = 0;
  serve::ReleaseReason reason = serve::ReleaseReason::kIdle;
};

struct Simulation {
  std::vector<SimulatedAnswer> answers;  // by request
  std::vector<SimulatedRun> runs;
  int64_t most_queued_rows = 0;
  double end = 0;  // of the last run

  int64_t Count(Fate fate) const;
  /// Answered within the target.
  int64_t InTime(double target_seconds) const;
  /// Of the latencies of those answered; 0 without any.
  double LatencyQuantile(double q) const;
  double MeanBatch() const;
};

/// Requests must be in order of arrival.
Simulation Simulate(const SimulationOptions& options, std::span<const SimulatedRequest> requests);

}  // namespace minim
