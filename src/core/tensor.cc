#include "minim/tensor.h"

#include <cstdlib>
#include <new>

#include "core/error.h"

namespace minim {

Dims::Dims(std::span<const int64_t> sizes) : rank_(static_cast<int>(sizes.size())) {
  MINIM_CHECK(sizes.size() <= static_cast<size_t>(kMaxRank));
  std::copy(sizes.begin(), sizes.end(), sizes_.begin());
}

Dims Dims::Filled(int rank, int64_t size) {
  Dims dims;
  for (int i = 0; i < rank; ++i) dims.push_back(size);
  return dims;
}

void Dims::push_back(int64_t size) {
  MINIM_CHECK(rank_ < kMaxRank);
  sizes_[rank_++] = size;
}

int64_t Dims::Elements(int first, int last) const {
  int64_t product = 1;
  for (int i = first; i < last; ++i) product *= sizes_[i];
  return product;
}

std::string Dims::ToString() const { return fmt::format("[{}]", fmt::join(begin(), end(), ",")); }

Tensor::Tensor(DType dtype, const Dims& dims) : dtype_(dtype), dims_(dims) {
  const size_t rounded = (std::max<size_t>(bytes(), 1) + kAlignment - 1) & ~(kAlignment - 1);
  // Aligned by hand: glibc's aligned_alloc passes its threads' caches by and takes a lock.
  void* block = std::malloc(rounded + kAlignment - 1);
  if (block == nullptr) throw std::bad_alloc();
  const auto address = (reinterpret_cast<uintptr_t>(block) + kAlignment - 1) & ~(kAlignment - 1);
  auto* memory = reinterpret_cast<std::byte*>(address);
  std::memset(memory, 0, rounded);
  if (dtype != DType::string) {
    buffer_ = std::shared_ptr<std::byte>(memory, [block](std::byte*) { std::free(block); });
    return;
  }
  auto* strings = reinterpret_cast<std::string*>(memory);
  const int64_t count = size();
  std::uninitialized_default_construct_n(strings, count);
  buffer_ = std::shared_ptr<std::byte>(memory, [strings, count, block](std::byte*) {
    std::destroy_n(strings, count);
    std::free(block);
  });
}

Tensor Tensor::Copy(const ConstView& view) {
  Tensor tensor(view.dtype, view.dims);
  if (view.dtype == DType::string) {
    std::copy_n(view.as<std::string>().data(), view.size(), tensor.as<std::string>().data());
    return tensor;
  }
  if (view.bytes() > 0) std::memcpy(tensor.data(), view.data, view.bytes());
  return tensor;
}

Tensor Tensor::Reshaped(const Dims& dims) const {
  MINIM_CHECK(dims.Elements() == size());
  Tensor result = *this;
  result.dims_ = dims;
  return result;
}

}  // namespace minim
