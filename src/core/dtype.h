// Visitors over dtypes, and conversion of single values and whole arrays.
#pragma once

#include <bit>
#include <cmath>
#include <limits>
#include <type_traits>

#include "core/error.h"
#include "minim/dtype.h"
#include "minim/tensor.h"

namespace minim {

/// Calls f.template operator()<T>() with the C++ type of `dtype`, one that can be computed in; the
/// small types are a bug of the caller.
template <typename F>
decltype(auto) Visit(DType dtype, F&& f) {
  switch (dtype) {
#define MINIM_DTYPE(name, type, bits, onnx, acc, kind) \
  case DType::name:                                    \
    return f.template operator()<type>();
#include "minim/dtypes.inc"
#undef MINIM_DTYPE
    default: CheckFailed(__FILE__, __LINE__, "dtype can be computed in");
  }
}

/// As Visit, for the small dtypes only.
template <typename F>
decltype(auto) VisitSmall(DType dtype, F&& f) {
  switch (dtype) {
#define MINIM_DTYPE(name, type, bits, onnx, acc, kind)
#define MINIM_SMALL_DTYPE(name, type, file_bits, onnx, kind) \
  case DType::name:                                          \
    return f.template operator()<type>();
#include "minim/dtypes.inc"
#undef MINIM_DTYPE
    default: CheckFailed(__FILE__, __LINE__, "dtype is small");
  }
}

/// As Visit, for every dtype. Loops over pairs of types belong in ConvertElements instead.
template <typename F>
decltype(auto) VisitAny(DType dtype, F&& f) {
  return IsSmall(dtype) ? VisitSmall(dtype, f) : Visit(dtype, f);
}

/// As Visit, for the floating dtypes only; others are a bug of the caller.
template <typename F>
decltype(auto) VisitFloat(DType dtype, F&& f) {
  switch (dtype) {
    case DType::f64: return f.template operator()<double>();
    case DType::f32: return f.template operator()<float>();
    case DType::f16: return f.template operator()<Half>();
    case DType::bf16: return f.template operator()<BFloat16>();
    default: CheckFailed(__FILE__, __LINE__, "dtype is a float");
  }
}

template <typename T>
inline constexpr bool kIsStoredFloat = std::is_same_v<T, Half> || std::is_same_v<T, BFloat16>;
template <typename T>
inline constexpr bool kIsFloatType = std::is_floating_point_v<T> || kIsStoredFloat<T>;

template <typename T>
inline constexpr bool kIsSmallFloat = false;
template <SmallFormat kFormat>
inline constexpr bool kIsSmallFloat<SmallFloat<kFormat>> = true;
template <typename T>
inline constexpr bool kIsSmallInt = false;
template <int kBits, bool kSigned>
inline constexpr bool kIsSmallInt<SmallInt<kBits, kSigned>> = true;

/// The C++ type in which an element of T is computed: float for the 2-byte floats, else T.
template <typename T>
using ComputeType = std::conditional_t<kIsStoredFloat<T>, float, T>;

/// Rounds a double once, to nearest even, into the 2-byte formats (a detour over float would round
/// twice).
Half HalfFromDouble(double value);
BFloat16 BFloat16FromDouble(double value);
/// The same for the small floats: T is one of them.
template <typename T>
T SmallFloatFromDouble(double value);

/// Converts one value as ONNX Cast does: floats to integers truncate towards zero; NaN and values
/// out of range become the destination's nearest bound (unspecified by ONNX); integers wrap. Floats
/// to integers below a byte round to nearest even and wrap. Small floats do not saturate: see
/// CastToSmall.
template <typename To, typename From>
To ConvertTo(From from) {
  if constexpr (std::is_same_v<To, From>) {
    return from;
  } else if constexpr (kIsStoredFloat<From> || kIsSmallFloat<From>) {
    return ConvertTo<To>(static_cast<float>(from));
  } else if constexpr (kIsSmallInt<From>) {
    return ConvertTo<To>(static_cast<int64_t>(from));
  } else if constexpr (std::is_same_v<To, Half>) {
    return HalfFromDouble(static_cast<double>(from));
  } else if constexpr (std::is_same_v<To, BFloat16>) {
    return BFloat16FromDouble(static_cast<double>(from));
  } else if constexpr (kIsSmallFloat<To>) {
    return SmallFloatFromDouble<To>(static_cast<double>(from));
  } else if constexpr (kIsSmallInt<To> && std::is_floating_point_v<From>) {
    return To(ConvertTo<int64_t>(std::nearbyint(from)));
  } else if constexpr (std::is_same_v<To, bool>) {
    return from != From{};
  } else if constexpr (std::is_floating_point_v<From> && std::is_integral_v<To>) {
    if (std::isnan(from)) return To{};
    if (from <= static_cast<From>(std::numeric_limits<To>::min()))
      return std::numeric_limits<To>::min();
    if (from >= static_cast<From>(std::numeric_limits<To>::max()))
      return std::numeric_limits<To>::max();
    return static_cast<To>(from);
  } else {
    return static_cast<To>(from);
  }
}

/// dst[i] = ConvertTo(src[i]). The views hold the same number of elements. Uses F16C where the CPU
/// has it; results are the same bits without.
void ConvertElements(ConstView src, View dst);

/// A copy of `src` in another dtype.
Tensor Converted(const ConstView& src, DType dtype);

}  // namespace minim
