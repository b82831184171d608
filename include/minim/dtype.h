// Element types. One table (dtypes.inc) gives the enum, names, sizes and ONNX ids.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace minim {

/// IEEE 754 binary16 as stored: two bytes, no arithmetic. Conversion rounds to nearest even and
/// overflows to infinity (never clamps).
struct Half {
  uint16_t bits = 0;
  Half() = default;
  explicit Half(float value);
  explicit operator float() const;
  friend bool operator==(Half, Half) = default;
};

/// bfloat16 as stored: the upper half of a float32, rounded to nearest even. Subnormals are kept,
/// NaN stays NaN and becomes quiet.
struct BFloat16 {
  uint16_t bits = 0;
  BFloat16() = default;
  explicit BFloat16(float value);
  explicit operator float() const;
  friend bool operator==(BFloat16, BFloat16) = default;
};

enum class DType : uint8_t {
#define MINIM_DTYPE(name, type, bits, onnx, acc, kind) name,
#include "minim/dtypes.inc"
#undef MINIM_DTYPE
  /// std::string elements: a Tensor holds them, views and kernels never do.
  string,
};

enum class DTypeKind : uint8_t { kFloat, kSigned, kUnsigned, kBool, kString };

/// Bytes of one element.
size_t SizeOf(DType dtype);
/// "f32", "i64", "bool".
std::string_view Name(DType dtype);
DTypeKind KindOf(DType dtype);
/// TensorProto.DataType of ONNX.
int OnnxId(DType dtype);
std::optional<DType> DTypeFromName(std::string_view name);
std::optional<DType> DTypeFromOnnx(int onnx_id);

inline bool IsFloat(DType dtype) { return KindOf(dtype) == DTypeKind::kFloat; }
inline bool IsInteger(DType dtype) {
  return KindOf(dtype) == DTypeKind::kSigned || KindOf(dtype) == DTypeKind::kUnsigned;
}

}  // namespace minim
