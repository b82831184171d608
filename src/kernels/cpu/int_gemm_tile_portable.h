// rows x 16 integer sums in plain loops. Sums wrap, as the vector forms do.
#pragma once

namespace minim {
namespace {

constexpr std::string_view kTile = "4x16";
constexpr double kWordsPerThread = 100e3;
constexpr int64_t kTilePanels = 1, kDepthBlock = 384;  // 24 KiB of one panel
constexpr bool kMasksColumns = false, kSignedQuads = true;
constexpr int32_t (*kPlaceRow)(const void* src, uint8_t flip, int64_t k, void* dst) = nullptr;

/// Adds `dot`(word of A, word of B) of every step to a tile of sums.
template <int rows, typename Word, typename F>
void RunTile(const IntTileArea& t, F&& dot) {
  uint32_t sum[rows][kPanel];
  for (int i = 0; i < rows; ++i) {
    for (int j = 0; j < kPanel; ++j) {
      const auto row = static_cast<uint32_t>(t.row_start ? t.row_start[i] : 0);
      const auto column = static_cast<uint32_t>(t.column_start ? t.column_start[j] : 0);
      sum[i][j] = t.accumulate ? static_cast<uint32_t>(t.c[i * t.c_row + j]) : row + column;
    }
  }
  const auto* a = static_cast<const Word*>(t.a);
  const auto* b = static_cast<const uint32_t*>(t.b);
  for (int64_t k = 0; k < t.depth; ++k, a += rows, b += kPanel)
    for (int i = 0; i < rows; ++i)
      for (int j = 0; j < kPanel; ++j) sum[i][j] += static_cast<uint32_t>(dot(a[i], b[j]));
  for (int i = 0; i < rows; ++i)
    for (int j = 0; j < kPanel; ++j) t.c[i * t.c_row + j] = static_cast<int32_t>(sum[i][j]);
}

template <int rows, int panels>
struct PairTile {
  static void Run(const IntTileArea& t) {
    RunTile<rows, uint32_t>(t, [](uint32_t x, uint32_t y) {
      const auto low = [](uint32_t word) { return static_cast<int16_t>(word); };
      return low(x) * low(y) + low(x >> 16) * low(y >> 16);
    });
  }
};

template <int rows, int panels>
struct ByteTile {
  static void Run(const IntTileArea& t) {
    RunTile<rows, SignedQuad>(t, [](const SignedQuad& x, uint32_t word) {
      const uint32_t y = word ^ x.signs;
      int32_t sum = 0;
      for (int i = 0; i < 32; i += 8)
        sum += static_cast<uint8_t>(x.magnitudes >> i) * static_cast<int8_t>(y >> i);
      return sum;
    });
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
