// The bodies of NhwcDepthwiseLevel. Define MINIM_NHWC_DEPTHWISE and MINIM_NHWC_DEPTHWISE_NAME
// first.
#pragma once

#include <algorithm>

#include "kernels/cpu/halves.h"
#include "kernels/cpu/nhwc_depthwise.h"

namespace minim {
namespace {

// On top of `sum`: taps [first, first + taps) of the `count` channels from c on.
template <int taps, typename T>
[[gnu::always_inline]] inline Vec AddTaps(const NhwcDepthwisePixel<T>& p, int64_t first, int64_t c,
                                          int64_t count, Vec sum) {
#pragma GCC unroll 9
  for (int64_t i = first; i < first + taps; ++i)
    sum = MulAdd(LoadWide(p.taps[i] + c, count), LoadWide(p.weights[i] + c, count), sum);
  return sum;
}

template <typename T>
void SumPixel(const NhwcDepthwisePixel<T>& p) {
  const Vec low = Broadcast(p.low), high = Broadcast(p.high);
  for (int64_t c = 0; c < p.channels; c += kLanes) {
    const int64_t count = std::min<int64_t>(kLanes, p.channels - c);
    Vec sum = LoadWide(p.starts + c, count);
    int64_t i = 0;
    for (; i + 9 <= p.count; i += 9) sum = AddTaps<9>(p, i, c, count, sum);
    for (; i + 3 <= p.count; i += 3) sum = AddTaps<3>(p, i, c, count, sum);
    for (; i < p.count; ++i) sum = AddTaps<1>(p, i, c, count, sum);
    if (p.residual) sum += LoadWide(p.residual + c, count);
    StoreNarrow(p.dst + c, Min(high, Max(low, sum)), count);  // NaN stays
  }
}

}  // namespace

const NhwcDepthwiseLevel& MINIM_NHWC_DEPTHWISE() {
  static constexpr NhwcDepthwiseLevel kLevel = {MINIM_NHWC_DEPTHWISE_NAME, SumPixel<float>,
                                                SumPixel<BFloat16>};
  return kLevel;
}

}  // namespace minim
