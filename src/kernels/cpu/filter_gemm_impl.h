// The bodies of FilterLevel. Define MINIM_FILTER and MINIM_FILTER_NAME first.
#pragma once

#include <algorithm>

#include "kernels/cpu/filter_gemm.h"
#include "kernels/cpu/simd.h"

namespace minim {
namespace {

constexpr int64_t kRowBlock = 96;        // rows of A that stay in L2 ...
constexpr int64_t kDepthBlock = 320;     // ... by this depth; one panel of B is then 20 KiB of L1
constexpr int64_t kNarrow = kLanes / 2;  // columns better multiplied with rows across the vector

struct FilterTile {
  const float *a, *b;
  int64_t b_row, k;
  float* c;
  int64_t c_row;
  const float *bias, *residual;
  float low, high;
  bool accumulate, last;
};

// Adds one sum to c, or overwrites it, finishing it at the last depth.
inline void Put(const FilterTile& t, int64_t row, int64_t column, float y) {
  const int64_t at = row * t.c_row + column;
  if (t.accumulate) y += t.c[at];
  if (t.last) {
    if (t.bias) y += t.bias[row];
    if (t.residual) y += t.residual[at];
    y = t.low > y ? t.low : y;
    y = t.high < y ? t.high : y;
  }
  t.c[at] = y;
}

template <int rows, int vectors, typename F>
inline void ForEachVector(F&& f) {
#pragma GCC unroll 8
  for (int i = 0; i < rows; ++i) {
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v) f(i, v);
  }
}

// The same for a whole tile of sums, which stay in registers.
template <int rows, int vectors>
inline void PutTile(const FilterTile& t, Vec (&sum)[rows][vectors]) {
  if (t.accumulate) {
    ForEachVector<rows, vectors>(
        [&](int i, int v) { sum[i][v] = Load(t.c + i * t.c_row + v * kLanes) + sum[i][v]; });
  }
  if (t.last) {
    if (t.bias)
      ForEachVector<rows, vectors>(
          [&](int i, int v) { sum[i][v] = sum[i][v] + Broadcast(t.bias[i]); });
    if (t.residual) {
      ForEachVector<rows, vectors>([&](int i, int v) {
        sum[i][v] = sum[i][v] + Load(t.residual + i * t.c_row + v * kLanes);
      });
    }
    const Vec low = Broadcast(t.low), high = Broadcast(t.high);
    ForEachVector<rows, vectors>([&](int i, int v) { sum[i][v] = Min(high, Max(low, sum[i][v])); });
  }
  ForEachVector<rows, vectors>(
      [&](int i, int v) { Store(t.c + i * t.c_row + v * kLanes, sum[i][v]); });
}

template <int rows, int vectors>
[[gnu::noinline]] void Tile(const FilterTile& t, int64_t columns) {
  Vec sum[rows][vectors] = {};
  const float *a = t.a, *b = t.b;
  for (int64_t k = 0; k < t.k; ++k, a += rows, b += t.b_row) {
    Vec x[vectors];
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v) x[v] = Load(b + v * kLanes);
    ForEachVector<rows, vectors>(
        [&](int i, int v) { sum[i][v] = MulAdd(Broadcast(a[i]), x[v], sum[i][v]); });
  }
  if (columns >= vectors * kLanes) return PutTile<rows, vectors>(t, sum);
  float sums[rows][vectors * kLanes];
  ForEachVector<rows, vectors>([&](int i, int v) { Store(&sums[i][v * kLanes], sum[i][v]); });
  for (int i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < columns; ++j) Put(t, i, j, sums[i][j]);
  }
}

// Few columns: the rows of A lie across the vector; two sums hide the latency of the additions.
template <int rows, int columns>
[[gnu::noinline]] void NarrowTile(const FilterTile& t) {
  Vec sum[2][columns] = {};
  const float *a = t.a, *b = t.b;
  int64_t k = 0;
  for (; k + 2 <= t.k; k += 2, a += 2 * rows, b += 2 * t.b_row) {
#pragma GCC unroll 2
    for (int u = 0; u < 2; ++u) {
      const Vec w = Load(a + u * rows);
#pragma GCC unroll 4
      for (int j = 0; j < columns; ++j)
        sum[u][j] = MulAdd(w, Broadcast(b[u * t.b_row + j]), sum[u][j]);
    }
  }
  if (k < t.k) {
#pragma GCC unroll 4
    for (int j = 0; j < columns; ++j) sum[0][j] = MulAdd(Load(a), Broadcast(b[j]), sum[0][j]);
  }
#pragma GCC unroll 4
  for (int j = 0; j < columns; ++j) {
    float sums[kLanes];
    Store(sums, sum[0][j] + sum[1][j]);
    for (int i = 0; i < rows; ++i) Put(t, i, j, sums[i]);
  }
}

