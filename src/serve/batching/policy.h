// Batching policies: when to run, and how many rows, decided from a snapshot of one queue. No
// clock, thread, lock or I/O; the engine around them (batcher.h) owns those.
#pragma once

#include <span>
#include <string_view>

#include "core/error.h"
#include "serve/batching/latency_model.h"

namespace minim::serve {

/// Bounds shared by the policies; each uses what its comment says.
struct BatchOptions {
  int64_t min_batch = 10;
  int64_t max_batch = 50;
  Duration window = std::chrono::milliseconds(10);
  Duration max_wait = std::chrono::milliseconds(100);
  Duration latency_target = std::chrono::milliseconds(50);
};

/// One waiting request, as a policy sees it.
struct Waiting {
  int64_t rows = 1;
  /// When its answer would be too late.
  TimePoint due = TimePoint::max();
};

/// What waits: requests that may run together, in the order in which they would run.
struct QueueView {
  int64_t rows = 0;
  TimePoint oldest_arrival;
  /// When the first of them would be too late to answer.
  TimePoint due = TimePoint::max();
  /// The first of them, twice max_batch rows of them if there are so many. Only for policies that
  /// keep the target.
  std::span<const Waiting> head;
  /// Rows of requests that are late already and run when nobody else needs the time. Not in `rows`.
  int64_t late_rows = 0;
  double rows_per_second = 0;  // arrivals of late, those refused included
  int instances = 1;
  const LatencyModel* latency = nullptr;
};

/// Why a run began when it did.
enum class ReleaseReason {
  kIdle,      // an instance was idle and there was nothing to wait for
  kFull,      // max_batch rows
  kWindow,    // the window or the longest wait was over
  kDeadline,  // later, or with more rows, it would have been too late for one of them
  kWorth,     // fewer rows than there were: more would have taken longer than they were worth
  kLate,      // only requests past their target were left
  kAlone,     // a request that runs without company
};
/// "idle", "full", ...
std::string_view ReleaseReasonName(ReleaseReason reason);
inline constexpr int kReleaseReasons = 7;

struct BatchDecision {
  /// Rows to run now; 0 means wait until `until` (or until the queue changes).
  int64_t rows = 0;
  TimePoint until{};
  ReleaseReason reason = ReleaseReason::kIdle;
  /// Requests of the head that cannot be in time any more: they make room for the others. With
  /// skip > 0 and rows = 0 the policy is asked again at once.
  int64_t skip = 0;
};

/// Called only with a non-empty queue and an idle instance.
using PolicyFunction = BatchDecision (*)(const BatchOptions&, const QueueView&, TimePoint now);

struct BatchPolicy {
  std::string_view name;
  PolicyFunction next;
  std::string_view summary;
  /// Requests are due latency_target after their arrival: those that cannot be are refused at once,
  /// those that no longer can be stand back.
  bool keeps_target = false;
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
/// Never waits. Takes the batch that answers the most requests within latency_target for the time
/// it costs, by what it has learned of latency(rows) and of the arrivals.
BatchDecision Adaptive(const BatchOptions&, const QueueView&, TimePoint now);

}  // namespace minim::serve
