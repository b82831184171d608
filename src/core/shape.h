// Shape: the sizes of a value's axes as far as they are known before a run. A Dim is a number, a
// named symbol ("N"), or unknown. Dims (minim/tensor.h) is the concrete counterpart.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/dtype.h"

namespace minim {

inline int64_t SaturatingTimes(int64_t a, int64_t b) {
  int64_t product;
  if (!__builtin_mul_overflow(a, b, &product)) return product;
  return (a < 0) == (b < 0) ? INT64_MAX : INT64_MIN;
}

inline int64_t SaturatingPlus(int64_t a, int64_t b) {
  int64_t sum;
  if (!__builtin_add_overflow(a, b, &sum)) return sum;
  return a < 0 ? INT64_MIN : INT64_MAX;
}

class Dim {
 public:
  Dim() = default;  // unknown
  Dim(int64_t value) : value_(value) {}
  static Dim Symbol(std::string name) {
    Dim dim;
    dim.symbol_ = std::move(name);
    return dim;
  }

  bool known() const { return value_ >= 0; }
  /// Needs known().
  int64_t value() const { return value_; }
  /// Empty unless the dim is a named symbol.
  const std::string& symbol() const { return symbol_; }
  /// f(value), or unknown.
  template <typename F>
  Dim Map(F&& f) const {
    return known() ? Dim(f(value_)) : Dim();
  }
  /// Product and sum, held at the ends of int64_t: what a file asks for stays too much to fit.
  Dim Times(int64_t n) const {
    return Map([n](int64_t size) { return SaturatingTimes(size, n); });
  }
  Dim Plus(int64_t n) const {
    return Map([n](int64_t size) { return SaturatingPlus(size, n); });
  }
  /// True if both are the same number or the same named symbol.
  bool Same(const Dim& other) const {
    return known() ? value_ == other.value_ : !symbol_.empty() && symbol_ == other.symbol_;
  }
  /// True if the two can be equal once symbols are bound.
  bool Compatible(const Dim& other) const {
    return !known() || !other.known() || value_ == other.value_;
  }
  /// "3", "N" or "?".
  std::string ToString() const;
  friend bool operator==(const Dim&, const Dim&) = default;

 private:
  int64_t value_ = -1;
  std::string symbol_;
};

using Shape = std::vector<Dim>;

Shape ToShape(const Dims& dims);
/// The concrete sizes, if every one is known.
std::optional<Dims> ToDims(const Shape& shape);
/// "[N,3,224,224]".
std::string ToString(const Shape& shape);
/// Product of the dims, if known.
std::optional<int64_t> ElementsOf(const Shape& shape);

/// What a value is. An optional holds a tensor or a sequence, or nothing.
enum class ValueKind : uint8_t { kTensor, kSequence, kOptional, kMap };

/// The type of a value: dtype, and shape unless even the rank is unknown. For the other kinds
/// `element` is what they hold, and a map's `dtype` is that of its keys.
struct TensorType {
  DType dtype = DType::f32;
  std::optional<Shape> shape;
  ValueKind kind = ValueKind::kTensor;
  std::shared_ptr<const TensorType> element = nullptr;

  static TensorType SequenceOf(TensorType element);
  static TensorType OptionalOf(TensorType element);
  static TensorType MapOf(DType key, TensorType value);

  bool is_tensor() const { return kind == ValueKind::kTensor; }
  /// True for what a View can hold: a tensor of a fixed-size dtype.
  bool dense() const { return is_tensor() && dtype != DType::string; }
  bool ranked() const { return shape.has_value(); }
  int rank() const { return static_cast<int>(shape->size()); }
  /// True if every dim is a number.
  bool Static() const { return is_tensor() && shape && ToDims(*shape).has_value(); }
  /// Needs Static().
  Dims dims() const { return *ToDims(*shape); }
  /// "f32[N,3]", "f32" for rank 0, "f32[*]" when the rank is unknown, "seq(f32[*])",
  /// "optional(...)", "map(i64,f32)".
  std::string ToString() const;
  friend bool operator==(const TensorType& a, const TensorType& b) {
    return a.dtype == b.dtype && a.shape == b.shape && a.kind == b.kind &&
           (a.element == b.element || (a.element && b.element && *a.element == *b.element));
  }
};

/// NumPy broadcasting of shapes: right-aligned, 1 stretches. Errors: kInvalidArgument when two
/// known dims disagree.
Result<Shape> BroadcastShapes(const Shape& a, const Shape& b);
Result<Dims> BroadcastDims(const Dims& a, const Dims& b);

/// Elements between neighbours of each axis in a row-major array.
Dims RowMajorStrides(const Dims& dims);
/// Strides by which an array of `dims` is read as if broadcast to `target`; 0 on stretched axes.
Dims BroadcastStrides(const Dims& dims, const Dims& target);

}  // namespace minim
