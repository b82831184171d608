// rows x 16 integer sums in plain loops. Sums wrap, as the vector forms do.
#pragma once

namespace minim {
namespace {

template <int rows>
struct IntTile {
  static void Run(const IntTileArea& t) {
    uint32_t sum[rows][kPanel] = {};
    const int16_t* a = t.a;
    const int16_t* b = t.b;
    for (int64_t k = 0; k < t.pairs; ++k, a += 2, b += 2 * kPanel) {
      for (int i = 0; i < rows; ++i) {
        const int32_t x0 = a[i * t.a_row], x1 = a[i * t.a_row + 1];
        for (int j = 0; j < kPanel; ++j)
          sum[i][j] += static_cast<uint32_t>(x0 * b[2 * j] + x1 * b[2 * j + 1]);
      }
    }
    for (int i = 0; i < rows; ++i) {
      int32_t* c = t.c + i * t.c_row;
      for (int j = 0; j < kPanel; ++j)
        c[j] = static_cast<int32_t>((t.accumulate ? static_cast<uint32_t>(c[j]) : 0) + sum[i][j]);
    }
  }
};

template <int panels>
struct IntRow {
  static void Run(const IntRowArgs& t) {
    int32_t sum[panels * kPanel] = {};
    for (int p = 0; p < panels; ++p) {
      for (int64_t k = 0; k < t.quads; ++k) {
        const int8_t* b = t.packed + (p * t.quads + k) * kPanel * 4;
        for (int64_t j = 0; j < kPanel * 4; ++j)
          sum[p * kPanel + j / 4] += t.a[4 * k + j % 4] * b[j];
      }
    }
    std::copy_n(sum, panels * kPanel, t.c);
  }
};

}  // namespace
}  // namespace minim
