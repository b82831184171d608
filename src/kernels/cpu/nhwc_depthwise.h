// Depthwise filters on pixels with their channels last: the channels of a pixel are summed
// together.
#pragma once

#include <cstdint>
#include <string_view>

#include "minim/dtype.h"

namespace minim {

/// One pixel of the result, `channels` values: starts[c] plus the sum over the taps in the image of
/// taps[i][c] * weights[i][c], plus residual[c] unless null, clamped to [low, high] and rounded.
template <typename T>
struct NhwcDepthwisePixel {
  const T* const* taps = nullptr;
  const float* const* weights = nullptr;
  int64_t count = 0;  // of taps
  int64_t channels = 0;
  const float* starts = nullptr;
  const T* residual = nullptr;
  float low = 0, high = 0;
  T* dst = nullptr;
};

struct NhwcDepthwiseLevel {
  std::string_view name;
  void (*f32)(const NhwcDepthwisePixel<float>& pixel);
  void (*bf16)(const NhwcDepthwisePixel<BFloat16>& pixel);
};

const NhwcDepthwiseLevel& NhwcDepthwisesPortable();
const NhwcDepthwiseLevel& NhwcDepthwisesAvx512();

}  // namespace minim
