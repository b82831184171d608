// Scaled and shifted channels of pixels that have their channels side by side.
#pragma once

#include <cstdint>
#include <string_view>

#include "minim/dtype.h"

namespace minim {

/// y[p * stride + c] = max(x[p * channels + c] * scale[c] + shift[c], low) for each of `pixels`
/// pixels and `channels` channels, NaN staying; rounded once.
template <typename T>
using ScaleChannels = void (*)(const T* x, const float* scale, const float* shift, float low,
                               int64_t channels, int64_t pixels, int64_t stride, T* y);

struct ConcatScaleLevel {
  std::string_view name;
  ScaleChannels<float> f32;
  ScaleChannels<BFloat16> bf16;
};

const ConcatScaleLevel& ConcatScalesPortable();
const ConcatScaleLevel& ConcatScalesAvx512();
/// Rounds by the processor's instruction: results below 2^-126 become zero.
const ConcatScaleLevel& ConcatScalesBf16();

}  // namespace minim
