// The matrix product of one level. The including file defines Tile<rows, panels>::Run first and
// MINIM_GEMM / MINIM_GEMM_NAME.
#pragma once

#include <algorithm>
#include <limits>

#include "kernels/cpu/elementwise_functions.h"
#include "kernels/cpu/gelu.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/square.h"

namespace minim {
namespace {

inline float Activate(const Activation& act, float x) {
  switch (act.kind) {
    case Activation::kRelu: return x < 0 ? 0 : x;
    case Activation::kLeakyRelu: return x < 0 ? act.a * x : x;
    case Activation::kClip: return x < act.a ? act.a : (x > act.b ? act.b : x);
    case Activation::kSigmoid: return SigmoidF(x);
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
    case Activation::kGelu: return GeluRow(y, n, y);
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
  int64_t b_row, panel_stride, group_stride, k;
  float* c;
  int64_t c_row;
  bool accumulate;

  int64_t At(int64_t panel) const {
    return panel / kMostGroup * group_stride + panel % kMostGroup * panel_stride;
  }
};

template <int rows, int panels, bool bf16>
struct Tile;

}  // namespace
}  // namespace minim

#include MINIM_GEMM_TILE

namespace minim {
namespace {

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
  if constexpr (RowsOfTile(panels) == 12) {
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
  constexpr int64_t kTileRows = RowsOfTile(panels);
  const int64_t tiles = (rows + kTileRows - 1) / kTileRows;
  for (int64_t i = 0; i < tiles; ++i) {
    const int64_t first = rows * i / tiles;
    TileArea tile = area;
    tile.a += first * area.a_row;
    tile.c += first * area.c_row;
    RunRows<panels, bf16>(tile, rows * (i + 1) / tiles - first, columns);
  }
}

// f<panels>() of so many at run time.
template <int most, typename F>
void WithPanels(int64_t panels, F&& f) {
  if constexpr (most > 1)
    if (panels < most) return WithPanels<most - 1>(panels, f);
  f.template operator()<most>();
}

// One or two rows need several panels at once, or their few sums wait for each other.
template <bool bf16>
void RunPanels(const TileArea& area, int64_t rows, int64_t panels, int64_t columns) {
  if (rows > 2 || panels <= kTilePanels) {
    return WithPanels<kTilePanels>(panels, [&]<int p> { RunTiles<p, bf16>(area, rows, columns); });
  }
  WithPanels<kMostTogether>(panels, [&]<int p> {
    rows == 1 ? RunTile<1, p, bf16>(area, columns) : RunTile<2, p, bf16>(area, columns);
  });
}

// The last, narrow panel of an unpacked B, copied so that tiles may read 16 columns.
void CopyNarrow(const float* b, int64_t b_row, int64_t k, int64_t columns, float* dst) {
  for (int64_t i = 0; i < k; ++i) {
    for (int64_t j = 0; j < kPanel; ++j) dst[i * kPanel + j] = j < columns ? b[i * b_row + j] : 0;
  }
}

struct Block {
  int64_t row, rows, depth, k;
  int64_t first, last;  // panels
  bool accumulate, final;
};

// Steps of a transposed A this far apart meet in few lines of a cache, so a block of it is copied
// first, as rows of `rows`.
constexpr int64_t kFarSteps = 128;

void CopyTransposed(const GemmArgs& args, const Block& block, float* dst) {
  const float* src = args.a + block.row + block.depth * args.a_column;
  for (int64_t k = 0; k < block.k; ++k, src += args.a_column, dst += block.rows)
    std::memcpy(dst, src, block.rows * sizeof(float));
}

// Of panels packed one by one fewer than kMostTogether where so many would fill L1: what walks its
// panels back and forth finds the last ones there.
constexpr int64_t kReadAgainBytes = 32 << 10;

int64_t MostTogether(const GemmArgs& args, const Block& block) {
  const bool one_by_one = args.packed_bf16 || (args.packed && args.group == 1);
  const auto width = static_cast<int64_t>(args.packed_bf16 ? sizeof(uint16_t) : sizeof(float));
  const bool fills = one_by_one && kMostTogether * kPanel * block.k * width > kReadAgainBytes;
  return block.rows > 2 || fills ? kTilePanels : kMostTogether;
}

// How many panels from `p` on one tile takes.
int64_t TogetherAt(const GemmArgs& args, const Block& block, int64_t p) {
  const int64_t most = MostTogether(args, block);
  const int64_t left = std::min(most, block.last - p);
  if (args.packed == nullptr && args.packed_bf16 == nullptr)
    return std::clamp<int64_t>(args.n / kPanel - p, 1, left);  // whole ones
  if (args.group == 1 || left <= args.group) return left;
  return p + left <= PanelsOf(args.n) / args.group * args.group ? left / args.group * args.group
                                                                : args.group;
}

// Where panel p of B lies from the block's depth on. `narrow`: room for a last one.
template <bool bf16>
void PlaceB(const GemmArgs& args, const Block& block, int64_t p, float* narrow, TileArea* area) {
  const int64_t stride = args.panel_stride ? args.panel_stride : args.k * kPanel;
  const int64_t columns = args.n - p * kPanel;
  area->panel_stride = stride;
  area->group_stride = kMostGroup * stride;
  if (bf16) {
    area->bf16 = args.packed_bf16 + p * stride + block.depth * kPanel;
  } else if (args.packed && args.group == 1) {
    area->b = args.packed + p * stride + block.depth * kPanel;
  } else if (args.packed) {
    const int64_t width = std::min(args.group, PanelsOf(args.n) - p);
    area->b_row = width * kPanel;
    area->b = args.packed + p * stride + block.depth * area->b_row;
    area->panel_stride = kPanel;
  } else if (columns < kPanel) {
    CopyNarrow(args.b + block.depth * args.b_row + p * kPanel, args.b_row, block.k, columns,
               narrow);
    area->b = narrow;
  } else {
    area->b = args.b + block.depth * args.b_row + p * kPanel;
    area->b_row = args.b_row;
    area->panel_stride = kPanel;
    area->group_stride = kMostGroup * kPanel;
  }
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
  for (int64_t done = block.first; done < block.last;) {
    const int64_t together = TogetherAt(args, block, done);
    const int64_t p = args.backwards ? block.first + block.last - done - together : done;
    const int64_t column = p * kPanel;
    const int64_t columns = std::min(args.n - column, together * kPanel);
    TileArea area{.a = a,
                  .a_row = args.a_row,
                  .a_column = a_column,
                  .b_row = kPanel,
                  .k = block.k,
                  .c = args.c + block.row * args.c_row + column,
                  .c_row = args.c_row,
                  .accumulate = block.accumulate};
    PlaceB<bf16>(args, block, p, narrow, &area);
    RunPanels<bf16>(area, block.rows, together, columns);
    if (block.final && args.epilogue)
      Finish(args.epilogue->At(block.row, column), block.rows, columns, area.c, args.c_row);
    done += together;
  }
}

// A depth of some panels of B stays in L2 while every block of rows meets it.
void Multiply(const GemmArgs& args) {
  const int64_t depths = std::max<int64_t>(1, (args.k + kDepthBlock - 1) / kDepthBlock);
  const int64_t panels = PanelsOf(args.n);
  for (int64_t d = 0; d < depths; ++d) {
    const int64_t depth = d * kDepthBlock, k = std::min(kDepthBlock, args.k - depth);
    const int64_t fit = kBlockFloats / kPanel / std::max<int64_t>(1, k);
    const int64_t most = std::max<int64_t>(1, fit / kMostGroup) * kMostGroup;
    for (int64_t first = 0; first < panels; first += most) {
      const int64_t last = std::min(panels, first + most);
      for (int64_t row = 0; row < args.m; row += kRowBlock) {
        const Block block{row,  std::min(kRowBlock, args.m - row), depth,          k, first,
                          last, args.accumulate || d > 0,          d + 1 == depths};
        args.packed_bf16 ? MultiplyPanels<true>(args, block) : MultiplyPanels<false>(args, block);
      }
    }
  }
}

// 16 rows of `src`, `step` apart, become columns of rows `width` apart; squares of four stay in
// registers.
void PackTransposed(const float* src, int64_t step, int64_t k, int64_t width, float* dst) {
  int64_t i = 0;
  for (; i + 4 <= k; i += 4) {
    for (int64_t j = 0; j < kPanel; j += 4) {
      Four x[4], y[4];
      for (int64_t r = 0; r < 4; ++r) std::memcpy(&x[r], src + (j + r) * step + i, sizeof(Four));
      TurnSquare(x, y);
      for (int64_t r = 0; r < 4; ++r) std::memcpy(dst + (i + r) * width + j, &y[r], sizeof(Four));
    }
  }
  for (; i < k; ++i) {
    for (int64_t j = 0; j < kPanel; ++j) dst[i * width + j] = src[j * step + i];
  }
}

void PackPanel(const GemmPack& p, int64_t panel, int64_t width, float* dst) {
  const int64_t columns = std::min(kPanel, p.n - panel * kPanel);
  const float* src = p.b + panel * kPanel * p.column;
  if (columns == kPanel && p.column == 1) {
    for (int64_t i = 0; i < p.k; ++i) std::memcpy(dst + i * width, src + i * p.row, kPanel * 4);
  } else if (columns == kPanel && p.row == 1) {
    PackTransposed(src, p.column, p.k, width, dst);
  } else {
    for (int64_t i = 0; i < p.k; ++i) {
      for (int64_t j = 0; j < kPanel; ++j)
        dst[i * width + j] = j < columns ? src[i * p.row + j * p.column] : 0;
    }
  }
}

void Pack(const GemmPack& p, int64_t first, int64_t last, float* packed) {
  const int64_t panels = PanelsOf(p.n);
  for (int64_t group = first * p.group; group < std::min(last * p.group, panels);
       group += p.group) {
    const int64_t width = std::min(p.group, panels - group);
    for (int64_t i = 0; i < width; ++i)
      PackPanel(p, group + i, width * kPanel, packed + group * kPanel * p.k + i * kPanel);
  }
}

}  // namespace

const GemmLevel& MINIM_GEMM() {
  static_assert(kTilePanels == 1 || kTilePanels == kMostGroup);
  static constexpr GemmLevel kLevel = {MINIM_GEMM_NAME, kTilePanels, Multiply, Pack, Finish};
  return kLevel;
}

}  // namespace minim
