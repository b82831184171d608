// Sums to bytes, for the files compiled with 512-bit vectors.
#pragma once

#include <immintrin.h>

#include "kernels/cpu/quotient.h"

namespace minim {
namespace {

// Requantize() of 16 sums at once, to the same bits (core/requantize.h).
class Requantizer {
 public:
  // What floats are divided by, as ForEachStep does (quotient.h), and what they are held to before.
  struct Step {
    __m512 scale, inverse, rest, least, most;
  };

  Requantizer(bool is_signed, int32_t zero_point)
      : is_signed_(is_signed),
        least_(_mm512_set1_ps(static_cast<float>((is_signed_ ? -128 : 0) - zero_point))),
        most_(_mm512_set1_ps(static_cast<float>((is_signed_ ? 127 : 255) - zero_point))),
        back_(_mm512_sub_epi32(_mm512_castps_si512(kWhole()), _mm512_set1_epi32(zero_point))) {}

  __m512i Of(__m512i sums, __m512 scales) const {
    return _mm512_sub_epi32(_mm512_castps_si512(Shifted(sums, scales)), back_);
  }
  // The same less the zero point, as floats.
  __m512 Steps(__m512i sums, __m512 scales) const {
    return _mm512_sub_ps(Shifted(sums, scales), kWhole());
  }
  // Floats divided by a scale, the zero point added: QuantizeLinear, behind a Relu or not.
  Step StepOf(float scale, bool rectifies) const {
    const float inverse = 1.0f / scale;
    const __m512 by = _mm512_set1_ps(scale), least = _mm512_mul_ps(least_, by);
    return {.scale = by,
            .inverse = _mm512_set1_ps(inverse),
            .rest = _mm512_set1_ps(std::fma(-inverse, scale, 1.0f) * inverse),
            .least = rectifies ? _mm512_max_ps(least, _mm512_setzero_ps()) : least,
            .most = _mm512_mul_ps(most_, by)};
  }
  __m512i Of(__m512 x, const Step& step) const {
    const __m512 bounded = _mm512_min_ps(_mm512_max_ps(x, step.least), step.most);
    const __m512 first = _mm512_fmadd_ps(bounded, step.inverse, _mm512_mul_ps(bounded, step.rest));
    const __m512 last =
        _mm512_fmadd_ps(_mm512_fnmadd_ps(first, step.scale, bounded), step.inverse, first);
    return _mm512_sub_epi32(_mm512_castps_si512(_mm512_add_ps(last, kWhole())), back_);
  }
  // The bytes of four of them.
  __m512i Join(const __m512i (&x)[4]) const {
    const __m512i low = _mm512_packs_epi32(x[0], x[1]), high = _mm512_packs_epi32(x[2], x[3]);
    const __m512i bytes =
        is_signed_ ? _mm512_packs_epi16(low, high) : _mm512_packus_epi16(low, high);
    // Packed lane by lane: quad p of lane l is l * 4 + p.
    return _mm512_permutexvar_epi32(
        _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), bytes);
  }

 private:
  static __m512 kWhole() { return _mm512_set1_ps(kWholeShift); }
  __m512 Shifted(__m512i sums, __m512 scales) const {
    const __m512 x = _mm512_mul_ps(_mm512_cvtepi32_ps(sums), scales);
    const __m512 bounded = _mm512_min_ps(_mm512_max_ps(x, least_), most_);  // least if NaN
    return _mm512_add_ps(bounded, kWhole());
  }
  bool is_signed_;
  __m512 least_, most_;
  __m512i back_;
};

}  // namespace
}  // namespace minim
