// The bodies of FilterLevel. Define MINIM_FILTER and MINIM_FILTER_NAME first.
#pragma once

#include <algorithm>

#include "kernels/cpu/filter_gemm.h"
#include "kernels/cpu/simd.h"

namespace minim {
namespace {

// A tile spans one panel of B, or four where a vector holds a whole one: few loads for its sums.
constexpr int64_t kTilePanels = kLanes == kPanel ? 4 : 1;
constexpr int64_t kRowBlock = 96;     // rows of A that stay in L2 ...
constexpr int64_t kDepthBlock = 320;  // ... by this depth; a panel of B is 20 KiB
constexpr int64_t kNarrow = 4;        // columns better multiplied with rows across the vector

struct FilterTile {
  const float* a;
  int64_t a_tile;  // from one tile of A to the next
  const float* b;
  int64_t b_row, b_panel, k;
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
#pragma GCC unroll 12
  for (int i = 0; i < rows; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) f(i, v);
  }
}

inline Vec LoadUpTo(const float* src, int64_t count) {
  return count >= kLanes ? Load(src) : LoadFirst(src, count);
}
inline void StoreUpTo(float* dst, Vec value, int64_t count) {
  count >= kLanes ? Store(dst, value) : StoreFirst(dst, value, count);
}

// The same for the sums of a tile, which stay in registers. `whole`: all columns, or the last
// vector has but some.
template <bool whole, int rows, int vectors>
inline void PutTile(const FilterTile& t, Vec (&sum)[rows][vectors], int64_t columns) {
  const int64_t last = whole ? kLanes : columns - (vectors - 1) * kLanes;
  const auto load = [&](const float* src, int v) {
    return whole || v + 1 < vectors ? Load(src) : LoadUpTo(src, last);
  };
  if (t.accumulate) {
    ForEachVector<rows, vectors>(
        [&](int i, int v) { sum[i][v] = load(t.c + i * t.c_row + v * kLanes, v) + sum[i][v]; });
  }
  if (t.last) {
    if (t.bias)
      ForEachVector<rows, vectors>(
          [&](int i, int v) { sum[i][v] = sum[i][v] + Broadcast(t.bias[i]); });
    if (t.residual) {
      ForEachVector<rows, vectors>([&](int i, int v) {
        sum[i][v] = sum[i][v] + load(t.residual + i * t.c_row + v * kLanes, v);
      });
    }
    const Vec low = Broadcast(t.low), high = Broadcast(t.high);
    ForEachVector<rows, vectors>([&](int i, int v) { sum[i][v] = Min(high, Max(low, sum[i][v])); });
  }
  ForEachVector<rows, vectors>([&](int i, int v) {
    float* dst = t.c + i * t.c_row + v * kLanes;
    whole || v + 1 < vectors ? Store(dst, sum[i][v]) : StoreUpTo(dst, sum[i][v], last);
  });
}

// `tiles`: of A, one after another.
template <int rows, int vectors, int tiles = 1>
[[gnu::noinline]] void Tile(const FilterTile& t, int64_t columns) {
  constexpr int kOfPanel = kPanel / kLanes, kTileRows = rows / tiles;
  Vec sum[rows][vectors] = {};
  if (t.residual && t.last) {  // its rows are too short for a cache to see them coming
    ForEachVector<rows, vectors>(
        [&](int i, int v) { __builtin_prefetch(t.residual + i * t.c_row + v * kLanes); });
  }
  const float *a = t.a, *next = t.a + t.a_tile, *b = t.b;
  for (int64_t k = 0; k < t.k; ++k, a += kTileRows, next += kTileRows, b += t.b_row) {
    Vec x[vectors];
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v)
      x[v] = Load(b + v / kOfPanel * t.b_panel + v % kOfPanel * kLanes);
    ForEachVector<rows, vectors>([&](int i, int v) {
      const float w = i < kTileRows ? a[i] : next[i - kTileRows];
      sum[i][v] = MulAdd(Broadcast(w), x[v], sum[i][v]);
    });
  }
  if (columns >= vectors * kLanes) return PutTile<true>(t, sum, columns);
  // Vectors of a part are quick where there are masks.
  if constexpr (kTilePanels > 1) return PutTile<false>(t, sum, columns);
  float sums[rows][vectors * kLanes];
  ForEachVector<rows, vectors>([&](int i, int v) { Store(&sums[i][v * kLanes], sum[i][v]); });
  for (int i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < columns; ++j) Put(t, i, j, sums[i][j]);
  }
}

