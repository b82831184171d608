// FP32 convolution with the channels last: what its tiles are given.
#pragma once

#include "kernels/cpu/nhwc_cuts.h"

namespace minim {

/// dst[i, j] = min(high, max(low, starts[j] + sum + residual[i, j])), in floats; NaN stays.
struct NhwcFloats {
  NhwcRun run;
  const float* starts = nullptr;        // panels * 16
  const std::byte* residual = nullptr;  // laid out as dst, or null
  float low = 0, high = 0;
};

/// `pixels` of them.
using RunNhwcFloats = void (*)(const NhwcFloats& floats, int64_t pixels);
void RunNhwcFloatsPortable(const NhwcFloats& floats, int64_t pixels);
void RunNhwcFloatsAvx512(const NhwcFloats& floats, int64_t pixels);

/// Bytes of an image that stay in the L2 cache beside a group of so many bytes of filters.
int64_t NhwcStepBytes(int64_t group_bytes);

/// `count` biases, or zeros if null, then zeros up to `filled`.
void FillStarts(const float* bias, int64_t count, int64_t filled, float* starts);

}  // namespace minim
