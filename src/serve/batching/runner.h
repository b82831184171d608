// BatchRunner: runs one batch on the model and answers its jobs, each with exactly its rows.
// Threads: Run may be called concurrently, Warm beside it.
// Lifetime: the model and `on_run` live as long as it does.
#pragma once

#include <mutex>
#include <optional>
#include <unordered_set>

#include "serve/batching/batcher.h"

namespace minim::serve {

class BatchRunner {
 public:
  BatchRunner(std::shared_ptr<const Model> model, std::function<void(const RunReport&)> on_run);

  struct Order {
    std::vector<JobPtr> batch;
    ReleaseReason reason = ReleaseReason::kIdle;
    int64_t max_rows = 1;  // per run; a request above it runs in slices
  };
  struct Outcome {
    /// From the first touch of the batch to its last answer.
    Duration time{};
    /// Not for runs that were cold, failed, or were more than one.
    bool typical = false;
  };
  Outcome Run(Order order);

  /// Prepares a run with so many rows, unless that was done before or other dims are open too.
  Status Warm(int64_t rows);
  bool batchable() const { return batchable_; }

 private:
  // What the parts of one Run share.
  struct Context {
    ReleaseReason reason;
    int64_t max_rows;
    TimePoint taken;
    int runs = 0;
    bool odd = false;  // cold or failed
  };

  void RunOne(QueuedJob& queued, Context& context);
  void AnswerParts(std::vector<JobPtr>& batch, const std::vector<Tensor>& outputs, BatchTimes times,
                   const Context& context);
  Result<std::vector<Tensor>> RunModel(const std::vector<Tensor>& inputs, int64_t rows,
                                       BatchTimes& times, Context& context);
  Result<std::vector<Tensor>> RunSliced(const QueuedJob& queued, BatchTimes& times,
                                        Context& context);
  bool FirstWith(uint64_t dims);

  const std::shared_ptr<const Model> model_;
  const std::function<void(const RunReport&)> on_run_;
  const bool batchable_;
  std::mutex mutex_;
  std::unordered_set<uint64_t> known_dims_;  // guarded by mutex_; digests of dims run before
};

}  // namespace minim::serve
