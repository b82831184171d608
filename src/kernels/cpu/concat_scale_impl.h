// The bodies of ConcatScaleLevel. Define MINIM_CONCAT_SCALE and MINIM_CONCAT_SCALE_NAME first.
#pragma once

#include <algorithm>

#include "kernels/cpu/concat_scale.h"
#include "kernels/cpu/halves.h"

namespace minim {
namespace {

// `vectors` of channels, of which `count` of each vector are there: their constants stay in
// registers from pixel to pixel.
template <int vectors, typename T>
inline void ScaleColumn(const T* x, const float* scale, const float* shift, float low,
                        int64_t count, int64_t channels, int64_t pixels, int64_t stride, T* y) {
  const Vec least = Broadcast(low);
  Vec factor[vectors], term[vectors];
  for (int i = 0; i < vectors; ++i) {
    factor[i] = Held(LoadWide(scale + i * kLanes, count));
    term[i] = Held(LoadWide(shift + i * kLanes, count));
  }
  for (int64_t pixel = 0; pixel < pixels; ++pixel, x += channels, y += stride) {
    for (int i = 0; i < vectors; ++i) {
      const Vec sum = MulAdd(LoadWide(x + i * kLanes, count), factor[i], term[i]);
      StoreNarrow(y + i * kLanes, Max(least, sum), count);
    }
  }
}

template <typename T>
void Scale(const T* x, const float* scale, const float* shift, float low, int64_t channels,
           int64_t pixels, int64_t stride, T* y) {
  constexpr int kVectors = 4;
  int64_t c = 0;
  for (; c + kVectors * kLanes <= channels; c += kVectors * kLanes)
    ScaleColumn<kVectors>(x + c, scale + c, shift + c, low, kLanes, channels, pixels, stride,
                          y + c);
  for (; c + 2 * kLanes <= channels; c += 2 * kLanes)
    ScaleColumn<2>(x + c, scale + c, shift + c, low, kLanes, channels, pixels, stride, y + c);
  for (; c < channels; c += kLanes)
    ScaleColumn<1>(x + c, scale + c, shift + c, low, std::min<int64_t>(kLanes, channels - c),
                   channels, pixels, stride, y + c);
}

}  // namespace

const ConcatScaleLevel& MINIM_CONCAT_SCALE() {
  static constexpr ConcatScaleLevel kLevel = {MINIM_CONCAT_SCALE_NAME, Scale<float>,
                                              Scale<BFloat16>};
  return kLevel;
}

}  // namespace minim
