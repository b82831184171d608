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

}  // namespace
}  // namespace minim
