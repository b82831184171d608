// Element types. One table (dtypes.inc) gives the enum, names, sizes and ONNX ids.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <type_traits>

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

/// How the floats of at most 8 bits lay out their bits: exponent and mantissa sizes, then FN for no
/// infinities and UZ for one zero, whose negative is the only NaN.
enum class SmallFormat : uint8_t { kE4M3FN, kE4M3FNUZ, kE5M2, kE5M2FNUZ, kE2M1, kE8M0 };

/// A float of at most 8 bits as stored: one byte, no arithmetic. Conversion rounds to nearest even
/// (E8M0, which has powers of two only: ties away from zero). Overflow gives infinity; a format
/// without it gives NaN, and E2M1, which has neither, its largest value.
template <SmallFormat kFormat>
struct SmallFloat {
  uint8_t bits = 0;
  SmallFloat() = default;
  explicit SmallFloat(float value);
  explicit operator float() const;
  friend bool operator==(SmallFloat, SmallFloat) = default;
};
using Float8E4M3FN = SmallFloat<SmallFormat::kE4M3FN>;
using Float8E4M3FNUZ = SmallFloat<SmallFormat::kE4M3FNUZ>;
using Float8E5M2 = SmallFloat<SmallFormat::kE5M2>;
using Float8E5M2FNUZ = SmallFloat<SmallFormat::kE5M2FNUZ>;
using Float4E2M1 = SmallFloat<SmallFormat::kE2M1>;
using Float8E8M0 = SmallFloat<SmallFormat::kE8M0>;

/// An integer of 4 or 2 bits as stored: one byte, no arithmetic. Conversion keeps the low bits.
template <int kBits, bool kSigned>
struct SmallInt {
  using Byte = std::conditional_t<kSigned, int8_t, uint8_t>;
  Byte value = 0;
  SmallInt() = default;
  explicit SmallInt(int64_t wide) : value(Wrapped(wide)) {}
  explicit operator int64_t() const { return Wrapped(value); }
  friend bool operator==(SmallInt, SmallInt) = default;

 private:
  static Byte Wrapped(int64_t wide) {
    const int low = static_cast<int>(wide & ((1 << kBits) - 1));
    return static_cast<Byte>(kSigned && (low >> (kBits - 1)) ? low - (1 << kBits) : low);
  }
};
using Int4 = SmallInt<4, true>;
using UInt4 = SmallInt<4, false>;
using Int2 = SmallInt<2, true>;
using UInt2 = SmallInt<2, false>;

enum class DType : uint8_t {
#define MINIM_DTYPE(name, type, bits, onnx, acc, kind) name,
#define MINIM_SMALL_DTYPE(name, type, file_bits, onnx, kind) name,
#include "minim/dtypes.inc"
#undef MINIM_DTYPE
  /// std::string elements: a Tensor holds them, views and kernels never do.
  string,
};

/// The small kinds are stored and converted, never computed in.
enum class DTypeKind : uint8_t { kFloat, kSigned, kUnsigned, kBool, kSmallFloat, kSmallInt, kString };

/// Bytes of one element in memory.
size_t SizeOf(DType dtype);
/// Bits of one element in an ONNX file, where types below a byte are packed, low bits first.
int FileBits(DType dtype);
/// "f32", "i64", "bool", "f8e4m3fn".
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
inline bool IsSmallFloat(DType dtype) { return KindOf(dtype) == DTypeKind::kSmallFloat; }
inline bool IsSmallInt(DType dtype) { return KindOf(dtype) == DTypeKind::kSmallInt; }
inline bool IsSmall(DType dtype) { return IsSmallFloat(dtype) || IsSmallInt(dtype); }

}  // namespace minim
