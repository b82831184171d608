// The bodies of NhwcDepthwiseLevel. Define MINIM_NHWC_DEPTHWISE and MINIM_NHWC_DEPTHWISE_NAME
// first.
#pragma once

#include <algorithm>

#include "kernels/cpu/halves.h"
#include "kernels/cpu/nhwc_depthwise.h"

namespace minim {
namespace {

constexpr int64_t kBlock = 64;  // channels whose sums are kept

// `taps` at once, on top of `from`: sums of earlier ones, or where all start.
template <int taps, typename T>
[[gnu::always_inline]] inline void AddTaps(const NhwcDepthwisePixel<T>& p, int64_t first, int64_t c,
                                           int64_t count, const float* from, float* sums) {
  const T* x[taps];
  const float* w[taps];
  for (int i = 0; i < taps; ++i) x[i] = p.taps[first + i] + c, w[i] = p.weights[first + i] + c;
#pragma GCC ivdep
  for (int64_t k = 0; k < count; ++k) {
    float sum = from[k];
#pragma GCC unroll 9
    for (int i = 0; i < taps; ++i) sum += Wide(x[i][k]) * w[i][k];
    sums[k] = sum;
  }
}

template <typename T>
void Finish(const NhwcDepthwisePixel<T>& p, int64_t c, int64_t count, const float* sums) {
  const float low = p.low, high = p.high;
  T* dst = p.dst + c;
  const auto clamp = [=](float y) { return y < low ? low : (y > high ? high : y); };
  if (p.residual) {
    const T* residual = p.residual + c;
#pragma GCC ivdep
    for (int64_t k = 0; k < count; ++k) dst[k] = Narrow<T>(clamp(sums[k] + Wide(residual[k])));
  } else {
#pragma GCC ivdep
    for (int64_t k = 0; k < count; ++k) dst[k] = Narrow<T>(clamp(sums[k]));
  }
}

template <typename T>
void SumPixel(const NhwcDepthwisePixel<T>& p) {
  alignas(64) float sums[kBlock];
  for (int64_t c = 0; c < p.channels; c += kBlock) {
    const int64_t count = std::min(kBlock, p.channels - c);
    const float* from = p.starts + c;
    int64_t i = 0;
    for (; i + 9 <= p.count; i += 9, from = sums) AddTaps<9>(p, i, c, count, from, sums);
    for (; i + 3 <= p.count; i += 3, from = sums) AddTaps<3>(p, i, c, count, from, sums);
    for (; i < p.count; ++i, from = sums) AddTaps<1>(p, i, c, count, from, sums);
    Finish(p, c, count, p.count > 0 ? sums : from);
  }
}

}  // namespace

const NhwcDepthwiseLevel& MINIM_NHWC_DEPTHWISE() {
  static constexpr NhwcDepthwiseLevel kLevel = {MINIM_NHWC_DEPTHWISE_NAME, SumPixel<float>,
                                                SumPixel<BFloat16>};
  return kLevel;
}

}  // namespace minim
