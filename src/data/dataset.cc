#include "data/dataset.h"

#include <fmt/ranges.h>

#include <numeric>

#include "core/dtype.h"
#include "core/philox.h"
#include "data/idx.h"
#include "data/npy.h"

namespace minim {
namespace {

DType LabelType(DType dtype) { return IsFloat(dtype) ? DType::f32 : DType::i64; }

// "arrays.npz:name"; the name may be left out where there is one array.
Result<Tensor> ReadNpzArray(const std::string& text) {
  const size_t colon = text.find(".npz:");
  const std::string file = colon == std::string::npos ? text : text.substr(0, colon + 4);
  const std::string name = colon == std::string::npos ? "" : text.substr(colon + 5);
  MINIM_TRY(std::vector<NamedTensor> arrays, ReadNpz(file));
  std::vector<std::string> names;
  for (NamedTensor& array : arrays) {
    if (array.name == name || (name.empty() && arrays.size() == 1)) return std::move(array.tensor);
    names.push_back(array.name);
  }
  return InvalidArgument("{}: has no array '{}'; write {}:NAME with one of {}", file, name, file,
                         fmt::join(names, ", "));
}

Status CheckNumbers(const Path& path, DType dtype) {
  if (dtype != DType::string) return {};
  return Unsupported("{}: holds strings; training takes numbers", path.string());
}

Result<Tensor> ReadArray(const Path& path) {
  Tensor tensor;
  if (path.extension() == ".npy") {
    MINIM_TRY(tensor, ReadNpy(path));
  } else if (path.filename().string().find(".npz") != std::string::npos) {
    MINIM_TRY(tensor, ReadNpzArray(path.string()));
  } else {
    MINIM_TRY(tensor, ReadIdx(path));
  }
  MINIM_TRY(CheckNumbers(path, tensor.dtype()));
  return tensor;
}

Result<SharedArray> OpenArray(const Path& path) {
  if (path.extension() == ".npy") {
    MINIM_TRY(SharedArray array, MapNpy(path));
    MINIM_TRY(CheckNumbers(path, array.view.dtype));
    return array;
  }
  MINIM_TRY(Tensor tensor, ReadArray(path));
  return Share(std::move(tensor));
}

// The dims of the samples, reshaped if `sample_dims` says so.
Result<Dims> CheckedDims(const Path& samples, const Dims& found, const Path& labels,
                         const Dims& found_labels, const std::vector<int64_t>& sample_dims) {
  if (found.rank() == 0 || found_labels.rank() == 0 || found[0] != found_labels[0])
    return InvalidArgument("{} has shape {} but {} has {}: the first dims must be equal",
                           samples.string(), found.ToString(), labels.string(),
                           found_labels.ToString());
  if (sample_dims.empty()) return found;
  Dims dims = {found[0]};
  for (int64_t size : sample_dims) dims.push_back(size);
  if (dims.Elements() == found.Elements()) return dims;
  return InvalidArgument("{}: samples of shape {} cannot be read as {}", samples.string(),
                         found.ToString(), dims.ToString());
}

}  // namespace

Result<Dataset> ReadDataset(const Path& samples, const Path& labels,
                            const std::vector<int64_t>& sample_dims) {
  Dataset data;
  MINIM_TRY(data.samples, ReadArray(samples));
  Dims label_dims = data.samples.dims();
  if (!labels.empty()) {
    MINIM_TRY(const Tensor raw_labels, ReadArray(labels));
    data.labels = Converted(raw_labels.view(), LabelType(raw_labels.dtype()));
    label_dims = data.labels.dims();
  }
  MINIM_TRY(const Dims dims,
            CheckedDims(samples, data.samples.dims(), labels, label_dims, sample_dims));
  data.samples = data.samples.Reshaped(dims);
  return data;
}

Result<std::shared_ptr<ArraySource>> OpenDataset(const Path& samples, const Path& labels,
                                                 const std::vector<int64_t>& sample_dims) {
  MINIM_TRY(SharedArray x, OpenArray(samples));
  MINIM_TRY(SharedArray y, OpenArray(labels));
  MINIM_TRY(x.view.dims, CheckedDims(samples, x.view.dims, labels, y.view.dims, sample_dims));
  return std::make_shared<ArraySource>(std::move(x), std::move(y));
}

std::vector<int64_t> ShuffledOrder(int64_t n, uint64_t seed, uint64_t epoch) {
  std::vector<int64_t> order = InOrder(n);
  const Philox rng(seed, epoch);
  for (int64_t i = n - 1; i > 0; --i)  // Fisher-Yates
    std::swap(order[i], order[rng.Below(static_cast<uint64_t>(i), static_cast<uint32_t>(i + 1))]);
  return order;
}

std::vector<int64_t> InOrder(int64_t count) {
  std::vector<int64_t> indices(static_cast<size_t>(count));
  std::iota(indices.begin(), indices.end(), int64_t{0});
  return indices;
}

namespace {

Tensor GatherRows(const ConstView& from, std::span<const int64_t> rows, DType dtype) {
  Dims dims = from.dims;
  dims[0] = static_cast<int64_t>(rows.size());
  Tensor result(dtype, dims);
  const int64_t width = from.dims.Elements(1, from.dims.rank());
  const Dims row_dims = {width};
  for (size_t i = 0; i < rows.size(); ++i) {
    const auto* src = static_cast<const std::byte*>(from.data) +
                      static_cast<size_t>(rows[i] * width) * SizeOf(from.dtype);
    auto* dst =
        static_cast<std::byte*>(result.data()) + i * static_cast<size_t>(width) * SizeOf(dtype);
    ConvertElements({src, from.dtype, row_dims}, {dst, dtype, row_dims});
  }
  return result;
}

// Zeros where there are none.
Tensor GatherLabels(const ConstView& from, std::span<const int64_t> rows) {
  if (from.data == nullptr) return Tensor(DType::i64, {static_cast<int64_t>(rows.size())});
  return GatherRows(from, rows, LabelType(from.dtype));
}

// All reads of a batch begin before the first is waited for.
void AnnounceRows(const SharedArray& array, std::span<const int64_t> rows) {
  if (!array.streamed) return;
  const Dims& dims = array.view.dims;
  const size_t width =
      static_cast<size_t>(dims.Elements(1, dims.rank())) * SizeOf(array.view.dtype);
  for (int64_t row : rows)
    Announce({static_cast<const char*>(array.view.data) + static_cast<size_t>(row) * width, width});
}

}  // namespace

Batch GatherBatch(const Dataset& data, std::span<const int64_t> indices) {
  Batch batch{GatherRows(data.samples.view(), indices, data.batch_dtype),
              GatherLabels(data.labels.view(), indices)};
  for (const Tensor& other : data.others)
    batch.others.push_back(GatherRows(other.view(), indices, other.dtype()));
  return batch;
}

ArraySource::ArraySource(SharedArray samples, SharedArray labels)
    : samples_(std::move(samples)), labels_(std::move(labels)) {}

ArraySource::ArraySource(const Dataset& data)
    : samples_(Share(data.samples)), labels_(Share(data.labels)), batch_dtype_(data.batch_dtype) {
  for (const Tensor& other : data.others) others_.push_back(Share(other));
}

Result<Batch> ArraySource::Gather(std::span<const int64_t> indices) {
  AnnounceRows(samples_, indices);
  AnnounceRows(labels_, indices);
  Batch batch{GatherRows(samples_.view, indices, batch_dtype_),
              GatherLabels(labels_.view, indices)};
  for (const SharedArray& other : others_)
    batch.others.push_back(GatherRows(other.view, indices, other.view.dtype));
  return batch;
}

Result<Batch> SubsetSource::Gather(std::span<const int64_t> indices) {
  std::vector<int64_t> chosen;
  for (int64_t index : indices) chosen.push_back(indices_[index]);
  return whole_->Gather(chosen);
}

}  // namespace minim
