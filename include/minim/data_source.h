// DataSource: samples that training asks for by their numbers, from wherever they come: a file, a
// database, a generator. Sets need not fit into memory.
// Threads: Gather is called on any thread, but never by two at once.
// Lifetime: held by the config and by the training that uses it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "minim/status.h"
#include "minim/tensor.h"

namespace minim {

struct Batch {
  Tensor samples;  // f32[count, ...]
  Tensor labels;   // class ids i64[count], or targets f32[count, ...]
  /// Of a model with several inputs: those after the first, [count, ...], in its dtypes.
  std::vector<Tensor> others = {};
};

class DataSource {
 public:
  virtual ~DataSource() = default;

  /// The number of samples; it does not change.
  virtual int64_t size() const = 0;

  /// The samples at `indices`, each in [0, size()), in this order, with their labels. The same
  /// index gives the same sample; dims after the first and dtypes are those of every batch.
  /// Errors: any; they end the training with their message.
  virtual Result<Batch> Gather(std::span<const int64_t> indices) = 0;
};

}  // namespace minim
