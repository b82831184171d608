// rows x 16 integer sums in registers: vpmaddwd multiplies a broadcast pair by 8 pairs at once.
#pragma once

#include <immintrin.h>

namespace minim {
namespace {

template <int rows>
struct IntTile {
  static void Run(const IntTileArea& t) {
    __m256i sum[rows][2];
    for (int i = 0; i < rows; ++i) sum[i][0] = sum[i][1] = _mm256_setzero_si256();
    const int16_t* a = t.a;
    const int16_t* b = t.b;
    for (int64_t k = 0; k < t.pairs; ++k, a += 2, b += 2 * kPanel) {
      const __m256i b0 = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(b));
      const __m256i b1 = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(b + kPanel));
#pragma GCC unroll 8
      for (int i = 0; i < rows; ++i) {
        const __m256i x = _mm256_broadcastd_epi32(_mm_loadu_si32(a + i * t.a_row));
        sum[i][0] = _mm256_add_epi32(sum[i][0], _mm256_madd_epi16(x, b0));
        sum[i][1] = _mm256_add_epi32(sum[i][1], _mm256_madd_epi16(x, b1));
      }
    }
    for (int i = 0; i < rows; ++i) {
      auto* c = reinterpret_cast<__m256i*>(t.c + i * t.c_row);
      for (int j = 0; j < 2; ++j) {
        const __m256i old = t.accumulate ? _mm256_loadu_si256(c + j) : _mm256_setzero_si256();
        _mm256_storeu_si256(c + j, _mm256_add_epi32(old, sum[i][j]));
      }
    }
  }
};

// One row by panels of bytes. vpmaddubsw takes one unsigned operand, the magnitude of a; the sign
// goes to b as ~b = -b - 1, which a's negative magnitudes make up for once for all columns.
// |a||b| + |a||b| <= 2 * 127 * 128 fits 16 bits.
template <int panels>
struct IntRow {
  static int32_t NegativeMagnitudes(const int8_t* a, int64_t n) {
    __m256i sum = _mm256_setzero_si256();
    const __m256i zero = _mm256_setzero_si256();
    for (int64_t i = 0; i < n; i += 32) {
      const __m256i x = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(a + i));
      const __m256i negative = _mm256_max_epi8(_mm256_sub_epi8(zero, x), zero);
      sum = _mm256_add_epi64(sum, _mm256_sad_epu8(negative, zero));
    }
    const __m128i half =
        _mm_add_epi64(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
    return _mm_cvtsi128_si32(_mm_add_epi64(half, _mm_unpackhi_epi64(half, half)));
  }

  static void Run(const IntRowArgs& t) {
    __m256i sum[panels * 2];
    const __m256i ones = _mm256_set1_epi16(1), zero = _mm256_setzero_si256();
    for (__m256i& s : sum) s = _mm256_set1_epi32(NegativeMagnitudes(t.a, t.quads * 4));
    for (int64_t k = 0; k < t.quads; ++k) {
      const __m256i a = _mm256_broadcastd_epi32(_mm_loadu_si32(t.a + 4 * k));
      const __m256i magnitude = _mm256_abs_epi8(a), sign = _mm256_cmpgt_epi8(zero, a);
#pragma GCC unroll 8
      for (int j = 0; j < panels * 2; ++j) {
        const int8_t* b = t.packed + ((j / 2 * t.quads + k) * 2 + j % 2) * 32;
        const __m256i row = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(b));
        const __m256i pairs = _mm256_maddubs_epi16(magnitude, _mm256_xor_si256(row, sign));
        sum[j] = _mm256_add_epi32(sum[j], _mm256_madd_epi16(pairs, ones));
      }
    }
    for (int j = 0; j < panels * 2; ++j)
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(t.c) + j, sum[j]);
  }
};

}  // namespace
}  // namespace minim