template <int rows>
void RunNarrow(const FilterTile& t, int64_t columns) {
  switch (columns) {
    case 1: return NarrowTile<rows, 1>(t);
    case 2: return NarrowTile<rows, 2>(t);
    case 3: return NarrowTile<rows, 3>(t);
    default: return NarrowTile<rows, 4>(t);
  }
}

template <int rows>
void RunPanel(const FilterTile& whole, int64_t columns) {
  if constexpr (kLanes >= 8) {
    if (columns <= kNarrow) return RunNarrow<rows>(whole, columns);
  }
  if constexpr (2 * kLanes >= kPanel)
    return columns > kLanes ? Tile<rows, 2>(whole, columns) : Tile<rows, 1>(whole, columns);
  FilterTile t = whole;
  for (int64_t left = columns; left > 0; left -= 2 * kLanes) {
    left > kLanes ? Tile<rows, 2>(t, left) : Tile<rows, 1>(t, left);
    t.b += 2 * kLanes;
    t.c += 2 * kLanes;
    if (t.residual) t.residual += 2 * kLanes;
  }
}

void RunRows(const FilterTile& t, int64_t rows, int64_t columns) {
  switch (rows) {
    case 1: return RunPanel<1>(t, columns);
    case 2: return RunPanel<2>(t, columns);
    case 3: return RunPanel<3>(t, columns);
    case 4: return RunPanel<4>(t, columns);
    case 5: return RunPanel<5>(t, columns);
    default: return RunPanel<6>(t, columns);
  }
}

struct FilterBlock {
  int64_t row, rows, depth, k;
};

void MultiplyBlock(const FilterGemm& g, const FilterBlock& block) {
  for (int64_t p = 0; p < PanelsOf(g.n); ++p) {
    const int64_t columns = std::min(kPanel, g.n - p * kPanel);
    for (int64_t row = block.row; row < block.row + block.rows;) {
      const int64_t rows = TileRows(g.m - row), at = row * g.c_row + p * kPanel;
      const FilterTile tile{.a = g.a + row * g.k + block.depth * rows,
                            .b = g.b + p * g.b_panel + block.depth * g.b_row,
                            .b_row = g.b_row,
                            .k = block.k,
                            .c = g.c + at,
                            .c_row = g.c_row,
                            .bias = g.bias ? g.bias + row : nullptr,
                            .residual = g.residual ? g.residual + at : nullptr,
                            .low = g.low,
                            .high = g.high,
                            .accumulate = block.depth > 0,
                            .last = block.depth + block.k == g.k};
      RunRows(tile, rows, columns);
      row += rows;
    }
  }
}

// Rows of the block at `row`: whole tiles, none left over.
int64_t BlockRows(int64_t left) { return left < kRowBlock + 12 ? left : kRowBlock; }

void MultiplyFilters(const FilterGemm& g) {
  const int64_t depths = std::max<int64_t>(1, (g.k + kDepthBlock - 1) / kDepthBlock);
  for (int64_t row = 0; row < g.m;) {
    const int64_t rows = BlockRows(g.m - row);
    for (int64_t d = 0; d < depths; ++d) {
      const int64_t first = g.k * d / depths, last = g.k * (d + 1) / depths;
      MultiplyBlock(g, {row, rows, first, last - first});
    }
    row += rows;
  }
}

inline void CopyPanelRow(const float* src, float* dst) {
#pragma GCC unroll 4
  for (int64_t i = 0; i < kPanel; i += kLanes) Store(dst + i, Load(src + i));
}

// Each cut is copied with 16 floats; what is too much is overwritten by the next. `fixed`: the
// number of cuts, or 0 for any.
template <int fixed>
void PackCuts(const StagedPanel& panel, float* packed) {
  const StagedPanel p = panel;
  const float* stage = p.stage;
  for (int64_t c = 0; c < p.channels; ++c, stage += p.plane) {
    for (int64_t t = 0; t < p.tap_count; ++t, packed += kPanel) {
      const float* src = stage + p.taps[t];
      const int64_t cuts = fixed > 0 ? fixed : p.cuts;
#pragma GCC unroll 2
      for (int64_t i = 0; i < cuts; ++i) CopyPanelRow(src + p.from[i], packed + p.lane[i]);
    }
  }
}

void PackStaged(const StagedPanel& panel, float* packed) {
  if (panel.cuts == 1) return PackCuts<1>(panel, packed);
  panel.cuts == 2 ? PackCuts<2>(panel, packed) : PackCuts<0>(panel, packed);
}

}  // namespace

const FilterLevel& MINIM_FILTER() {
  static constexpr FilterLevel kLevel = {MINIM_FILTER_NAME, MultiplyFilters, PackStaged};
  return kLevel;
}

}  // namespace minim
