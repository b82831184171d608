// The bodies of GroupNormLevel. Define MINIM_GROUP_NORM and MINIM_GROUP_NORM_NAME first.
#pragma once

#include <algorithm>

#include "kernels/cpu/elementwise_functions.h"
#include "kernels/cpu/group_norm.h"
#include "kernels/cpu/halves.h"

namespace minim {
namespace {

/// value(row, c) summed over the rows, eight at a time.
template <typename F>
[[gnu::always_inline]] inline void SumRows(int64_t rows, int64_t channels, float* sums, F&& value) {
  std::fill_n(sums, channels, 0.0f);
  int64_t i = 0;
  for (; i + 8 <= rows; i += 8) {
#pragma GCC ivdep
    for (int64_t c = 0; c < channels; ++c)
      sums[c] += ((value(i, c) + value(i + 1, c)) + (value(i + 2, c) + value(i + 3, c))) +
                 ((value(i + 4, c) + value(i + 5, c)) + (value(i + 6, c) + value(i + 7, c)));
  }
  for (; i < rows; ++i) {
#pragma GCC ivdep
    for (int64_t c = 0; c < channels; ++c) sums[c] += value(i, c);
  }
}

template <typename T>
void Sum(const T* x, int64_t rows, int64_t channels, float* sums) {
  SumRows(rows, channels, sums, [=](int64_t i, int64_t c) { return Wide(x[i * channels + c]); });
}

template <typename T>
void SquareDeviations(const T* x, const float* center, int64_t rows, int64_t channels,
                      float* sums) {
  SumRows(rows, channels, sums, [=](int64_t i, int64_t c) {
    const float away = Wide(x[i * channels + c]) - center[c];
    return away * away;
  });
}

template <bool silu>
inline float Finished(float y) {
  return silu ? SiluF(y) : y;
}

template <bool silu, typename T>
void NormalizeRows(const T* x, const float* center, const float* scale, const float* bias,
                   int64_t rows, int64_t channels, T* y) {
  for (int64_t i = 0; i < rows; ++i, x += channels, y += channels) {
#pragma GCC ivdep
    for (int64_t c = 0; c < channels; ++c)
      y[c] = Narrow<T>(Finished<silu>(MulAdd(Wide(x[c]) - center[c], scale[c], bias[c])));
  }
}

template <typename T>
void Normalize(const T* x, const float* center, const float* scale, const float* bias, bool silu,
               int64_t rows, int64_t channels, T* y) {
  silu ? NormalizeRows<true>(x, center, scale, bias, rows, channels, y)
       : NormalizeRows<false>(x, center, scale, bias, rows, channels, y);
}

template <bool silu, typename T>
void NormalizeValues(const T* x, float center, float scale, float bias, int64_t n, T* y) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i)
    y[i] = Narrow<T>(Finished<silu>(MulAdd(Wide(x[i]) - center, scale, bias)));
}

template <typename T>
void NormalizePlane(const T* x, float center, float scale, float bias, bool silu, int64_t n, T* y) {
  silu ? NormalizeValues<true>(x, center, scale, bias, n, y)
       : NormalizeValues<false>(x, center, scale, bias, n, y);
}

template <typename T>
constexpr GroupNormFunctions<T> kFunctions = {Sum<T>, SquareDeviations<T>, Normalize<T>,
                                              NormalizePlane<T>};

}  // namespace

const GroupNormLevel& MINIM_GROUP_NORM() {
  static constexpr GroupNormLevel kLevel = {MINIM_GROUP_NORM_NAME, kFunctions<float>,
                                            kFunctions<BFloat16>};
  return kLevel;
}

}  // namespace minim
