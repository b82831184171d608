#include "kernels/cpu/max_pool_rows.h"

#include <immintrin.h>

#include <cstring>
#include <limits>

namespace minim {
namespace {

template <typename T>
inline T Larger(T a, T b) {
  return a > b ? a : b;
}

template <typename T>
void Fill(T* dst, int64_t n) {
  for (int64_t i = 0; i < n; ++i) dst[i] = std::numeric_limits<T>::min();
}

template <typename T>
void LargerRow(const T* __restrict a, int64_t n, T* __restrict dst) {
  for (int64_t i = 0; i < n; ++i) dst[i] = Larger(a[i], dst[i]);
}

// The rows of the window at output row y, in the middle of the line.
template <typename T>
void Combine(const Window& w, const T* src, int64_t y, T* line) {
  bool first = true;
  for (int64_t k = 0; k < w.kernel[1]; ++k) {
    const int64_t row = y * w.stride[1] - w.begin[1] + k * w.dilation[1];
    if (row < 0 || row >= w.in[1]) continue;
    if (first)
      std::memcpy(line, src + row * w.in[2], w.in[2] * sizeof(T));
    else
      LargerRow(src + row * w.in[2], w.in[2], line);
    first = false;
  }
  if (first) Fill(line, w.in[2]);
}

// `stride`, `taps`: known here, or 0 for those of the window.
template <int stride, int taps, typename T>
void Columns(const Window& w, const T* __restrict line, T* __restrict dst) {
  const int64_t step = stride > 0 ? stride : w.stride[2], count = taps > 0 ? taps : w.kernel[2];
  const int64_t dilation = w.dilation[2], n = w.out[2];
  for (int64_t x = 0; x < n; ++x) {
    T best = line[x * step];
    for (int64_t k = 1; k < count; ++k) best = Larger(line[x * step + k * dilation], best);
    dst[x] = best;
  }
}

template <typename T>
void ColumnsOf(const Window& w, const T* line, T* dst) {
  const int64_t step = w.stride[2], taps = w.kernel[2];
  if (step == 2 && taps == 3) return Columns<2, 3>(w, line, dst);
  if (step == 2 && taps == 2) return Columns<2, 2>(w, line, dst);
  if (step == 1 && taps == 3) return Columns<1, 3>(w, line, dst);
  Columns<0, 0>(w, line, dst);
}

// The rule of MaxPool: the first of the largest, and NaN is the largest.
inline __m256 Beats(__m256 value, __m256 best) {
  return _mm256_and_ps(_mm256_cmp_ps(value, best, _CMP_NLE_UQ),
                       _mm256_cmp_ps(best, best, _CMP_ORD_Q));
}

// Sixteen columns as those of even and of odd number: windows 0, 1, 4, 5, 2, 3, 6, 7.
struct Pairs {
  __m256 even, odd;
};
inline Pairs LoadPairs(const float* src) {
  const __m256 low = _mm256_loadu_ps(src), high = _mm256_loadu_ps(src + 8);
  return {_mm256_shuffle_ps(low, high, 0x88), _mm256_shuffle_ps(low, high, 0xDD)};
}
inline void StorePairs(const Pairs& pairs, float* dst) {
  _mm256_storeu_ps(dst, _mm256_unpacklo_ps(pairs.even, pairs.odd));
  _mm256_storeu_ps(dst + 8, _mm256_unpackhi_ps(pairs.even, pairs.odd));
}

// Eight windows of two rows.
void EightHalves(const float* dy, const float* top, const float* bottom, float* to_top,
                 float* to_bottom) {
  const Pairs a = LoadPairs(top), b = LoadPairs(bottom);
  const __m256 second = Beats(a.odd, a.even), of_two = _mm256_blendv_ps(a.even, a.odd, second);
  const __m256 third = Beats(b.even, of_two), of_three = _mm256_blendv_ps(of_two, b.even, third);
  const __m256 fourth = Beats(b.odd, of_three);
  const __m256 all =
      _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(_mm256_loadu_ps(dy)), 0xD8));
  const __m256 three = _mm256_andnot_ps(fourth, all), two = _mm256_andnot_ps(third, three);
  StorePairs({_mm256_andnot_ps(second, two), _mm256_and_ps(second, two)}, to_top);
  StorePairs({_mm256_and_ps(third, three), _mm256_and_ps(fourth, all)}, to_bottom);
}

// Two rows under one row of windows: the last eight overlap those before, fewer go through buffers.
void HalveRowsGrad(const float* dy, const float* top, const float* bottom, int64_t n, float* to_top,
                   float* to_bottom) {
  for (int64_t i = 0; n >= 8 && i < n; i += 8) {
    const int64_t at = i + 8 <= n ? i : n - 8;
    EightHalves(dy + at, top + 2 * at, bottom + 2 * at, to_top + 2 * at, to_bottom + 2 * at);
  }
  if (n >= 8) return;
  alignas(32) float few[8] = {}, rows[2][16] = {}, results[2][16];
  const size_t bytes = static_cast<size_t>(n) * sizeof(float);
  std::memcpy(few, dy, bytes);
  std::memcpy(rows[0], top, 2 * bytes);
  std::memcpy(rows[1], bottom, 2 * bytes);
  EightHalves(few, rows[0], rows[1], results[0], results[1]);
  std::memcpy(to_top, results[0], 2 * bytes);
  std::memcpy(to_bottom, results[1], 2 * bytes);
}

}  // namespace

void MaxPoolHalvesGradAvx2(const Window& w, const float* dy, const float* x, float* dx) {
  const int64_t width = w.in[2], covered = 2 * w.out[2];
  for (int64_t y = 0; y < w.out[1]; ++y, x += 2 * width, dx += 2 * width) {
    HalveRowsGrad(dy + y * w.out[2], x, x + width, w.out[2], dx, dx + width);
    for (int64_t row = 0; row < 2; ++row)
      std::memset(dx + row * width + covered, 0, (width - covered) * sizeof(float));
  }
  std::memset(dx, 0, (w.in[1] - 2 * w.out[1]) * width * sizeof(float));
}

template <typename T>
void MaxPoolPlaneAvx2(const Window& w, const T* src, T* line, T* dst) {
  const int64_t left = w.begin[2], end = MaxPoolLine(w);
  Fill(line, left);
  Fill(line + left + w.in[2], end - left - w.in[2]);
  for (int64_t y = 0; y < w.out[1]; ++y) {
    Combine(w, src, y, line + left);
    ColumnsOf(w, line, dst + y * w.out[2]);
  }
}

template void MaxPoolPlaneAvx2(const Window&, const uint8_t*, uint8_t*, uint8_t*);
template void MaxPoolPlaneAvx2(const Window&, const int8_t*, int8_t*, int8_t*);

}  // namespace minim
