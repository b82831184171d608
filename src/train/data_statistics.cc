#include "train/data_statistics.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "core/error.h"
#include "data/dataset.h"

namespace minim {
namespace {

Status ForEachBatch(DataSource& data, const std::function<Status(const Batch&)>& look) {
  constexpr int64_t kBatch = 256;
  const std::vector<int64_t> order = InOrder(data.size());
  for (int64_t first = 0; first < data.size(); first += kBatch) {
    const int64_t count = std::min(kBatch, data.size() - first);
    MINIM_TRY(const Batch batch, data.Gather(std::span(order).subspan(first, count)));
    MINIM_TRY(look(batch));
  }
  return {};
}

// Sums of distances to the first value, which keep the digits of a small spread.
class FeatureSums {
 public:
  void Add(const Tensor& samples) {
    const Dims& dims = samples.dims();
    if (count_.empty()) Start(samples);
    const auto values = samples.as<float>();
    const int64_t inner = last_ ? 1 : dims.Elements(2, dims.rank());
    const int64_t features = static_cast<int64_t>(count_.size());
    for (int64_t i = 0; i < samples.size(); ++i) {
      const int64_t f = i / inner % features;
      const double distance = values[i] - first_[f];
      ++count_[f];
      sum_[f] += distance;
      squares_[f] += distance * distance;
    }
  }

  Result<FeatureStatistics> Finish() const {
    FeatureStatistics result{.shape = shape_};
    for (size_t f = 0; f < count_.size(); ++f) {
      const double mean = sum_[f] / count_[f];
      const double variance = std::max(0.0, squares_[f] / count_[f] - mean * mean);
      if (!std::isfinite(mean) || !std::isfinite(variance))
        return InvalidArgument(
            "feature {} of the training samples holds values that are not finite", f);
      result.mean.push_back(first_[f] + mean);
      result.deviation.push_back(variance > 0 ? std::sqrt(variance) : 1);
    }
    return result;
  }

 private:
  void Start(const Tensor& samples) {
    const Dims& dims = samples.dims();
    last_ = dims.rank() <= 3;
    const int64_t features = dims.rank() < 2 ? 1 : dims[last_ ? dims.rank() - 1 : 1];
    shape_ = {features};
    for (int i = 2; !last_ && i < dims.rank(); ++i) shape_.push_back(1);
    const int64_t inner = last_ ? 1 : dims.Elements(2, dims.rank());
    for (int64_t f = 0; f < features; ++f) first_.push_back(samples.as<float>()[f * inner]);
    count_.resize(features);
    sum_.resize(features);
    squares_.resize(features);
  }

  bool last_ = true;  // features run along the last axis
  Dims shape_;
  std::vector<double> first_, count_, sum_, squares_;
};

}  // namespace

Result<FeatureStatistics> MeasureFeatures(DataSource& data) {
  FeatureSums sums;
  MINIM_TRY(ForEachBatch(data, [&](const Batch& batch) {
    sums.Add(batch.samples);
    return Status();
  }));
  return sums.Finish();
}

Result<std::vector<int64_t>> CountClasses(DataSource& data) {
  constexpr double kMost = 1 << 20;
  std::vector<int64_t> counts;
  MINIM_TRY(ForEachBatch(data, [&](const Batch& batch) -> Status {
    for (int64_t i = 0; i < batch.labels.size(); ++i) {
      const bool ids = batch.labels.dtype() == DType::i64;
      const double label =
          ids ? static_cast<double>(batch.labels.as<int64_t>()[i]) : batch.labels.as<float>()[i];
      if (!(label >= 0 && label <= (ids ? kMost : 1)) || label != std::floor(label))
        return InvalidArgument("label {} is no class: balanced weights count classes", label);
      counts.resize(std::max(counts.size(), static_cast<size_t>(label) + 1));
      ++counts[static_cast<size_t>(label)];
    }
    return {};
  }));
  return counts;
}

}  // namespace minim
