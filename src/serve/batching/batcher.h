// Batcher: the queue and the threads in front of one model. Merges requests of equal shapes and
// dtypes, runs them, gives each caller exactly its rows.
// Threads: Submit may be called from any thread; `done` runs on one of the batcher's threads, once
// for every job, and must not block.
// Lifetime: the destructor answers what still waits with kUnavailable. It may run on one of the
// batcher's own threads.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <vector>

#include "serve/batching/policy.h"
#include "serve/model.h"

namespace minim::serve {

/// Set by whoever learns that the caller went away.
using CancelFlag = std::shared_ptr<std::atomic<bool>>;

/// Where a job's time went, and in what company.
struct BatchTimes {
  Duration queue{};
  Duration input{};  // putting rows together
  Duration infer{};
  Duration output{};  // taking them apart
  int64_t batch_rows = 0;
};

struct BatchResult {
  Result<std::vector<Tensor>> outputs;
  BatchTimes times;
};

struct BatchJob {
  /// In the model's order, checked against its signature.
  std::vector<Tensor> inputs;
  /// False: runs alone, at once when an instance is free.
  bool may_batch = true;
  TimePoint deadline = TimePoint::max();
  CancelFlag cancelled;
  std::function<void(BatchResult)> done;
};

/// One run of the model, as the metrics see it.
struct RunReport {
  int64_t rows = 0;
  Duration time{};
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
  /// Time to spend on preparing every batch size at load, beyond the powers of two.
  Duration warm_budget = std::chrono::seconds(1);
  std::function<void(const RunReport&)> on_run;
};

class Batcher {
 public:
  Batcher(std::shared_ptr<const Model> model, BatcherOptions options);
  ~Batcher();
  Batcher(const Batcher&) = delete;
  Batcher& operator=(const Batcher&) = delete;

  /// Prepares the batch sizes 1, 2, 4, ... max_batch, then the others while the budget lasts.
  /// Models with unknown dims besides the rows are left for the first request.
  Status Warm();

  /// Errors: kResourceExhausted when the queue is full, kUnavailable once stopped; `done` is not
  /// called then.
  Status Submit(BatchJob job);

  bool batchable() const;
  /// Rows waiting now.
  int64_t queued_rows() const;

 private:
  class Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace minim::serve
