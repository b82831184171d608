// Sums and floats to bytes, for the files compiled with 512-bit vectors.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "kernels/cpu/quotient.h"

namespace minim {
namespace {

/// Requantize() to bytes, 16 at once, to the same bits (core/requantize.h). Signed bytes are
/// unsigned ones whose highest bit is flipped.
class Requantizer {
 public:
  Requantizer(bool is_signed, int32_t zero_point)
      : zero_(_mm512_set1_epi16(static_cast<int16_t>(zero_point + (is_signed ? 128 : 0)))),
        flip_(_mm512_set1_epi8(is_signed ? -128 : 0)) {}

  /// Steps, without the zero point. The conversion makes the least integer of NaN and of what is
  /// too small.
  static __m512i Of(__m512i sums, __m512 scales) {
    const __m512 x = _mm512_mul_ps(_mm512_cvtepi32_ps(sums), scales);
    return _mm512_cvtps_epi32(_mm512_min_ps(_mm512_set1_ps(32767), x));  // NaN passes
  }
  /// The bytes of four of them: the zero point is added, and packing saturates.
  __m512i Join(const __m512i (&x)[4]) const {
    const __m512i low = _mm512_adds_epi16(_mm512_packs_epi32(x[0], x[1]), zero_);
    const __m512i high = _mm512_adds_epi16(_mm512_packs_epi32(x[2], x[3]), zero_);
    const __m512i bytes = _mm512_xor_si512(_mm512_packus_epi16(low, high), flip_);
    // Packed lane by lane: quad p of lane l is l * 4 + p.
    return _mm512_permutexvar_epi32(
        _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), bytes);
  }
  /// The bytes of two, taken by turns of four from each.
  __m256i JoinPair(__m512i low, __m512i high) const {
    const __m512i words = _mm512_adds_epi16(_mm512_packs_epi32(low, high), zero_);
    const __m256i bytes = _mm512_cvtusepi16_epi8(_mm512_max_epi16(words, _mm512_setzero_si512()));
    return _mm256_xor_si256(bytes, _mm512_castsi512_si256(flip_));
  }

 private:
  __m512i zero_, flip_;
};

/// ForEachStep()'s steps (quotient.h), 16 at once, to the same bits.
class Divider {
 public:
  explicit Divider(const StepDivisor& by)
      : low_(_mm512_set1_ps(by.low)),
        high_(_mm512_set1_ps(by.high)),
        scale_(_mm512_set1_ps(by.scale)),
        inverse_(_mm512_set1_ps(by.inverse)),
        rest_(_mm512_set1_ps(by.rest)) {}

  __m512i operator()(__m512 x) const {
    const __m512 bounded = _mm512_min_ps(_mm512_max_ps(x, low_), high_);  // low_ if NaN
    const __m512 first = _mm512_fmadd_ps(bounded, inverse_, _mm512_mul_ps(bounded, rest_));
    return _mm512_cvtps_epi32(
        _mm512_fmadd_ps(_mm512_fnmadd_ps(first, scale_, bounded), inverse_, first));
  }

 private:
  __m512 low_, high_, scale_, inverse_, rest_;
};

}  // namespace
}  // namespace minim
