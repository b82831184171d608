// BatchScheduler: every decision about a model's queue, from admission to the choice of the next
// batch. It has no thread and no clock, so that the batcher and the simulator share it.
// Threads: none of its own; whoever holds it guards it.
#pragma once

#include <array>
#include <optional>
#include <vector>

#include "serve/batching/admission.h"
#include "serve/batching/job_queue.h"
#include "serve/batching/policy.h"

namespace minim::serve {

/// What can be changed while a model serves.
struct BatchSettings {
  BatchPolicy policy = BatchPolicies()[0];
  BatchOptions bounds;
  /// Rows that may wait; more is refused.
  int64_t max_queue_rows = 4096;
};

/// Errors: kInvalidArgument names the field and its range.
Status CheckBatchSettings(const BatchSettings& settings);

/// The arrivals of late as an exponentially fading sum.
class ArrivalRate {
 public:
  void Add(int64_t rows, TimePoint now);
  double At(TimePoint now) const;

 private:
  double per_second_ = 0;
  TimePoint last_;
};

class BatchScheduler {
 public:
  BatchScheduler(BatchSettings settings, int instances);

  void Configure(const BatchSettings& settings);
  const BatchSettings& settings() const { return settings_; }
  /// Rows that runs should have, rising, from 1; empty: any. A request with other rows runs as
  /// well.
  void SetSizes(std::vector<int64_t> sizes) { sizes_ = std::move(sizes); }
  /// What an answer takes on its way out; at most half of a latency target is left for it.
  void SetSending(Duration sending);

  /// Says why a job is refused already for how long it has waited, whatever else it is. Only where
  /// late answers have become many.
  Status CheckInTime(TimePoint since, TimePoint now) const;
  /// Takes the job in, or says why not and leaves it where it is: kResourceExhausted when the
  /// queue is full or the answer would come too late, with the time after which to try again.
  Status Submit(JobPtr& job, TimePoint now);
  /// The next batch, if an instance that is idle now should run one.
  JobQueue::Choice Next(TimePoint now);
  /// Jobs that will not run: past their deadline, cancelled, or pushed out by others.
  std::vector<JobPtr> TakeDead(TimePoint now);
  std::vector<JobPtr> TakeAll();
  std::optional<TimePoint> NextDeadline() const { return queue_.NextDeadline(); }

  /// A run of what Next gave begins; returns its instance. Needs one that is idle.
  int Begin(const std::vector<JobPtr>& batch, TimePoint now);
  /// It has ended, after `time`. `learn` is false for a run that says nothing about later ones.
  void End(int instance, Duration time, bool learn, TimePoint now);

  bool empty() const { return queue_.empty(); }
  /// An instance is.
  bool idle() const;
  int64_t queued_rows() const { return queue_.rows(); }
  const LatencyModel& latency() const { return latency_; }

 private:
  static constexpr size_t kLevels = kPriorityLevels;
  static constexpr double kLateCredit = 4;

  Status CheckRoom(const QueuedJob& job, TimePoint now);
  TimePoint Predict(const QueuedJob& job, size_t level, TimePoint now);
  int64_t RowsBefore(size_t level) const;
  void FindPace(TimePoint now);

  BatchSettings settings_;
  BatchOptions bounds_;  // the settings', the latency target less the sending
  Duration sending_{};
  std::vector<int64_t> sizes_;
  JobQueue queue_;
  LatencyModel latency_;
  std::array<ArrivalRate, kLevels> accepted_;  // by level
  ArrivalRate offered_;
  Pace pace_;  // as of the last run
  struct Instance {
    int64_t rows = 0;               // of its run
    std::vector<Waiting> promised;  // those of them that should be in time
  };
  std::vector<TimePoint> ends_;  // by instance: when its run will have ended; min: idle
  std::vector<Instance> running_;
  std::vector<TimePoint> free_at_;  // kept for its memory
  std::vector<JobPtr> pushed_out_;
  double late_credit_ = kLateCredit;  // rows that may still be answered late
};

}  // namespace minim::serve
