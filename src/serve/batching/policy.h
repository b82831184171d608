// Batching policies: when to run, and how many rows, decided from a snapshot of one queue. No
// clock, thread, lock or I/O; the engine around them (batcher.h) owns those.
#pragma once

#include <array>
#include <optional>
#include <span>
#include <string_view>

#include "core/error.h"
#include "serve/model.h"

namespace minim::serve {

/// Bounds shared by the policies; each uses what its comment says.
struct BatchOptions {
  int64_t min_batch = 10;
  int64_t max_batch = 50;
  Duration window = std::chrono::milliseconds(10);
  Duration max_wait = std::chrono::milliseconds(100);
  Duration latency_target = std::chrono::milliseconds(50);
};

/// latency(rows), learned from the runs themselves: a running mean per power of two.
class LatencyModel {
 public:
  void Observe(int64_t rows, Duration time);
  /// Zero as long as nothing was observed; linear in rows beyond what was observed.
  Duration Estimate(int64_t rows) const;

 private:
  static constexpr int kBuckets = 24;
  std::array<double, kBuckets> seconds_{};
  std::array<int, kBuckets> counts_{};
};

/// What waits: requests that may run together, as rows.
struct QueueView {
  int64_t rows = 0;
  TimePoint oldest_arrival;
  /// When the first of them would be too late to answer.
  std::optional<TimePoint> oldest_deadline;
  double rows_per_second = 0;  // arrivals of late
  LatencyModel latency;
};

struct BatchDecision {
  /// Rows to run now; 0 means wait until `until` (or until the queue changes).
  int64_t rows = 0;
  TimePoint until;
};

/// Called only with a non-empty queue and an idle instance.
using PolicyFunction = BatchDecision (*)(const BatchOptions&, const QueueView&, TimePoint now);

struct BatchPolicy {
  std::string_view name;
  PolicyFunction next;
  std::string_view summary;
};

/// One row per policy; see policies.cc.
std::span<const BatchPolicy> BatchPolicies();
/// Errors: kNotFound lists the names there are.
Result<BatchPolicy> FindBatchPolicy(std::string_view name);

/// Never waits: an idle instance takes what is there, up to max_batch.
BatchDecision WorkConserving(const BatchOptions&, const QueueView&, TimePoint now);
/// Waits for max_batch rows, at most max_wait from the oldest request.
BatchDecision FixedSize(const BatchOptions&, const QueueView&, TimePoint now);
/// Waits for max_batch rows until the window ends, then for min_batch rows until max_wait; both
/// run from the oldest request.
BatchDecision TimeWindow(const BatchOptions&, const QueueView&, TimePoint now);
/// The largest batch that still answers the oldest request within latency_target; waits only while
/// more rows are likely to come in time.
BatchDecision Adaptive(const BatchOptions&, const QueueView&, TimePoint now);

}  // namespace minim::serve
