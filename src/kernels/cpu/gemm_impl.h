// The matrix product of one level. The including file defines Tile<rows, panels>::Run first and
// MINIM_GEMM / MINIM_GEMM_NAME.
#pragma once

#include <algorithm>

#include "kernels/cpu/elementwise_functions.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/square.h"

namespace minim {
namespace {

inline float Activate(const Activation& act, float x) {
  switch (act.kind) {
    case Activation::kRelu: return x < 0 ? 0 : x;
    case Activation::kLeakyRelu: return x < 0 ? act.a * x : x;
    case Activation::kClip: return x < act.a ? act.a : (x > act.b ? act.b : x);
    case Activation::kSigmoid: return 1.0f / (1.0f + ExpF(-x));
    case Activation::kTanh: return TanhF(x);
    case Activation::kHardSigmoid: {
      const float y = act.a * x + act.b;
      return y < 0 ? 0 : (y > 1 ? 1 : y);
    }
    case Activation::kElu: return x < 0 ? act.a * Expm1F(x) : x;
    default: return x;
  }
}

template <Activation::Kind kind>
void ActivateRow(const Activation& act, float* y, int64_t n) {
  const Activation fixed{kind, act.a, act.b};
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) y[i] = Activate(fixed, y[i]);
}

void ActivateRow(const Activation& act, float* y, int64_t n) {
  switch (act.kind) {
    case Activation::kNone: return;
    case Activation::kRelu: return ActivateRow<Activation::kRelu>(act, y, n);
    case Activation::kLeakyRelu: return ActivateRow<Activation::kLeakyRelu>(act, y, n);
    case Activation::kClip: return ActivateRow<Activation::kClip>(act, y, n);
    case Activation::kSigmoid: return ActivateRow<Activation::kSigmoid>(act, y, n);
    case Activation::kTanh: return ActivateRow<Activation::kTanh>(act, y, n);
    case Activation::kHardSigmoid: return ActivateRow<Activation::kHardSigmoid>(act, y, n);
    case Activation::kElu: return ActivateRow<Activation::kElu>(act, y, n);
  }
}

void FinishRow(const Epilogue& e, int64_t row, int64_t n, float* y) {
  const float alpha = e.alpha, beta = e.beta;
  const float row_bias = e.row_bias ? beta * e.row_bias[row] : 0.0f;
  if (alpha != 1 || row_bias != 0) {
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) y[i] = alpha * y[i] + row_bias;
  }
  if (e.column_bias) {
    const float* bias = e.column_bias;
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) y[i] += beta * bias[i];
  }
  if (e.residual) {
    const float* residual = e.residual + row * e.residual_stride;
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) y[i] += beta * residual[i];
  }
  ActivateRow(e.activation, y, n);
}

void Finish(const Epilogue& e, int64_t rows, int64_t columns, float* c, int64_t c_row) {
  if (e.empty()) return;
  for (int64_t row = 0; row < rows; ++row) FinishRow(e, row, columns, c + row * c_row);
}

struct TileArea {
  const float* a;
  int64_t a_row, a_column;
  const float* b;
  const uint16_t* bf16;  // instead of b
  int64_t b_row, panel_stride, k;
  float* c;
  int64_t c_row;
  bool accumulate;
};

template <int rows, int panels, bool bf16>
struct Tile;

}  // namespace
}  // namespace minim

#include MINIM_GEMM_TILE

