// Predictive admission: when a request that comes now would be answered, from what waits before it
// and from latency(rows). Pure, like a policy.
#pragma once

#include <atomic>
#include <span>

#include "serve/batching/policy.h"

namespace minim::serve {

/// What nearly all answers take on their way out, learned from each; without a lock.
class SendingTime {
 public:
  void Observe(Duration time);
  /// What 49 of 50 stay under; zero before the first.
  Duration High() const { return FromSeconds(high_.load(std::memory_order_relaxed)); }

 private:
  std::atomic<double> high_{0};  // seconds; of two updates at once one may be lost
};

/// How a model runs while more comes than it can answer.
struct Pace {
  int64_t rows = 1;            // per run
  double run_seconds = 0;      // of one; 0: nothing is known
  double rows_per_second = 0;  // arrivals
};
/// The pace with the most rows per second among those whose rows are all answered in time: as many
/// as arrive in the time that a run leaves of the target.
Pace PaceOf(const BatchOptions& bounds, const LatencyModel& latency, double rows_per_second);

/// What stands before a request.
struct Backlog {
  /// Rows that run before it, and its own.
  double rows = 1;
  /// When each instance will have ended its run, or a time that is past. Sorted.
  std::span<const TimePoint> free_at;
};
/// When the last of the backlog's rows is answered; `now` if nothing is known. Its run fills up
/// with what arrives until it begins.
TimePoint PredictAnswer(const Backlog& backlog, const Pace& pace, const LatencyModel& latency,
                        TimePoint now);

/// The latency target; for a model that cannot meet it with a single row, what it can meet.
Duration ReachableTarget(const BatchOptions& bounds, const LatencyModel& latency);

}  // namespace minim::serve
