// BF16 beside FP32 in loops that the compiler makes vectors of. Included by sources that are
// compiled once per level: everything here has internal linkage.
#pragma once

#include <bit>
#include <cstdint>
#include <type_traits>

#include "minim/dtype.h"

namespace minim {
namespace {

inline float Wide(float x) { return x; }
inline float Wide(BFloat16 x) { return std::bit_cast<float>(static_cast<uint32_t>(x.bits) << 16); }

/// To nearest even; NaN stays one.
template <typename T>
inline T Narrow(float x) {
  if constexpr (std::is_same_v<T, float>) {
    return x;
  } else {
    const auto word = std::bit_cast<uint32_t>(x);
    const bool nan = (word & 0x7fffffff) > 0x7f800000;
    const uint32_t rounded = (word + 0x7fff + ((word >> 16) & 1)) >> 16;
    BFloat16 y;
    y.bits = static_cast<uint16_t>(nan ? (word >> 16) | 0x40 : rounded);
    return y;
  }
}

}  // namespace
}  // namespace minim
