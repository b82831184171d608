// rows x (panels * 16) accumulators of A * B, in plain loops that compilers vectorise.
#pragma once

namespace minim {
namespace {

template <int rows, int panels>
struct Tile {
  static void Run(const TileArea& t) {
    float sum[rows][panels * kPanel] = {};
    const float* a = t.a;
    const float* b = t.b;
    for (int64_t k = 0; k < t.k; ++k, a += t.a_column, b += t.b_row) {
      for (int i = 0; i < rows; ++i) {
        const float x = a[i * t.a_row];
        for (int p = 0; p < panels; ++p) {
          for (int j = 0; j < kPanel; ++j) sum[i][p * kPanel + j] += x * b[p * t.panel_stride + j];
        }
      }
    }
    for (int i = 0; i < rows; ++i) {
      float* c = t.c + i * t.c_row;
      for (int j = 0; j < panels * kPanel; ++j) c[j] = (t.accumulate ? c[j] : 0) + sum[i][j];
    }
  }
};

}  // namespace
}  // namespace minim
