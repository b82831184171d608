#include "serve/batching/rows.h"

#include <algorithm>

namespace minim::serve {
namespace {

Dims WithRows(const Dims& dims, int64_t rows) {
  Dims result = dims;
  result[0] = rows;
  return result;
}

void CopyElements(const ConstView& src, std::byte* dst) {
  if (src.dtype == DType::string) {
    std::copy_n(src.as<std::string>().data(), src.size(), reinterpret_cast<std::string*>(dst));
  } else if (src.bytes() > 0) {
    std::memcpy(dst, src.data, src.bytes());
  }
}

size_t RowBytes(DType dtype, const Dims& dims) {
  return static_cast<size_t>(dims.Elements(1, dims.rank())) * SizeOf(dtype);
}

}  // namespace

Tensor ConcatRows(std::span<const Tensor* const> parts) {
  int64_t rows = 0;
  for (const Tensor* part : parts) rows += part->dims()[0];
  Tensor joined(parts[0]->dtype(), WithRows(parts[0]->dims(), rows));
  auto* dst = static_cast<std::byte*>(joined.data());
  for (const Tensor* part : parts) {
    CopyElements(part->view(), dst);
    dst += part->bytes();
  }
  return joined;
}

Tensor SliceRows(const ConstView& tensor, int64_t first, int64_t count) {
  const auto* src = static_cast<const std::byte*>(tensor.data);
  src += static_cast<size_t>(first) * RowBytes(tensor.dtype, tensor.dims);
  return Tensor::Copy({src, tensor.dtype, WithRows(tensor.dims, count)});
}

bool SameRowType(const ConstView& a, const ConstView& b) {
  return a.dtype == b.dtype && a.dims.rank() == b.dims.rank() && a.dims.rank() > 0 &&
         std::equal(a.dims.begin() + 1, a.dims.end(), b.dims.begin() + 1);
}

std::optional<std::vector<Dims>> DimsForRows(const Model& model, int64_t rows) {
  const bool batchable = IsBatchable(model);
  std::vector<Dims> all;
  for (const TensorInfo& info : model.inputs()) {
    if (!info.ranked || info.dims.size() > static_cast<size_t>(kMaxRank)) return std::nullopt;
    Dims dims(info.dims);
    if (batchable) dims[0] = rows;
    for (const int64_t size : dims)
      if (size < 0) return std::nullopt;
    all.push_back(dims);
  }
  return all;
}

}  // namespace minim::serve