// One step of a tile of A, whatever the lanes past its rows are.
template <int rows>
inline Vec LoadRow(const float* a) {
  return kLanes == kPanel ? LoadFirst(a, rows) : Load(a);
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
      const Vec w = LoadRow<rows>(a + u * rows);
#pragma GCC unroll 4
      for (int j = 0; j < columns; ++j)
        sum[u][j] = MulAdd(w, Broadcast(b[u * t.b_row + j]), sum[u][j]);
    }
  }
  if (k < t.k) {
#pragma GCC unroll 4
    for (int j = 0; j < columns; ++j)
      sum[0][j] = MulAdd(LoadRow<rows>(a), Broadcast(b[j]), sum[0][j]);
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

// Of a tile's columns, as many vectors as they fill.
template <int rows, int most = kTilePanels * kPanel / kLanes>
void RunVectors(const FilterTile& t, int64_t columns) {
  if constexpr (most > 1)
    if (columns <= (most - 1) * kLanes) return RunVectors<rows, most - 1>(t, columns);
  Tile<rows, most>(t, columns);
}

template <int rows>
void RunPanels(const FilterTile& whole, int64_t columns) {
  if constexpr (kLanes >= 8) {
    if (columns <= kNarrow) return RunNarrow<rows>(whole, columns);
    return RunVectors<rows>(whole, columns);
  }
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
    case 1: return RunPanels<1>(t, columns);
    case 2: return RunPanels<2>(t, columns);
    case 3: return RunPanels<3>(t, columns);
    case 4: return RunPanels<4>(t, columns);
    case 5: return RunPanels<5>(t, columns);
    default: return RunPanels<6>(t, columns);
  }
}

struct FilterBlock {
  int64_t row, rows, depth, k;
};

// Columns of a tile if `left` are left: a few past whole panels are for the next.
int64_t TileColumns(int64_t left) {
  const int64_t rest = left % kPanel;
  if (left > kTilePanels * kPanel) return kTilePanels * kPanel;
  return left > kPanel && rest > 0 && rest <= kNarrow ? left - rest : left;
}

// Whether the tile of A at `row` and the one after it are to be taken at once: where a tile has
// few vectors, its sums would wait for each other.
bool TwoTiles(const FilterGemm& g, int64_t row, int64_t end, int64_t columns) {
  return kTilePanels > 1 && columns > kNarrow && columns <= 2 * kLanes && row + 12 <= end &&
         TileRows(g.m - row) == 6 && TileRows(g.m - row - 6) == 6;
}

void MultiplyBlock(const FilterGemm& g, const FilterBlock& block) {
  for (int64_t column = 0, columns = 0; column < g.n; column += columns) {
    columns = TileColumns(g.n - column);
    const int64_t end = block.row + block.rows;
    for (int64_t row = block.row, rows = 0; row < end; row += rows) {
      rows = TileRows(g.m - row);
      const int64_t at = row * g.c_row + column;
      const FilterTile tile{.a = g.a + row * g.k + block.depth * rows,
                            .a_tile = rows * g.k,
                            .b = g.b + column / kPanel * g.b_panel + block.depth * g.b_row,
                            .b_row = g.b_row,
                            .b_panel = g.b_panel,
                            .k = block.k,
                            .c = g.c + at,
                            .c_row = g.c_row,
                            .bias = g.bias ? g.bias + row : nullptr,
                            .residual = g.residual ? g.residual + at : nullptr,
                            .low = g.low,
                            .high = g.high,
                            .accumulate = block.depth > 0,
                            .last = block.depth + block.k == g.k};
      if (TwoTiles(g, row, end, columns)) {
        columns > kLanes ? Tile<12, 2, 2>(tile, columns) : Tile<12, 1, 2>(tile, columns);
        rows = 12;
      } else {
        RunRows(tile, rows, columns);
      }
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
