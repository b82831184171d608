// Dataset: samples and labels in memory, or anywhere as a DataSource.
#pragma once

#include <memory>
#include <vector>

#include "data/mapped_file.h"
#include "minim/data_source.h"

namespace minim {

struct Dataset {
  Tensor samples;  // [count, ...], any numeric dtype
  Tensor labels;   // [count] class ids in i64, or [count, ...] targets in f32; may be undefined
  std::vector<Tensor> others =
      {};                          // of a model's inputs after the first; batches keep their dtypes
  DType batch_dtype = DType::f32;  // that batches have the samples in

  int64_t size() const { return samples.dims().rank() > 0 ? samples.dims()[0] : 0; }
};

/// Reads samples and labels from .npy, .npz (FILE.npz:NAME, the name only if there are several) or
/// IDX (.gz) files. `sample_dims`, if not empty, reshapes
/// each sample. Integer labels become i64, floating ones f32.
/// Without `labels` (empty) they are undefined. Errors: kInvalidArgument when counts or shapes
/// disagree.
Result<Dataset> ReadDataset(const Path& samples, const Path& labels,
                            const std::vector<int64_t>& sample_dims);

/// A permutation of [0, n): a function of seed and epoch alone.
std::vector<int64_t> ShuffledOrder(int64_t n, uint64_t seed, uint64_t epoch);

/// 0, 1, ... count - 1.
std::vector<int64_t> InOrder(int64_t count);

/// Copies the samples at `indices` and their labels; those that are undefined are zeros.
Batch GatherBatch(const Dataset& data, std::span<const int64_t> indices);

/// Samples and labels out of arrays whose first dims count them. Labels of integers become i64,
/// others f32; samples without a Dataset become f32.
class ArraySource final : public DataSource {
 public:
  ArraySource(SharedArray samples, SharedArray labels);
  explicit ArraySource(const Dataset& data);

  int64_t size() const override { return samples_.view.dims[0]; }
  const ConstView& labels() const { return labels_.view; }
  Result<Batch> Gather(std::span<const int64_t> indices) override;

 private:
  SharedArray samples_, labels_;
  std::vector<SharedArray> others_;
  DType batch_dtype_ = DType::f32;
};

/// ReadDataset without reading: .npy files are mapped, so that they may be larger than memory.
Result<std::shared_ptr<ArraySource>> OpenDataset(const Path& samples, const Path& labels,
                                                 const std::vector<int64_t>& sample_dims);

/// Those samples of another source that `indices` names.
class SubsetSource final : public DataSource {
 public:
  SubsetSource(std::shared_ptr<DataSource> whole, std::vector<int64_t> indices)
      : whole_(std::move(whole)), indices_(std::move(indices)) {}

  int64_t size() const override { return static_cast<int64_t>(indices_.size()); }
  Result<Batch> Gather(std::span<const int64_t> indices) override;

 private:
  std::shared_ptr<DataSource> whole_;
  std::vector<int64_t> indices_;
};

}  // namespace minim
