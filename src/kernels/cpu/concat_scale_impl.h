// The bodies of ConcatScaleLevel. Define MINIM_CONCAT_SCALE and MINIM_CONCAT_SCALE_NAME first.
#pragma once

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "kernels/cpu/concat_scale.h"
#include "kernels/cpu/halves.h"
#include "kernels/cpu/quotient.h"
#ifdef __AVX512BW__
#include "kernels/cpu/requantizer.h"
#endif

namespace minim {
namespace {

template <typename X>
class Reader {
 public:
  Reader(float scale, int32_t zero) : scale_(Broadcast(scale)), zero_(zero) {}

  Vec operator()(const X* x, int64_t count) const {
    if constexpr (!std::is_same_v<X, uint8_t>) {
      return LoadWide(x, count);
    } else {
#ifdef __AVX512BW__
      const auto mask = static_cast<__mmask16>(0xffffu >> (kLanes - count));
      const __m512i words = _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(mask, x));
      return _mm512_cvtepi32_ps(_mm512_sub_epi32(words, _mm512_set1_epi32(zero_))) * scale_;
#else
      Vec steps = {};
      for (int64_t i = 0; i < count; ++i) steps[i] = static_cast<float>(x[i] - zero_);
      return steps * scale_;
#endif
    }
  }

 private:
  Vec scale_;
  int32_t zero_;
};

template <typename Y>
class Writer {
 public:
  Writer(float, int32_t) {}
  void operator()(Y* y, Vec value, int64_t count) const { StoreNarrow(y, value, count); }
};

template <>
class Writer<uint8_t> {
 public:
  Writer(float scale, int32_t zero)
      : by_(StepDivisorOf(scale, static_cast<float>(-zero), static_cast<float>(255 - zero))),
        zero_(zero) {}

  void operator()(uint8_t* y, Vec value, int64_t count) const {
#ifdef __AVX512BW__
    const __m512i words = _mm512_add_epi32(by_(value), _mm512_set1_epi32(zero_));
    const auto mask = static_cast<__mmask16>(0xffffu >> (kLanes - count));
    _mm_mask_storeu_epi8(y, mask, _mm512_cvtepi32_epi8(words));
#else
    const float least = static_cast<float>(-zero_);
    const Vec steps = Min(Max(value / by_.scale, Broadcast(least)), Broadcast(least + 255));
    for (int64_t i = 0; i < count; ++i)
      y[i] = static_cast<uint8_t>(static_cast<int32_t>(std::nearbyint(steps[i])) + zero_);
#endif
  }

 private:
#ifdef __AVX512BW__
  Divider by_;
#else
  StepDivisor by_;
#endif
  int32_t zero_;
};

// `vectors` of channels from c on, of which `count` of each vector are there: their constants stay
// in registers from pixel to pixel.
template <int vectors, typename X, typename Y>
inline void ScaleColumn(const ScaledPart<X, Y>& p, int64_t c, int64_t count) {
  const Reader<X> read(p.x_scale, p.x_zero);
  const Writer<Y> write(p.y_scale, p.y_zero);
  const Vec low = Broadcast(p.low);
  Vec factor[vectors], term[vectors];
  for (int i = 0; i < vectors; ++i) {
    factor[i] = Held(LoadWide(p.scale + c + i * kLanes, count));
    term[i] = Held(LoadWide(p.shift + c + i * kLanes, count));
  }
  const X* x = p.x + c;
  Y* y = p.y + c;
  for (int64_t pixel = 0; pixel < p.pixels; ++pixel, x += p.channels, y += p.stride) {
    for (int i = 0; i < vectors; ++i) {
      const Vec sum = read(x + i * kLanes, count) * factor[i] + term[i];
      write(y + i * kLanes, Max(low, sum), count);
    }
  }
}

template <typename X, typename Y>
void Scale(const ScaledPart<X, Y>& p) {
  int64_t c = 0;
  for (; c + 4 * kLanes <= p.channels; c += 4 * kLanes) ScaleColumn<4>(p, c, kLanes);
  for (; c + 2 * kLanes <= p.channels; c += 2 * kLanes) ScaleColumn<2>(p, c, kLanes);
  for (; c < p.channels; c += kLanes)
    ScaleColumn<1>(p, c, std::min<int64_t>(kLanes, p.channels - c));
}

}  // namespace

const ConcatScaleLevel& MINIM_CONCAT_SCALE() {
#ifdef __AVX512F__
  constexpr bool kDivides = false;
#else
  constexpr bool kDivides = true;
#endif
  static constexpr ConcatScaleLevel kLevel = {
      MINIM_CONCAT_SCALE_NAME, kDivides,
      Scale<float, float>,     Scale<BFloat16, BFloat16>,
      Scale<uint8_t, float>,   Scale<float, uint8_t>,
      Scale<uint8_t, uint8_t>,
  };
  return kLevel;
}

}  // namespace minim
