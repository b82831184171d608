// Dims, View, ConstView, Tensor: dense row-major arrays of a fixed-size dtype.
// Threads: a Tensor's buffer is shared by its copies; writing needs external synchronisation.
// Lifetime: a view is valid as long as the buffer it was taken from.
#pragma once

#include <algorithm>
#include <array>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>

#include "minim/dtype.h"

namespace minim {

inline constexpr int kMaxRank = 8;
/// Buffers start at this alignment: a cache line, and the widest vector register.
inline constexpr size_t kAlignment = 64;

/// The concrete sizes of a tensor's axes, at most kMaxRank of them. Rank 0 is a scalar.
class Dims {
 public:
  Dims() = default;
  Dims(std::initializer_list<int64_t> sizes)
      : Dims(std::span<const int64_t>(sizes.begin(), sizes.size())) {}
  /// Needs sizes.size() <= kMaxRank.
  explicit Dims(std::span<const int64_t> sizes);
  static Dims Filled(int rank, int64_t size);

  int rank() const { return rank_; }
  int64_t operator[](int axis) const { return sizes_[axis]; }
  int64_t& operator[](int axis) { return sizes_[axis]; }
  const int64_t* begin() const { return sizes_.data(); }
  const int64_t* end() const { return sizes_.data() + rank_; }
  std::span<const int64_t> span() const { return {sizes_.data(), static_cast<size_t>(rank_)}; }
  void push_back(int64_t size);
  /// Product of sizes [first, last); 1 for an empty range.
  int64_t Elements(int first, int last) const;
  int64_t Elements() const { return Elements(0, rank_); }
  /// "[2,3]".
  std::string ToString() const;

  friend bool operator==(const Dims& a, const Dims& b) {
    return a.rank_ == b.rank_ &&
           std::memcmp(a.sizes_.data(), b.sizes_.data(), sizeof(int64_t) * a.rank_) == 0;
  }

 private:
  std::array<int64_t, kMaxRank> sizes_{};
  int rank_ = 0;
};

namespace internal {
template <typename T>
struct DTypeOfImpl;
#define MINIM_DTYPE(name, type, bits, onnx, acc, kind) \
  template <>                                          \
  struct DTypeOfImpl<type> {                           \
    static constexpr DType value = DType::name;        \
  };
#define MINIM_SMALL_DTYPE(name, type, file_bits, onnx, kind) \
  template <>                                                \
  struct DTypeOfImpl<type> {                                 \
    static constexpr DType value = DType::name;              \
  };
#include "minim/dtypes.inc"
#undef MINIM_DTYPE
template <>
struct DTypeOfImpl<std::string> {
  static constexpr DType value = DType::string;
};
}  // namespace internal

/// The DType of a C++ type: kDTypeOf<float> == DType::f32.
template <typename T>
inline constexpr DType kDTypeOf = internal::DTypeOfImpl<T>::value;

/// A borrowed, read-only dense array.
struct ConstView {
  const void* data = nullptr;
  DType dtype = DType::f32;
  Dims dims;

  int64_t size() const { return dims.Elements(); }
  size_t bytes() const { return static_cast<size_t>(size()) * SizeOf(dtype); }
  /// The elements as T; T must be the view's dtype.
  template <typename T>
  std::span<const T> as() const {
    return {static_cast<const T*>(data), static_cast<size_t>(size())};
  }
};

/// A borrowed, writable dense array.
struct View {
  void* data = nullptr;
  DType dtype = DType::f32;
  Dims dims;

  int64_t size() const { return dims.Elements(); }
  size_t bytes() const { return static_cast<size_t>(size()) * SizeOf(dtype); }
  template <typename T>
  std::span<T> as() const {
    return {static_cast<T*>(data), static_cast<size_t>(size())};
  }
  operator ConstView() const { return {data, dtype, dims}; }
};

/// An owning array, 64-byte aligned. Copies share the buffer; Clone() does not.
class Tensor {
 public:
  Tensor() = default;
  /// Zero-filled; strings are empty.
  Tensor(DType dtype, const Dims& dims);
  /// Copies `values`; its size must be dims.Elements().
  template <typename T>
  static Tensor From(const Dims& dims, std::span<const T> values) {
    Tensor tensor(kDTypeOf<T>, dims);
    std::copy(values.begin(), values.end(), tensor.as<T>().begin());
    return tensor;
  }
  template <typename T>
  static Tensor From(const Dims& dims, std::initializer_list<T> values) {
    return From<T>(dims, std::span<const T>(values.begin(), values.size()));
  }
  template <typename T>
  static Tensor Scalar(T value) {
    return From<T>(Dims(), {value});
  }
  /// Copies the viewed elements.
  static Tensor Copy(const ConstView& view);

  bool defined() const { return buffer_ != nullptr; }
  /// Whether no other Tensor shares the buffer.
  bool unique() const { return buffer_.use_count() == 1; }
  DType dtype() const { return dtype_; }
  const Dims& dims() const { return dims_; }
  int64_t size() const { return dims_.Elements(); }
  size_t bytes() const { return static_cast<size_t>(size()) * SizeOf(dtype_); }
  void* data() { return buffer_.get(); }
  const void* data() const { return buffer_.get(); }
  template <typename T>
  std::span<T> as() {
    return view().as<T>();
  }
  template <typename T>
  std::span<const T> as() const {
    return view().as<T>();
  }
  View view() { return {data(), dtype_, dims_}; }
  ConstView view() const { return {data(), dtype_, dims_}; }
  Tensor Clone() const { return Copy(view()); }
  /// The same buffer under other dims of equal element count.
  Tensor Reshaped(const Dims& dims) const;

 private:
  std::shared_ptr<std::byte> buffer_;
  DType dtype_ = DType::f32;
  Dims dims_;
};

}  // namespace minim
