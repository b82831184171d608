// BatchLoader: the mini-batches of an epoch, made ahead by a thread.
#pragma once

#include <condition_variable>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "data/dataset.h"

namespace minim {

/// Which batches an epoch has, in which order.
struct BatchOrder {
  int64_t batch_size = 1;
  uint64_t seed = 0, epoch = 0;
  int64_t first_batch = 0;   // those before it are left out
  int64_t batch_count = -1;  // negative: as many as can be filled
  bool shuffle = true;
};

/// Prepares the batches of one epoch on a thread of its own, two ahead of the reader. The last
/// samples that do not fill a batch are left out. Once the last batch is read the source rests.
class BatchLoader {
 public:
  /// `data` must outlive the loader.
  BatchLoader(DataSource& data, const BatchOrder& order);
  ~BatchLoader();
  BatchLoader(const BatchLoader&) = delete;
  BatchLoader& operator=(const BatchLoader&) = delete;

  /// The next batch; nullopt after the last. Errors: those of the source, from then on.
  Result<std::optional<Batch>> Next();

 private:
  void Loop();

  DataSource& data_;
  const int64_t batch_size_;
  const int64_t batch_count_;
  const std::vector<int64_t> order_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Batch> ready_;  // oldest first; guarded by mutex_
  Status failed_;             // why no more are made; guarded by mutex_
  int64_t next_to_read_;      // guarded by mutex_
  int64_t next_to_make_;      // guarded by mutex_
  bool stop_ = false;         // guarded by mutex_
  std::thread thread_;
};

}  // namespace minim
