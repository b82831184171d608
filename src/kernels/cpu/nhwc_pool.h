// Maxima and means of pixels with their channels last.
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

/// A box of pixels: of each axis so many, so many elements apart.
template <typename T>
struct NhwcBox {
  const T* src = nullptr;
  int64_t count[3] = {}, step[3] = {};
};
/// dst[c] = the sum of src[c] of the pixels in a box, in FP32, over `divisor`; rounded once.
template <typename T>
using NhwcMean = void (*)(const NhwcBox<T>& box, int64_t channels, float divisor, T* dst);

struct NhwcPoolLevel {
  NhwcMax<float> f32;
  NhwcMax<BFloat16> bf16;
  NhwcMax<int8_t> i8;
  NhwcMax<uint8_t> u8;
  NhwcMean<float> mean_f32;
  NhwcMean<BFloat16> mean_bf16;
};

const NhwcPoolLevel& NhwcPoolsPortable();
const NhwcPoolLevel& NhwcPoolsAvx2();
const NhwcPoolLevel& NhwcPoolsAvx512();

}  // namespace minim
