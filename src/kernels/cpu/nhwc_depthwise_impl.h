// The bodies of NhwcDepthwiseLevel. Define MINIM_NHWC_DEPTHWISE and MINIM_NHWC_DEPTHWISE_NAME
// first.
#pragma once

#include <algorithm>

#include "kernels/cpu/halves.h"
#include "kernels/cpu/nhwc_depthwise.h"
#include "kernels/cpu/simd.h"

namespace minim {
namespace {

// `count` elements, then zeros; at most a vector of them.
inline Vec LoadWide(const float* src, int64_t count) {
  return count < kLanes ? LoadFirst(src, count) : Load(src);
}
inline Vec LoadWide(const BFloat16* src, int64_t count) {
#ifdef __AVX512BW__
  const auto mask = static_cast<__mmask16>(0xffffu >> (kLanes - count));
  const __m512i words = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, src));
  return _mm512_castsi512_ps(_mm512_slli_epi32(words, 16));
#else
  Vec value = {};
  for (int64_t i = 0; i < count; ++i) value[i] = Wide(src[i]);
  return value;
#endif
}

inline void StoreNarrow(float* dst, Vec value, int64_t count) {
  count < kLanes ? StoreFirst(dst, value, count) : Store(dst, value);
}
// As Narrow<BFloat16>.
inline void StoreNarrow(BFloat16* dst, Vec value, int64_t count) {
#ifdef __AVX512BW__
  const __m512i word = _mm512_castps_si512(value), high = _mm512_srli_epi32(word, 16);
  const __m512i odd = _mm512_and_si512(high, _mm512_set1_epi32(1));
  __m512i rounded = _mm512_srli_epi32(
      _mm512_add_epi32(word, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff))), 16);
  rounded = _mm512_mask_or_epi32(rounded, _mm512_cmp_ps_mask(value, value, _CMP_UNORD_Q), high,
                                 _mm512_set1_epi32(0x40));
  const auto mask = static_cast<__mmask16>(0xffffu >> (kLanes - count));
  _mm256_mask_storeu_epi16(dst, mask, _mm512_cvtepi32_epi16(rounded));
#else
  for (int64_t i = 0; i < count; ++i) dst[i] = Narrow<BFloat16>(value[i]);
#endif
}

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