namespace minim {
namespace {

constexpr int64_t kRowBlock = 96;                   // rows of A kept in L2 ...
constexpr int64_t kDepthBlock = 384 / kTilePanels;  // ... by this depth; B's is 24 KiB

// A tile whose last panel has fewer than 16 columns goes through a buffer.
template <int rows, int panels, bool bf16>
void RunTile(const TileArea& area, int64_t columns) {
  if (columns == panels * kPanel) return Tile<rows, panels, bf16>::Run(area);
  alignas(64) float buffer[rows * panels * kPanel];
  TileArea edge = area;
  edge.c = buffer;
  edge.c_row = panels * kPanel;
  edge.accumulate = false;
  Tile<rows, panels, bf16>::Run(edge);
  for (int i = 0; i < rows; ++i) {
    float* c = area.c + i * area.c_row;
    const float* from = buffer + i * edge.c_row;
    if (area.accumulate) {
      for (int64_t j = 0; j < columns; ++j) c[j] += from[j];
    } else {
      for (int64_t j = 0; j < columns; ++j) c[j] = from[j];
    }
  }
}

template <int panels, bool bf16>
void RunRows(const TileArea& area, int64_t rows, int64_t columns) {
  switch (rows) {
    case 1: return RunTile<1, panels, bf16>(area, columns);
    case 2: return RunTile<2, panels, bf16>(area, columns);
    case 3: return RunTile<3, panels, bf16>(area, columns);
    case 4: return RunTile<4, panels, bf16>(area, columns);
    case 5: return RunTile<5, panels, bf16>(area, columns);
    case 6: return RunTile<6, panels, bf16>(area, columns);
    default: break;
  }
  if constexpr (kTileRows == 12) {
    switch (rows) {
      case 7: return RunTile<7, panels, bf16>(area, columns);
      case 8: return RunTile<8, panels, bf16>(area, columns);
      case 9: return RunTile<9, panels, bf16>(area, columns);
      case 10: return RunTile<10, panels, bf16>(area, columns);
      case 11: return RunTile<11, panels, bf16>(area, columns);
      default: return RunTile<12, panels, bf16>(area, columns);
    }
  }
}

// Tiles of nearly equal height: a last tile of one or two rows would wait for its own sums.
template <int panels, bool bf16>
void RunTiles(const TileArea& area, int64_t rows, int64_t columns) {
  const int64_t tiles = (rows + kTileRows - 1) / kTileRows;
  for (int64_t i = 0; i < tiles; ++i) {
    const int64_t first = rows * i / tiles;
    TileArea tile = area;
    tile.a += first * area.a_row;
    tile.c += first * area.c_row;
    RunRows<panels, bf16>(tile, rows * (i + 1) / tiles - first, columns);
  }
}

// One or two rows need several panels at once, or their few sums wait for each other.
template <int rows, bool bf16, int panels = kMostTogether>
void RunWide(const TileArea& area, int64_t together, int64_t columns) {
  if constexpr (panels > 2)
    if (together < panels) return RunWide<rows, bf16, panels - 1>(area, together, columns);
  RunTile<rows, panels, bf16>(area, columns);
}

// The last, narrow panel of an unpacked B, copied so that tiles may read 16 columns.
void CopyNarrow(const float* b, int64_t b_row, int64_t k, int64_t columns, float* dst) {
  for (int64_t i = 0; i < k; ++i) {
    for (int64_t j = 0; j < kPanel; ++j) dst[i * kPanel + j] = j < columns ? b[i * b_row + j] : 0;
  }
}

struct Block {
  int64_t row, rows, depth, k;
  bool accumulate, last;
};

// Steps of a transposed A this far apart meet in few lines of a cache, so a block of it is copied
// first, as rows of `rows`.
constexpr int64_t kFarSteps = 128;

void CopyTransposed(const GemmArgs& args, const Block& block, float* dst) {
  const float* src = args.a + block.row + block.depth * args.a_column;
  for (int64_t k = 0; k < block.k; ++k, src += args.a_column, dst += block.rows)
    std::memcpy(dst, src, block.rows * sizeof(float));
}

template <bool bf16>
void MultiplyPanels(const GemmArgs& args, const Block& block) {
  alignas(64) float narrow[kDepthBlock * kPanel];
  alignas(64) float turned[kRowBlock * kDepthBlock];
  const float* a = args.a + block.row * args.a_row + block.depth * args.a_column;
  int64_t a_column = args.a_column;
  if (args.a_row == 1 && block.rows > 2 && a_column >= kFarSteps) {
    CopyTransposed(args, block, turned);
    a = turned;
    a_column = block.rows;
  }
  const int64_t stride = args.panel_stride ? args.panel_stride : args.k * kPanel;
  const int64_t panels = PanelsOf(args.n);
  for (int64_t p = 0; p < panels;) {
    const int64_t column = p * kPanel;
    const bool packed = bf16 || args.packed != nullptr;
    const int64_t most = block.rows <= 2 ? kMostTogether : kTilePanels;
    const int64_t together = packed ? std::min(most, panels - p) : 1;
    const int64_t columns = std::min(args.n - column, together * kPanel);
    TileArea area{a,          args.a_row,      a_column,
                  nullptr,    nullptr,         kPanel,
                  stride,     block.k,         args.c + block.row * args.c_row + column,
                  args.c_row, block.accumulate};
    if (bf16) {
      area.bf16 = args.packed_bf16 + p * stride + block.depth * kPanel;
    } else if (args.packed) {
      area.b = args.packed + p * stride + block.depth * kPanel;
    } else if (columns < kPanel) {
      CopyNarrow(args.b + block.depth * args.b_row + column, args.b_row, block.k, columns, narrow);
      area.b = narrow;
    } else {
      area.b = args.b + block.depth * args.b_row + column;
      area.b_row = args.b_row;
    }
    if (together == 1)
      RunTiles<1, bf16>(area, block.rows, columns);
    else if (block.rows == 1)
      RunWide<1, bf16>(area, together, columns);
    else if (block.rows == 2)
      RunWide<2, bf16>(area, together, columns);
    else
      RunTiles<kTilePanels, bf16>(area, block.rows, columns);
    if (block.last && args.epilogue)
      Finish(args.epilogue->At(block.row, column), block.rows, columns, area.c, args.c_row);
    p += together;
  }
}

void Multiply(const GemmArgs& args) {
  const int64_t depths = std::max<int64_t>(1, (args.k + kDepthBlock - 1) / kDepthBlock);
  // A depth of B stays in L2 while every block of rows meets it.
  for (int64_t d = 0; d < depths; ++d) {
    const int64_t depth = d * kDepthBlock;
    for (int64_t row = 0; row < args.m; row += kRowBlock) {
      const Block block{row,
                        std::min(kRowBlock, args.m - row),
                        depth,
                        std::min(kDepthBlock, args.k - depth),
                        args.accumulate || d > 0,
                        d + 1 == depths};
      args.packed_bf16 ? MultiplyPanels<true>(args, block) : MultiplyPanels<false>(args, block);
    }
  }
}

// 16 rows of `src`, `step` apart, become columns; squares of four stay in registers.
void PackTransposed(const float* src, int64_t step, int64_t k, float* dst) {
  int64_t i = 0;
  for (; i + 4 <= k; i += 4) {
    for (int64_t j = 0; j < kPanel; j += 4) {
      Four x[4], y[4];
      for (int64_t r = 0; r < 4; ++r) std::memcpy(&x[r], src + (j + r) * step + i, sizeof(Four));
      TurnSquare(x, y);
      for (int64_t r = 0; r < 4; ++r) std::memcpy(dst + (i + r) * kPanel + j, &y[r], sizeof(Four));
    }
  }
  for (; i < k; ++i) {
    for (int64_t j = 0; j < kPanel; ++j) dst[i * kPanel + j] = src[j * step + i];
  }
}

void Pack(const float* b, int64_t row, int64_t column, int64_t k, int64_t n, int64_t first,
          int64_t last, float* packed) {
  for (int64_t p = first; p < last; ++p) {
    const int64_t columns = std::min(kPanel, n - p * kPanel);
    const float* src = b + p * kPanel * column;
    float* dst = packed + p * kPanel * k;
    if (columns == kPanel && column == 1) {
      for (int64_t i = 0; i < k; ++i) std::memcpy(dst + i * kPanel, src + i * row, kPanel * 4);
    } else if (columns == kPanel && row == 1) {
      PackTransposed(src, column, k, dst);
    } else {
      for (int64_t i = 0; i < k; ++i) {
        for (int64_t j = 0; j < kPanel; ++j)
          dst[i * kPanel + j] = j < columns ? src[i * row + j * column] : 0;
      }
    }
  }
}

}  // namespace

const GemmLevel& MINIM_GEMM() {
  static constexpr GemmLevel kLevel = {MINIM_GEMM_NAME, Multiply, Pack, Finish};
  return kLevel;
}

}  // namespace minim
