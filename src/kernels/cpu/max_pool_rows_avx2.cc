#include "kernels/cpu/max_pool_rows.h"

#include <immintrin.h>

#include <cstring>
#include <limits>
#include <type_traits>

namespace minim {
namespace {

// The later of two values if it is larger or NaN.
template <typename T>
inline T Larger(T a, T b) {
  return b > a || b != b ? b : a;
}
inline __m256 Larger(__m256 a, __m256 b) {
  return _mm256_blendv_ps(_mm256_max_ps(b, a), b, _mm256_cmp_ps(b, b, _CMP_UNORD_Q));
}
inline __m128 Larger(__m128 a, __m128 b) {
  return _mm_blendv_ps(_mm_max_ps(b, a), b, _mm_cmp_ps(b, b, _CMP_UNORD_Q));
}

// What never wins.
template <typename T>
void Fill(T* dst, int64_t n) {
  using Limits = std::numeric_limits<T>;
  const T least = std::is_floating_point_v<T> ? -Limits::infinity() : Limits::lowest();
  for (int64_t i = 0; i < n; ++i) dst[i] = least;
}

inline __m256i LoadBytes(const void* src) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(src));
}
inline __m256i LoadHalf(const void* src) {
  return _mm256_castsi128_si256(_mm_loadu_si128(static_cast<const __m128i*>(src)));
}

template <typename T>
inline __m256i LargerBytes(__m256i a, __m256i b) {
  if constexpr (std::is_signed_v<T>)
    return _mm256_max_epi8(a, b);
  else
    return _mm256_max_epu8(a, b);
}

// The largest of `count` rows, `step` apart, at each of n columns. The last vector overlaps the one
// before.
template <typename T>
void LargestOfRows(const T* rows, int64_t step, int64_t count, int64_t n, T* line) {
  for (int64_t i = 0; n >= 32 && i < n; i += 32) {
    const T* column = rows + (i + 32 <= n ? i : n - 32);
    __m256i best = LoadBytes(column);
    for (int64_t k = 1; k < count; ++k) best = LargerBytes<T>(LoadBytes(column + k * step), best);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(line + (column - rows)), best);
  }
  if (n >= 32) return;
  for (int64_t i = 0; n >= 16 && i < n; i += 16) {
    const T* column = rows + (i + 16 <= n ? i : n - 16);
    __m256i best = LoadHalf(column);
    for (int64_t k = 1; k < count; ++k) best = LargerBytes<T>(LoadHalf(column + k * step), best);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(line + (column - rows)),
                     _mm256_castsi256_si128(best));
  }
  if (n >= 16) return;
  for (int64_t i = 0; i < n; ++i) {
    T best = rows[i];
    for (int64_t k = 1; k < count; ++k) best = Larger(rows[i + k * step], best);
    line[i] = best;
  }
}

void LargestOfRows(const float* rows, int64_t step, int64_t count, int64_t n, float* line) {
  for (int64_t i = 0; n >= 8 && i < n; i += 8) {
    const float* column = rows + (i + 8 <= n ? i : n - 8);
    __m256 best = _mm256_loadu_ps(column);
    for (int64_t k = 1; k < count; ++k) best = Larger(best, _mm256_loadu_ps(column + k * step));
    _mm256_storeu_ps(line + (column - rows), best);
  }
  if (n >= 8) return;
  for (int64_t i = 0; i < n; ++i) {
    float best = rows[i];
    for (int64_t k = 1; k < count; ++k) best = Larger(best, rows[i + k * step]);
    line[i] = best;
  }
}

// The rows of the window at output row y, in the middle of the line.
template <typename T>
void Combine(const Window& w, const T* src, int64_t y, T* line) {
  const int64_t top = y * w.stride[1] - w.begin[1], apart = w.dilation[1];
  const int64_t first = top < 0 ? (-top + apart - 1) / apart : 0;
  const int64_t left = w.in[1] - top;  // rows
  const int64_t end = left <= 0 ? 0 : (left + apart - 1) / apart;
  const int64_t last = end < w.kernel[1] ? end : w.kernel[1];
  if (first >= last) return Fill(line, w.in[2]);
  LargestOfRows(src + (top + first * apart) * w.in[2], apart * w.in[2], last - first, w.in[2],
                line);
}

// Sixteen windows of two or three columns, two apart.
template <int taps, typename T>
inline __m128i SixteenWindows(const T* line) {
  const __m256i both = LoadBytes(line);
  __m256i best = LargerBytes<T>(both, _mm256_srli_epi16(both, 8));  // in the even bytes
  if constexpr (taps == 3) best = LargerBytes<T>(best, LoadBytes(line + 2));
  best = _mm256_and_si256(best, _mm256_set1_epi16(0xFF));
  best = _mm256_permute4x64_epi64(_mm256_packus_epi16(best, best), 0xD8);
  return _mm256_castsi256_si128(best);
}

// Sixteen columns as those of even and of odd number: windows 0, 1, 4, 5, 2, 3, 6, 7.
struct Pairs {
  __m256 even, odd;
};
inline Pairs LoadPairs(const float* src) {
  const __m256 low = _mm256_loadu_ps(src), high = _mm256_loadu_ps(src + 8);
  return {_mm256_shuffle_ps(low, high, 0x88), _mm256_shuffle_ps(low, high, 0xDD)};
}
inline __m256 InOrder(__m256 windows) {
  return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(windows), 0xD8));
}

// Eight of them.
template <int taps>
inline __m256 EightWindows(const float* line) {
  const Pairs pairs = LoadPairs(line);
  __m256 best = Larger(pairs.even, pairs.odd);
  if constexpr (taps == 3) best = Larger(best, LoadPairs(line + 2).even);
  return InOrder(best);
}

