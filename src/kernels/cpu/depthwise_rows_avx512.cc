#include "kernels/cpu/depthwise_rows_impl.h"

namespace minim {
namespace {

template <int stride>
inline __m512 LoadColumns(const float* at, uint64_t there) {
  const __m512 low = _mm512_maskz_loadu_ps(static_cast<__mmask16>(there), at);
  if constexpr (stride == 1) return low;
  const __m512 high = _mm512_maskz_loadu_ps(static_cast<__mmask16>(there >> 16), at + 16);
  const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  return _mm512_permutex2var_ps(low, even, high);
}

// Filters of size x size, or any if 0.
template <int stride, int size>
void Filter(const DepthwiseRows& r, const float* image, const float* padding, const PlaneFilter& f,
            float* dst) {
  const __m512 low = _mm512_set1_ps(f.low), high = _mm512_set1_ps(f.high),
               bias = _mm512_set1_ps(f.bias);
  const int64_t down = Taps<size>::Of(r.w.kernel[1]), across = Taps<size>::Of(r.w.kernel[2]);
  // Loaded once: what is stored might be weights, for all the compiler knows.
  __m512 weights[size > 0 ? size * size : kMostPlaneTaps];
  for (int64_t tap = 0; tap < down * across; ++tap) weights[tap] = _mm512_set1_ps(f.weights[tap]);
  ForEachVector(
      r, image, padding, dst,
      [&](const float* const* rows, const uint64_t* masks, int64_t x, int64_t count, float* to) {
        __m512 sum = bias;
#pragma GCC unroll 5
        for (int64_t h = 0; h < down; ++h)
#pragma GCC unroll 5
          for (int64_t k = 0; k < across; ++k)
            sum = _mm512_fmadd_ps(weights[h * across + k],
                                  LoadColumns<stride>(rows[h] + r.ColumnOf(x, k), masks[k]), sum);
        const auto there = static_cast<__mmask16>((uint32_t{1} << count) - 1);
        if (f.residual)
          sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(there, f.residual + (to - dst)));
        _mm512_mask_storeu_ps(to, there, _mm512_min_ps(high, _mm512_max_ps(low, sum)));
      });
}

template <int stride>
void FilterOf(const DepthwiseRows& r, const float* image, const float* padding,
              const PlaneFilter& f, float* dst) {
  const int64_t size = r.w.kernel[1] == r.w.kernel[2] ? r.w.kernel[1] : 0;
  if (size == 3) return Filter<stride, 3>(r, image, padding, f, dst);
  if (size == 5) return Filter<stride, 5>(r, image, padding, f, dst);
  Filter<stride, 0>(r, image, padding, f, dst);
}

}  // namespace

void FilterFloatsAvx512(const DepthwiseRows& r, const float* image, const float* padding,
                        const PlaneFilter& f, float* dst) {
  r.w.stride[2] == 1 ? FilterOf<1>(r, image, padding, f, dst)
                     : FilterOf<2>(r, image, padding, f, dst);
}

}  // namespace minim
