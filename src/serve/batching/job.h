// What travels through a batcher: jobs in, results out.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <vector>

#include "core/error.h"
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

/// Levels of priority: 1 runs first, kPriorityLevels last.
inline constexpr int kPriorityLevels = 8;
inline constexpr int kDefaultPriority = 4;

struct BatchJob {
  /// In the model's order, checked against its signature.
  std::vector<Tensor> inputs;
  /// False: runs alone, at once when an instance is free.
  bool may_batch = true;
  TimePoint deadline = TimePoint::max();
  /// When the caller began to wait; a latency target counts from here. Never later than Submit.
  TimePoint since = TimePoint::max();
  CancelFlag cancelled;
  /// 0: kDefaultPriority; what is above kPriorityLevels counts as that.
  uint64_t priority = 0;
  std::function<void(BatchResult)> done;
};

/// A job that waits.
struct QueuedJob {
  BatchJob job;
  int64_t rows = 1;
  bool alone = false;      // never with others
  bool may_slice = false;  // every input has `rows` rows
  TimePoint arrival;
  /// When its answer would be too late for the policy's promise; orders those of one level.
  TimePoint due = TimePoint::max();
  uint64_t id = 0;  // the owner's, not looked at

  // The queue's own.
  uint64_t sequence = 0;
  int level = 0;     // priority - 1, or behind all of them once it is late
  TimePoint leaves;  // its deadline, or an earlier end once it is late
  void* group = nullptr;
};
using JobPtr = std::unique_ptr<QueuedJob>;

}  // namespace minim::serve
