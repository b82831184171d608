// rows x (panels * 16) accumulators of A * B, in registers.
#pragma once

#include <immintrin.h>

namespace minim {
namespace {

constexpr int64_t kTilePanels = 1;
constexpr int64_t kMostTogether = 4;  // panels of one or two rows
constexpr int RowsOfTile(int) { return 6; }
constexpr int64_t kRowBlock = 96;     // rows of A kept in L2 ...
constexpr int64_t kDepthBlock = 384;  // ... by this depth; a panel of B is 24 KiB of L1
constexpr int64_t kBlockFloats = std::numeric_limits<int64_t>::max();  // of B

struct PanelRow {
  __m256 low, high;  // columns 0 to 7, 8 to 15
};

template <bool bf16>
inline PanelRow LoadPanelRow(const TileArea& t, int64_t at) {
  if constexpr (bf16) {
    const __m256i words = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(t.bf16 + at));
    const __m256i mask = _mm256_set1_epi32(static_cast<int>(0xFFFF0000u));
    return {_mm256_castsi256_ps(_mm256_slli_epi32(words, 16)),
            _mm256_castsi256_ps(_mm256_and_si256(words, mask))};
  } else {
    return {_mm256_loadu_ps(t.b + at), _mm256_loadu_ps(t.b + at + 8)};
  }
}

template <int rows, int panels, bool bf16>
struct Tile {
  static void Run(const TileArea& t) {
    __m256 sum[rows][panels * 2];
    for (int i = 0; i < rows; ++i) {
      for (int j = 0; j < panels * 2; ++j) sum[i][j] = _mm256_setzero_ps();
    }
    const float* a = t.a;
    for (int64_t k = 0, at = 0; k < t.k; ++k, a += t.a_column, at += t.b_row) {
#pragma GCC unroll 8
      for (int p = 0; p < panels; ++p) {
        const PanelRow b = LoadPanelRow<bf16>(t, at + t.At(p));
#pragma GCC unroll 8
        for (int i = 0; i < rows; ++i) {
          const __m256 x = _mm256_broadcast_ss(a + i * t.a_row);
          sum[i][2 * p] = _mm256_fmadd_ps(x, b.low, sum[i][2 * p]);
          sum[i][2 * p + 1] = _mm256_fmadd_ps(x, b.high, sum[i][2 * p + 1]);
        }
      }
    }
    for (int i = 0; i < rows; ++i) {
      float* c = t.c + i * t.c_row;
      for (int j = 0; j < panels * 2; ++j) {
        const __m256 old = t.accumulate ? _mm256_loadu_ps(c + 8 * j) : _mm256_setzero_ps();
        _mm256_storeu_ps(c + 8 * j, _mm256_add_ps(old, sum[i][j]));
      }
    }
  }
};

}  // namespace
}  // namespace minim
