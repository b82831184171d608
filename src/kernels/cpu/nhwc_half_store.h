// How sums become BF16 that are stored. For the files compiled at levels with BF16 arithmetic.
#pragma once

#include <immintrin.h>

#include "kernels/cpu/nhwc_conv.h"

namespace minim {
namespace {

/// As many of a run's filters from a panel's first one as the panel holds.
inline __mmask16 FiltersOf(const NhwcRun& run, int64_t panel) {
  const int64_t left = run.filters - panel * kPanel;
  return static_cast<__mmask16>(left < kPanel ? (uint32_t{1} << left) - 1 : 0xFFFF);
}

/// Clamped sums of `pixel` (from the run's first one) by the filters `there` of a panel; `sum`
/// already has the starts in it.
inline void StoreHalves(const NhwcHalves& args, int64_t pixel, int64_t panel, __mmask16 there,
                        __m512 sum) {
  const int64_t at = pixel * args.run.dst_step + panel * kPanel * 2;
  if (args.residual) {
    const __m256i halves = _mm256_maskz_loadu_epi16(there, args.residual + at);
    sum = _mm512_add_ps(sum,
                        _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16)));
  }
  const __m512 y =
      _mm512_min_ps(_mm512_set1_ps(args.high), _mm512_max_ps(_mm512_set1_ps(args.low), sum));
  _mm256_mask_storeu_epi16(args.run.dst + at, there, (__m256i)_mm512_cvtneps_pbh(y));
}

}  // namespace
}  // namespace minim
