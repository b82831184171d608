// Batcher: the threads in front of one model. Merges requests of equal shapes and dtypes, runs
// them, gives each caller exactly its rows. What to run when is the scheduler's to say
// (scheduler.h). Threads: every method may be called from any thread; `done` runs on one of the
// batcher's threads or, before Submit returns, on the caller's, once for every job, and must not
// block. Lifetime: the destructor stops it, and may run on one of the batcher's own threads.
#pragma once

#include <functional>
#include <memory>

#include "serve/batching/job.h"
#include "serve/batching/policy.h"
#include "serve/batching/scheduler.h"
#include "serve/model.h"

namespace minim::serve {

/// One run of the model, as the metrics see it.
struct RunReport {
  int64_t rows = 0;
  /// max_batch when it ran: rows / max_rows says how well batches fill.
  int64_t max_rows = 0;
  Duration time{};
  ReleaseReason reason = ReleaseReason::kIdle;
  /// No run with these dims was prepared or made before.
  bool cold = false;
  bool ok = true;
};

struct BatcherOptions {
  BatchPolicy policy = BatchPolicies()[0];
  BatchOptions bounds;
  /// Threads, each with one run at a time.
  int instances = 1;
  /// Rows that may wait; more is refused with kResourceExhausted.
  int64_t max_queue_rows = 4096;
  /// Time to spend on preparing every batch size at load, two to each doubling at least.
  Duration warm_budget = std::chrono::seconds(1);
  /// A run that takes less is made on the caller's thread, where an instance is idle and nothing
  /// waits: to wake a thread of the batcher, and be woken again, would take longer.
  Duration on_callers_thread = std::chrono::microseconds(20);
  std::function<void(const RunReport&)> on_run;
};

class Batcher {
 public:
  Batcher(std::shared_ptr<const Model> model, BatcherOptions options);
  ~Batcher();
  Batcher(const Batcher&) = delete;
  Batcher& operator=(const Batcher&) = delete;

  /// Prepares the batch sizes 1, 2, 3, 4, 6, 8, 12, ... max_batch, then the others while the budget
  /// lasts. If it does not last, batches have only sizes that are prepared: a run for which nothing
  /// is takes many times as long. Models with unknown dims besides the rows are left for the first
  /// request. Again after Configure, it prepares what became possible.
  Status Warm();

  /// Whether it is too late already for a request that began to wait at `since`, so that nothing
  /// else of it need be known. Errors: kResourceExhausted, as of Submit.
  Status CheckInTime(TimePoint since) const;
  /// Errors: kResourceExhausted when the queue is full or the answer would come too late, with the
  /// time after which to try again; kUnavailable once stopped. `done` is not called then.
  Status Submit(BatchJob job);
  /// Answers what still waits with kUnavailable and lets what runs end. Needs: no other thread
  /// stops or destroys it meanwhile.
  void Stop();

  /// Takes effect with the next decision; requests that wait keep their place and their due time.
  /// Errors: kInvalidArgument names the field and its range; nothing changes then.
  Status Configure(const BatchSettings& settings);
  BatchSettings settings() const;

  /// An answer was on its way for so long after its run. A latency target leaves time for it.
  void Sent(Duration after);

  bool batchable() const;
  /// Rows waiting now.
  int64_t queued_rows() const;
  /// What it has learned: how long a run with so many rows takes. Zero before the first run.
  Duration ExpectedLatency(int64_t rows) const;

 private:
  class Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace minim::serve
