#include "data/dataset.h"

#include <numeric>

#include "core/dtype.h"
#include "core/philox.h"
#include "data/idx.h"
#include "data/npy.h"

namespace minim {
namespace {

constexpr size_t kAhead = 2;

Result<Tensor> ReadArray(const Path& path) {
  if (path.extension() != ".npy") return ReadIdx(path);
  MINIM_TRY(Tensor tensor, ReadNpy(path));
  if (tensor.dtype() == DType::string)
    return Unsupported("{}: holds strings; training takes numbers", path.string());
  return tensor;
}

}  // namespace

Result<Dataset> ReadDataset(const Path& samples, const Path& labels,
                            const std::vector<int64_t>& sample_dims) {
  Dataset data;
  MINIM_TRY(data.samples, ReadArray(samples));
  MINIM_TRY(const Tensor raw_labels, ReadArray(labels));
  data.labels = Converted(raw_labels.view(), IsFloat(raw_labels.dtype()) ? DType::f32 : DType::i64);
  if (data.samples.dims().rank() == 0 || data.labels.dims().rank() == 0 ||
      data.samples.dims()[0] != data.labels.dims()[0])
    return InvalidArgument("{} has shape {} but {} has {}: the first dims must be equal",
                           samples.string(), data.samples.dims().ToString(), labels.string(),
                           data.labels.dims().ToString());
  if (sample_dims.empty()) return data;
  Dims dims = {data.samples.dims()[0]};
  for (int64_t size : sample_dims) dims.push_back(size);
  if (dims.Elements() != data.samples.size())
    return InvalidArgument("{}: samples of shape {} cannot be read as {}", samples.string(),
                           data.samples.dims().ToString(), dims.ToString());
  data.samples = data.samples.Reshaped(dims);
  return data;
}

std::vector<int64_t> ShuffledOrder(int64_t n, uint64_t seed, uint64_t epoch) {
  std::vector<int64_t> order(static_cast<size_t>(n));
  std::iota(order.begin(), order.end(), int64_t{0});
  const Philox rng(seed, epoch);
  for (int64_t i = n - 1; i > 0; --i)  // Fisher-Yates
    std::swap(order[i], order[rng.Below(static_cast<uint64_t>(i), static_cast<uint32_t>(i + 1))]);
  return order;
}

Batch GatherBatch(const Dataset& data, std::span<const int64_t> order) {
  const auto gather = [&](const Tensor& from, DType dtype) {
    Dims dims = from.dims();
    dims[0] = static_cast<int64_t>(order.size());
    Tensor result(dtype, dims);
    const int64_t row = from.dims().Elements(1, from.dims().rank());
    const Dims row_dims = {row};
    for (size_t i = 0; i < order.size(); ++i) {
      const auto* src = static_cast<const std::byte*>(from.data()) +
                        static_cast<size_t>(order[i] * row) * SizeOf(from.dtype());
      auto* dst =
          static_cast<std::byte*>(result.data()) + i * static_cast<size_t>(row) * SizeOf(dtype);
      ConvertElements({src, from.dtype(), row_dims}, {dst, dtype, row_dims});
    }
    return result;
  };
  return {gather(data.samples, DType::f32), gather(data.labels, data.labels.dtype())};
}

namespace {

std::vector<int64_t> OrderOf(int64_t n, const BatchOrder& order) {
  if (order.shuffle) return ShuffledOrder(n, order.seed, order.epoch);
  std::vector<int64_t> indices(static_cast<size_t>(n));
  std::iota(indices.begin(), indices.end(), int64_t{0});
  return indices;
}

}  // namespace

BatchLoader::BatchLoader(const Dataset& data, const BatchOrder& order)
    : data_(data),
      batch_size_(order.batch_size),
      batch_count_(data.size() / order.batch_size),
      order_(OrderOf(data.size(), order)),
      next_to_read_(order.first_batch),
      next_to_make_(order.first_batch),
      thread_([this] { Loop(); }) {}

BatchLoader::~BatchLoader() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void BatchLoader::Loop() {
  while (true) {
    int64_t index = 0;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return stop_ || ready_.size() < kAhead; });
      if (stop_ || next_to_make_ >= batch_count_) return;
      index = next_to_make_++;
    }
    Batch batch = GatherBatch(data_, std::span(order_).subspan(index * batch_size_, batch_size_));
    {
      std::lock_guard lock(mutex_);
      ready_.push_back(std::move(batch));
    }
    changed_.notify_all();
  }
}

std::optional<Batch> BatchLoader::Next() {
  std::unique_lock lock(mutex_);
  if (next_to_read_ >= batch_count_) return std::nullopt;
  changed_.wait(lock, [this] { return !ready_.empty(); });
  Batch batch = std::move(ready_.front());
  ready_.erase(ready_.begin());
  ++next_to_read_;
  changed_.notify_all();
  return batch;
}

}  // namespace minim
