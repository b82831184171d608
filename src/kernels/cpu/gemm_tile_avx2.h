// rows x (panels * 16) accumulators of A * B, in registers.
#pragma once

#include <immintrin.h>

namespace minim {
namespace {

template <int rows, int panels>
struct Tile {
  static void Run(const TileArea& t) {
    __m256 sum[rows][panels * 2];
    for (int i = 0; i < rows; ++i) {
      for (int j = 0; j < panels * 2; ++j) sum[i][j] = _mm256_setzero_ps();
    }
    const float* a = t.a;
    const float* b = t.b;
    for (int64_t k = 0; k < t.k; ++k, a += t.a_column, b += t.b_row) {
#pragma GCC unroll 8
      for (int p = 0; p < panels; ++p) {
        const __m256 b0 = _mm256_loadu_ps(b + p * t.panel_stride);
        const __m256 b1 = _mm256_loadu_ps(b + p * t.panel_stride + 8);
#pragma GCC unroll 8
        for (int i = 0; i < rows; ++i) {
          const __m256 x = _mm256_broadcast_ss(a + i * t.a_row);
          sum[i][2 * p] = _mm256_fmadd_ps(x, b0, sum[i][2 * p]);
          sum[i][2 * p + 1] = _mm256_fmadd_ps(x, b1, sum[i][2 * p + 1]);
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
