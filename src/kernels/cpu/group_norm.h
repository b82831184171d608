// Group normalization of images with their channels last or first.
#pragma once

#include <string_view>

#include "kernels/cpu/table.h"

namespace minim {

/// Functions over `rows` pixels of `channels` values each, one after the other.
template <typename T>
struct GroupNormFunctions {
  /// sums[c] = the sum over the rows of x[c].
  void (*sum)(const T* x, int64_t rows, int64_t channels, float* sums);
  /// sums[c] = the sum over the rows of (x[c] - center[c])^2.
  void (*square_deviations)(const T* x, const float* center, int64_t rows, int64_t channels,
                            float* sums);
  /// y[c] = (x[c] - center[c]) * scale[c] + bias[c], then y * sigmoid(y) if `silu`.
  void (*normalize)(const T* x, const float* center, const float* scale, const float* bias,
                    bool silu, int64_t rows, int64_t channels, T* y);
  /// The same of n values of one channel.
  void (*normalize_plane)(const T* x, float center, float scale, float bias, bool silu, int64_t n,
                          T* y);
};

struct GroupNormLevel {
  std::string_view name;
  GroupNormFunctions<float> f32;
  GroupNormFunctions<BFloat16> bf16;
};

const GroupNormLevel& GroupNormPortable();
const GroupNormLevel& GroupNormAvx2();
const GroupNormLevel& GroupNormAvx512();

}  // namespace minim
