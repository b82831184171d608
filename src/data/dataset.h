// Dataset: samples and labels in memory, and shuffled mini-batches made ahead by a loader thread.
#pragma once

#include <condition_variable>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "core/file.h"
#include "minim/tensor.h"

namespace minim {

struct Dataset {
  Tensor samples;  // [count, ...], any numeric dtype
  Tensor labels;   // [count] class ids in i64, or [count, ...] targets in f32

  int64_t size() const { return samples.dims().rank() > 0 ? samples.dims()[0] : 0; }
};

/// Reads samples and labels from .npy or IDX (.gz) files. `sample_dims`, if not empty, reshapes
/// each sample. Integer labels become i64, floating ones f32.
/// Errors: kInvalidArgument when counts or shapes disagree.
Result<Dataset> ReadDataset(const Path& samples, const Path& labels,
                            const std::vector<int64_t>& sample_dims);

/// A permutation of [0, n): a function of seed and epoch alone.
std::vector<int64_t> ShuffledOrder(int64_t n, uint64_t seed, uint64_t epoch);

/// Copies the samples at `order[first, first + count)`, as f32, and their labels.
struct Batch {
  Tensor samples;
  Tensor labels;
};
Batch GatherBatch(const Dataset& data, std::span<const int64_t> order);

/// Which batches an epoch has, in which order.
struct BatchOrder {
  int64_t batch_size = 1;
  uint64_t seed = 0, epoch = 0;
  int64_t first_batch = 0;  // those before it are left out
  bool shuffle = true;
};

/// Prepares the batches of one epoch on a thread of its own, two ahead of the reader. The last
/// samples that do not fill a batch are left out.
class BatchLoader {
 public:
  /// `data` must outlive the loader.
  BatchLoader(const Dataset& data, const BatchOrder& order);
  ~BatchLoader();
  BatchLoader(const BatchLoader&) = delete;
  BatchLoader& operator=(const BatchLoader&) = delete;

  int64_t batch_count() const { return batch_count_; }
  /// The next batch; nullopt after the last.
  std::optional<Batch> Next();

 private:
  void Loop();

  const Dataset& data_;
  const int64_t batch_size_;
  const int64_t batch_count_;
  const std::vector<int64_t> order_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Batch> ready_;  // oldest first; guarded by mutex_
  int64_t next_to_read_;      // guarded by mutex_
  int64_t next_to_make_;      // guarded by mutex_
  bool stop_ = false;         // guarded by mutex_
  std::thread thread_;
};

}  // namespace minim