// Reads at most kMaxPoolSlack elements past the line.
template <int taps, typename T>
void EverySecondColumn(const T* line, int64_t n, T* dst) {
  for (int64_t x = 0; n >= 16 && x < n; x += 16) {
    const int64_t at = x + 16 <= n ? x : n - 16;
    _mm_storeu_si128(reinterpret_cast<__m128i*>(dst + at), SixteenWindows<taps>(line + 2 * at));
  }
  if (n >= 16) return;
  alignas(16) T windows[16];
  _mm_store_si128(reinterpret_cast<__m128i*>(windows), SixteenWindows<taps>(line));
  std::memcpy(dst, windows, n);
}

template <int taps>
void EverySecondColumn(const float* line, int64_t n, float* dst) {
  for (int64_t x = 0; n >= 8 && x < n; x += 8) {
    const int64_t at = x + 8 <= n ? x : n - 8;
    _mm256_storeu_ps(dst + at, EightWindows<taps>(line + 2 * at));
  }
  if (n >= 8) return;
  alignas(32) float windows[8];
  _mm256_store_ps(windows, EightWindows<taps>(line));
  std::memcpy(dst, windows, static_cast<size_t>(n) * sizeof(float));
}

// `stride`, `taps`: known here, or 0 for those of the window.
template <int stride, int taps, typename T>
void Columns(const Window& w, const T* __restrict line, T* __restrict dst) {
  const int64_t step = stride > 0 ? stride : w.stride[2], count = taps > 0 ? taps : w.kernel[2];
  const int64_t dilation = w.dilation[2], n = w.out[2];
  for (int64_t x = 0; x < n; ++x) {
    T best = line[x * step];
    for (int64_t k = 1; k < count; ++k) best = Larger(best, line[x * step + k * dilation]);
    dst[x] = best;
  }
}

template <typename T>
void ColumnsOf(const Window& w, const T* line, T* dst) {
  const int64_t step = w.stride[2], taps = w.kernel[2];
  const bool side_by_side = w.dilation[2] == 1;
  if (step == 2 && taps == 3 && side_by_side) return EverySecondColumn<3>(line, w.out[2], dst);
  if (step == 2 && taps == 2 && side_by_side) return EverySecondColumn<2>(line, w.out[2], dst);
  if (step == 1 && taps == 3) return Columns<1, 3>(w, line, dst);
  Columns<0, 0>(w, line, dst);
}

// The rule of MaxPool: the first of the largest, and NaN is the largest.
inline __m256 Beats(__m256 value, __m256 best) {
  return _mm256_and_ps(_mm256_cmp_ps(value, best, _CMP_NLE_UQ),
                       _mm256_cmp_ps(best, best, _CMP_ORD_Q));
}

inline void StorePairs(const Pairs& pairs, float* dst) {
  _mm256_storeu_ps(dst, _mm256_unpacklo_ps(pairs.even, pairs.odd));
  _mm256_storeu_ps(dst + 8, _mm256_unpackhi_ps(pairs.even, pairs.odd));
}

void EightLargest(const float* top, const float* bottom, float* dst) {
  const Pairs a = LoadPairs(top), b = LoadPairs(bottom);
  const __m256 best = Larger(Larger(a.even, a.odd), Larger(b.even, b.odd));
  _mm256_storeu_ps(dst, _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(best), 0xD8)));
}

void FourLargest(const float* top, const float* bottom, float* dst) {
  const auto row = [](const float* src) {
    const __m128 low = _mm_loadu_ps(src), high = _mm_loadu_ps(src + 4);
    return Larger(_mm_shuffle_ps(low, high, 0x88), _mm_shuffle_ps(low, high, 0xDD));
  };
  _mm_storeu_ps(dst, Larger(row(top), row(bottom)));
}

// One row of windows: the last vector overlaps the one before, fewer go through buffers.
void HalveRows(const float* top, const float* bottom, int64_t n, float* dst) {
  for (int64_t i = 0; n >= 8 && i < n; i += 8) {
    const int64_t at = i + 8 <= n ? i : n - 8;
    EightLargest(top + 2 * at, bottom + 2 * at, dst + at);
  }
  if (n >= 8) return;
  for (int64_t i = 0; n >= 4 && i < n; i += 4) {
    const int64_t at = i + 4 <= n ? i : n - 4;
    FourLargest(top + 2 * at, bottom + 2 * at, dst + at);
  }
  if (n >= 4) return;
  alignas(16) float rows[2][8] = {}, largest[4];
  const size_t bytes = static_cast<size_t>(n) * sizeof(float);
  std::memcpy(rows[0], top, 2 * bytes);
  std::memcpy(rows[1], bottom, 2 * bytes);
  FourLargest(rows[0], rows[1], largest);
  std::memcpy(dst, largest, bytes);
}

// Eight windows of two rows.
void EightHalves(const float* dy, const float* top, const float* bottom, float* to_top,
                 float* to_bottom) {
  const Pairs a = LoadPairs(top), b = LoadPairs(bottom);
  const __m256 second = Beats(a.odd, a.even), of_two = _mm256_blendv_ps(a.even, a.odd, second);
  const __m256 third = Beats(b.even, of_two), of_three = _mm256_blendv_ps(of_two, b.even, third);
  const __m256 fourth = Beats(b.odd, of_three);
  const __m256 all = InOrder(_mm256_loadu_ps(dy));
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

void MaxPoolHalvesAvx2(const Window& w, const float* src, float* dst) {
  for (int64_t y = 0; y < w.out[1]; ++y, src += 2 * w.in[2], dst += w.out[2])
    HalveRows(src, src + w.in[2], w.out[2], dst);
}

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
template void MaxPoolPlaneAvx2(const Window&, const float*, float*, float*);

}  // namespace minim
