// Maxima of pixels with their channels last.
#pragma once

#include <cstdint>

#include "minim/dtype.h"

namespace minim {

/// Taps whose maximum is taken at once: those of 3x3.
inline constexpr int kMaxTaps = 9;

/// dst[c] = the largest src[i][c] of `count` (at most kMaxTaps) pixels and, unless `first`, of
/// dst[c]; NaN is the largest.
template <typename T>
using NhwcMax = void (*)(const T* const* src, int count, int64_t channels, bool first, T* dst);

struct NhwcMaxLevel {
  NhwcMax<float> f32;
  NhwcMax<BFloat16> bf16;
  NhwcMax<int8_t> i8;
  NhwcMax<uint8_t> u8;
};

const NhwcMaxLevel& NhwcMaxPortable();
const NhwcMaxLevel& NhwcMaxAvx2();
const NhwcMaxLevel& NhwcMaxAvx512();

}  // namespace minim
