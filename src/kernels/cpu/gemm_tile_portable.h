// rows x (panels * 16) accumulators of A * B, eight columns at a time in the 16-byte vectors that
// every supported CPU has.
#pragma once

namespace minim {
namespace {

using Float4 = float __attribute__((vector_size(16)));

inline Float4 Load4(const float* src) {
  Float4 value;
  __builtin_memcpy(&value, src, sizeof(value));
  return value;
}

template <int rows>
void RunEight(const TileArea& t, const float* b, float* c) {
  Float4 sum[rows][2] = {};
  const float* a = t.a;
  for (int64_t k = 0; k < t.k; ++k, a += t.a_column, b += t.b_row) {
    const Float4 b0 = Load4(b), b1 = Load4(b + 4);
#pragma GCC unroll 8
    for (int i = 0; i < rows; ++i) {
      const float x = a[i * t.a_row];
      const Float4 xs = {x, x, x, x};
      sum[i][0] += xs * b0;
      sum[i][1] += xs * b1;
    }
  }
  for (int i = 0; i < rows; ++i, c += t.c_row) {
    for (int j = 0; j < 2; ++j) {
      const Float4 value = t.accumulate ? Load4(c + 4 * j) + sum[i][j] : sum[i][j];
      __builtin_memcpy(c + 4 * j, &value, sizeof(value));
    }
  }
}

template <int rows, int panels>
struct Tile {
  static void Run(const TileArea& t) {
    for (int j = 0; j < panels * 2; ++j)
      RunEight<rows>(t, t.b + j / 2 * t.panel_stride + j % 2 * 8, t.c + 8 * j);
  }
};

}  // namespace
}  // namespace minim
