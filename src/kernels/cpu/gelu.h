// Gelu (its exact form, by erf) for tiles of element-wise chains and for what products do before
// they store. Of AVX-512 with half the work of a polynomial for erf: four coefficients looked up
// by permutations and three fused multiply-adds. Included by sources that are compiled once per
// level: functions have internal linkage.
#pragma once

#include <cstdint>

#include "kernels/cpu/elementwise_functions.h"

#ifdef __AVX512F__
#include <immintrin.h>
#endif

namespace minim {

/// Q(a) = erfc(a / sqrt 2) / 2, the chance that a normal variable exceeds a, by cubics in
/// a / kStep - i around a = i kStep, for a >= 0. The last is zero: Q(30.5 kStep) is under 3e-8.
/// The error is at most 2e-7 (0.55 kStep^4 / 24 / 128, by Chebyshev's nodes).
struct GeluTable {
  static constexpr int kSegments = 32;
  static constexpr float kStep = 0.1775f;
  alignas(64) float c[4][kSegments];
};
extern const GeluTable kGeluTable;

#ifdef __AVX512F__
namespace {

/// The table in registers.
class GeluVectors {
 public:
  GeluVectors() {
    for (int power = 0; power < 4; ++power) {
      for (int half = 0; half < 2; ++half)
        c_[power][half] = _mm512_load_ps(kGeluTable.c[power] + 16 * half);
    }
  }

  /// x (1 - Q(x)) where x >= 0, x Q(-x) elsewhere; NaN of NaN and of -infinity.
  [[gnu::always_inline]] __m512 operator()(__m512 x) const {
    constexpr float kWhole = 12582912;  // 1.5 * 2^23: sums are whole, their lowest bits count
    const __m512 inverse = _mm512_set1_ps(1 / GeluTable::kStep), whole = _mm512_set1_ps(kWhole);
    const __m512 end = _mm512_set1_ps((GeluTable::kSegments - 1) * GeluTable::kStep);
    const __m512 a = _mm512_min_ps(end, _mm512_abs_ps(x));  // NaN where x is
    const __m512 segment = _mm512_fmadd_ps(a, inverse, whole);
    const __m512 d = _mm512_fmsub_ps(a, inverse, _mm512_sub_ps(segment, whole));
    const __m512i index = _mm512_castps_si512(segment);  // permutations read its low five bits
    __m512 q = Coefficient(3, index);
    for (int power = 2; power >= 0; --power) q = _mm512_fmadd_ps(q, d, Coefficient(power, index));
    const __mmask16 negative = _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_LT_OQ);
    const __m512 share = _mm512_mask_mov_ps(_mm512_sub_ps(_mm512_set1_ps(1), q), negative, q);
    return _mm512_mul_ps(x, share);
  }

 private:
  __m512 Coefficient(int power, __m512i index) const {
    return _mm512_permutex2var_ps(c_[power][0], index, c_[power][1]);
  }
  __m512 c_[4][2];
};

}  // namespace
#endif

namespace {

/// y = Gelu(x), of n values; y may be x.
[[maybe_unused]] inline void GeluRow(const float* x, int64_t n, float* y) {
#ifdef __AVX512F__
  const GeluVectors gelu;
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) _mm512_storeu_ps(y + i, gelu(_mm512_loadu_ps(x + i)));
  const auto rest = static_cast<__mmask16>((1u << (n - i)) - 1);
  _mm512_mask_storeu_ps(y + i, rest, gelu(_mm512_maskz_loadu_ps(rest, x + i)));
#else
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) y[i] = Gelu(x[i]);
#endif
}

}  // namespace
}  // namespace minim
