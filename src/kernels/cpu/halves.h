// BF16 beside FP32, in loops that the compiler makes vectors of and by vectors. Included by sources
// that are compiled once per level: everything here has internal linkage.
#pragma once

#include <bit>
#include <cstdint>
#include <type_traits>

#include "kernels/cpu/simd.h"
#include "minim/dtype.h"

namespace minim {
namespace {

inline float Wide(float x) { return x; }
inline float Wide(BFloat16 x) { return std::bit_cast<float>(static_cast<uint32_t>(x.bits) << 16); }

/// To nearest even; NaN stays one.
template <typename T>
inline T Narrow(float x) {
  if constexpr (std::is_same_v<T, float>) {
    return x;
  } else {
    const auto word = std::bit_cast<uint32_t>(x);
    const bool nan = (word & 0x7fffffff) > 0x7f800000;
    const uint32_t rounded = (word + 0x7fff + ((word >> 16) & 1)) >> 16;
    BFloat16 y;
    y.bits = static_cast<uint16_t>(nan ? (word >> 16) | 0x40 : rounded);
    return y;
  }
}

/// `count` elements, then zeros; at most a vector of them.
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
/// As Narrow<BFloat16>, but that AVX512-BF16 makes zeros of what is below 2^-126.
inline void StoreNarrow(BFloat16* dst, Vec value, int64_t count) {
#if defined(__AVX512BF16__)
  const auto mask = static_cast<__mmask16>(0xffffu >> (kLanes - count));
  _mm256_mask_storeu_epi16(dst, mask, (__m256i)_mm512_cvtneps_pbh(value));
#elif defined(__AVX512BW__)
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

}  // namespace
}  // namespace minim
