// rows x (panels * 16) accumulators of A * B, in registers.
#pragma once

#include <immintrin.h>

namespace minim {
namespace {

// Of a tile: few loads for its sums, as what else runs on a core shares its ports.
constexpr int64_t kTilePanels = 4;
constexpr int64_t kMostTogether = 8;                                  // panels of one or two rows
constexpr int RowsOfTile(int panels) { return panels > 2 ? 6 : 12; }  // or sums wait for each other
constexpr int64_t kRowBlock = 48;                                     // rows of A kept in L2 ...
constexpr int64_t kDepthBlock = 384;                                  // ... by this depth, beside
constexpr int64_t kBlockFloats = 192 << 10;                           // of B

template <bool bf16>
inline __m512 LoadPanelRow(const TileArea& t, int64_t at) {
  if constexpr (bf16) {
    const __m256i words = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(t.bf16 + at));
    const __m256i mask = _mm256_set1_epi32(static_cast<int>(0xFFFF0000u));
    return _mm512_castsi512_ps(_mm512_inserti64x4(
        _mm512_castsi256_si512(_mm256_slli_epi32(words, 16)), _mm256_and_si256(words, mask), 1));
  } else {
    return _mm512_loadu_ps(t.b + at);
  }
}

template <int rows, int panels, bool bf16>
struct Tile {
  static void Run(const TileArea& t) {
    __m512 sum[rows][panels];
    for (int i = 0; i < rows; ++i) {
      for (int p = 0; p < panels; ++p) sum[i][p] = _mm512_setzero_ps();
    }
    // Two pointers, so that rows need no more than six registers.
    const float *a = t.a, *lower = t.a + 6 * t.a_row;
    for (int64_t k = 0, at = 0; k < t.k; ++k, a += t.a_column, lower += t.a_column, at += t.b_row) {
      __m512 b[panels];
#pragma GCC unroll 8
      for (int p = 0; p < panels; ++p) b[p] = LoadPanelRow<bf16>(t, at + t.At(p));
#pragma GCC unroll 12
      for (int i = 0; i < rows; ++i) {
        const __m512 x = _mm512_set1_ps(i < 6 ? a[i * t.a_row] : lower[(i - 6) * t.a_row]);
#pragma GCC unroll 8
        for (int p = 0; p < panels; ++p) sum[i][p] = _mm512_fmadd_ps(x, b[p], sum[i][p]);
      }
    }
    for (int i = 0; i < rows; ++i) {
      float* c = t.c + i * t.c_row;
      for (int p = 0; p < panels; ++p) {
        const __m512 old = t.accumulate ? _mm512_loadu_ps(c + 16 * p) : _mm512_setzero_ps();
        _mm512_storeu_ps(c + 16 * p, _mm512_add_ps(old, sum[i][p]));
      }
    }
  }
};

}  // namespace
}  // namespace minim
