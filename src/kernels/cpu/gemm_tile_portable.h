// rows x (panels * 16) accumulators of A * B, eight columns at a time in the 16-byte vectors that
// every supported CPU has.
#pragma once

namespace minim {
namespace {

constexpr int64_t kTilePanels = 1;
constexpr int64_t kMostTogether = 4;  // panels of one or two rows
constexpr int RowsOfTile(int) { return 6; }
constexpr int64_t kRowBlock = 96;     // rows of A kept in L2 ...
constexpr int64_t kDepthBlock = 384;  // ... by this depth; a panel of B is 24 KiB of L1
constexpr int64_t kBlockFloats = std::numeric_limits<int64_t>::max();  // of B

using Float4 = float __attribute__((vector_size(16)));
using Word4 = uint32_t __attribute__((vector_size(16)));

template <typename V, typename T>
inline V LoadFour(const T* src) {
  V value;
  __builtin_memcpy(&value, src, sizeof(value));
  return value;
}

// Four of the columns of one half (0 to 7 or 8 to 15) of a panel's row.
template <bool bf16>
inline Float4 LoadColumns(const TileArea& t, int64_t at, int half, int four) {
  if constexpr (bf16) {
    const Word4 words = LoadFour<Word4>(t.bf16 + at + 8 * four);
    return std::bit_cast<Float4>(half == 0 ? words << 16 : words & 0xFFFF0000u);
  } else {
    return LoadFour<Float4>(t.b + at + 8 * half + 4 * four);
  }
}

template <int rows, bool bf16>
void RunEight(const TileArea& t, int64_t at, int half, float* c) {
  Float4 sum[rows][2] = {};
  const float* a = t.a;
  for (int64_t k = 0; k < t.k; ++k, a += t.a_column, at += t.b_row) {
    const Float4 b0 = LoadColumns<bf16>(t, at, half, 0), b1 = LoadColumns<bf16>(t, at, half, 1);
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
      const Float4 value = t.accumulate ? LoadFour<Float4>(c + 4 * j) + sum[i][j] : sum[i][j];
      __builtin_memcpy(c + 4 * j, &value, sizeof(value));
    }
  }
}

template <int rows, int panels, bool bf16>
struct Tile {
  static void Run(const TileArea& t) {
    for (int j = 0; j < panels * 2; ++j) RunEight<rows, bf16>(t, t.At(j / 2), j % 2, t.c + 8 * j);
  }
};

}  // namespace
}  // namespace minim
