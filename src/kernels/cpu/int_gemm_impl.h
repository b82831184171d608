// The bodies of IntLevel. Define MINIM_INT, MINIM_INT_NAME and MINIM_INT_TILE first.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <type_traits>

#include "kernels/cpu/int_gemm.h"
#include "kernels/cpu/partials.h"
#include "kernels/cpu/quotient.h"

namespace minim {
namespace {

struct IntTileArea {
  const void* a;  // one tile
  int64_t a_row;  // words between rows that are not in tiles
  const void* b;  // one panel, or several
  int64_t b_panel;
  int64_t depth;
  const int32_t *row_start, *column_start;
  int32_t* c;
  int64_t c_row;
  int64_t columns;
  bool accumulate;  // instead of the starts
};

// A tile's header says how it is: kTile, kWordsPerThread, kTilePanels at most, kDepthBlock (what
// panels of that depth need fits L1), kMasksColumns (or whole panels only), kSignedQuads,
// kPlaceRow.
template <int rows, int panels>
struct PairTile;
template <int rows, int panels>
struct ByteTile;
template <int panels>
struct IntRow;

}  // namespace
}  // namespace minim

#include MINIM_INT_TILE

namespace minim {
namespace {

template <typename Tile>
void RunIntTile(const IntTileArea& area, int64_t rows) {
  if (kMasksColumns || area.columns == kPanel) return Tile::Run(area);
  alignas(64) int32_t buffer[kIntRows * kPanel];
  IntTileArea edge = area;
  edge.c = buffer;
  edge.c_row = kPanel;
  for (int64_t i = 0; area.accumulate && i < rows; ++i)
    std::copy_n(area.c + i * area.c_row, area.columns, buffer + i * kPanel);
  Tile::Run(edge);
  for (int64_t i = 0; i < rows; ++i)
    std::copy_n(buffer + i * kPanel, area.columns, area.c + i * area.c_row);
}

template <template <int, int> typename Tile, int rows, int panels = kTilePanels>
void RunIntPanels(const IntTileArea& area) {
  if constexpr (panels > 1)
    if (area.columns <= (panels - 1) * kPanel) return RunIntPanels<Tile, rows, panels - 1>(area);
  RunIntTile<Tile<rows, panels>>(area, rows);
}

template <template <int, int> typename Tile>
void RunIntRows(const IntTileArea& area, int64_t rows) {
  switch (rows) {
    case 1: return RunIntPanels<Tile, 1>(area);
    case 2: return RunIntPanels<Tile, 2>(area);
    case 3: return RunIntPanels<Tile, 3>(area);
    default: return RunIntPanels<Tile, kIntRows>(area);
  }
}

// Columns of the tile that starts `left` columns before the end: 5 panels are cut as 3 and 2, since
// sums of a single panel would wait for each other.
inline int64_t TileColumns(int64_t left) {
  const int64_t panels = PanelsOf(left), tiles = (panels + kTilePanels - 1) / kTilePanels;
  return std::min(left, (panels + tiles - 1) / tiles * kPanel);
}

/// `Word`: of A, which is in tiles or row by row.
template <template <int, int> typename Tile, typename Word, bool in_tiles>
void IntMultiply(const IntGemmArgs& args) {
  constexpr int64_t kRows = 96;
  const auto* a = static_cast<const Word*>(args.a);
  const auto* b = static_cast<const int32_t*>(args.packed);
  for (int64_t row = 0; row < args.m; row += kRows) {
    const int64_t last_row = std::min(row + kRows, args.m);
    for (int64_t depth = 0; depth == 0 || depth < args.depth; depth += kDepthBlock) {
      for (int64_t column = 0, columns; column < args.n; column += columns) {
        columns = TileColumns(args.n - column);
        for (int64_t i = row; i < last_row; i += kIntRows) {
          const int64_t rows = std::min(kIntRows, last_row - i);
          RunIntRows<Tile>(
              {.a = a + i * args.depth + depth * (in_tiles ? rows : 1),
               .a_row = args.depth,
               .b = b + column * args.depth + depth * kPanel,
               .b_panel = args.depth * kPanel,
               .depth = std::min(kDepthBlock, args.depth - depth),
               .row_start = args.row_start ? args.row_start + i : nullptr,
               .column_start = args.column_start ? args.column_start + column : nullptr,
               .c = args.c + i * args.c_row + column,
               .c_row = args.c_row,
               .columns = columns,
               .accumulate = depth > 0},
              rows);
        }
      }
    }
  }
}

void IntMultiplyRow(const IntRowArgs& args) {
  IntRowArgs rest = args;
  while (rest.panels > 0) {
    const int64_t together = std::min<int64_t>(4, rest.panels);
    switch (together) {
      case 1: IntRow<1>::Run(rest); break;
      case 2: IntRow<2>::Run(rest); break;
      case 3: IntRow<3>::Run(rest); break;
      default: IntRow<4>::Run(rest);
    }
    rest.panels -= together;
    rest.packed += together * rest.quads * kPanel * 4;
    rest.c += together * kPanel;
  }
}

template <typename T>
void Pair(const T* first, const T* second, int32_t zero_point, int64_t n, float* words) {
  const auto word = [=](T low, int32_t high) {
    const auto bits = static_cast<uint32_t>(low - zero_point) & 0xFFFFu;
    return std::bit_cast<float>(bits | static_cast<uint32_t>(high) << 16);
  };
  if (second == nullptr) {
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) words[i] = word(first[i], 0);
  } else {
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) words[i] = word(first[i], second[i] - zero_point);
  }
}

void Quad(const uint8_t* const (&planes)[4], uint8_t flip, int64_t n, float* words) {
  const uint8_t *p0 = planes[0], *p1 = planes[1], *p2 = planes[2], *p3 = planes[3];
  const uint32_t flips = flip * 0x01010101u;
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t word =
        uint32_t{p0[i]} | uint32_t{p1[i]} << 8 | uint32_t{p2[i]} << 16 | uint32_t{p3[i]} << 24;
    words[i] = std::bit_cast<float>(word ^ flips);
  }
}

template <typename T>
constexpr int32_t kLow = std::numeric_limits<T>::min();
template <typename T>
constexpr int32_t kHigh = std::numeric_limits<T>::max();

// Requantize() again, with internal linkage: files of two levels must not share its code.
inline int32_t RoundTo(float x, int32_t zero_point, int32_t low, int32_t high) {
  const float least = static_cast<float>(low - zero_point);
  const float most = static_cast<float>(high - zero_point);
  const float bounded = x > least ? x : least;  // least if NaN; whole bounds commute with rounding
  const float shifted = (bounded < most ? bounded : most) + kWholeShift;
  return std::bit_cast<int32_t>(shifted) - std::bit_cast<int32_t>(kWholeShift) + zero_point;
}

template <typename T>
void RequantizeSums(const int32_t* src, const RequantizeRow& row, int64_t n, T* dst) {
  const int32_t zero = row.zero_point;
  if (row.per_column) {
    const float* scales = row.scales;
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i)
      dst[i] =
          static_cast<T>(RoundTo(static_cast<float>(src[i]) * scales[i], zero, kLow<T>, kHigh<T>));
  } else {
    const float scale = row.scales[0];
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i)
      dst[i] = static_cast<T>(RoundTo(static_cast<float>(src[i]) * scale, zero, kLow<T>, kHigh<T>));
  }
}

// src[i] / scale, rounded and bounded by `low` and `high`, the zero point included.
template <typename T>
void QuantizeBetween(const float* src, float scale, int32_t zero_point, int32_t low, int32_t high,
                     int64_t n, T* dst) {
  const int32_t back = std::bit_cast<int32_t>(kWholeShift) - zero_point;
  ForEachStep(src, scale, static_cast<float>(low - zero_point),
              static_cast<float>(high - zero_point), n, [=](int64_t i, float shifted) {
                dst[i] = static_cast<T>(std::bit_cast<int32_t>(shifted) - back);
              });
}

template <typename T>
void Quantize(const float* src, float scale, int32_t zero_point, int64_t n, T* dst) {
  QuantizeBetween(src, scale, zero_point, kLow<T>, kHigh<T>, n, dst);
}

template <typename T>
void Dequantize(const T* src, float scale, int32_t zero_point, int64_t n, float* dst) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) dst[i] = static_cast<float>(src[i] - zero_point) * scale;
}

template <typename T>
float QuantizeRow(const float* src, int64_t n, T* dst) {
  const float scale = LargestOf(n, 0, [=](int64_t i) { return std::fabs(src[i]); }) / 127.0f;
  if (scale == 0) {
    std::fill_n(dst, n, T{0});
    return 0;
  }
  QuantizeBetween(src, scale, 0, -127, 127, n, dst);
  return scale;
}

void DequantizeSums(const int32_t* src, float row_scale, const RequantizeRow& columns,
                    const float* bias, int64_t n, float* dst) {
  const float* scales = columns.scales;
  const int64_t step = columns.per_column ? 1 : 0;
  if (step == 1) {
#pragma GCC ivdep
    for (int64_t j = 0; j < n; ++j) dst[j] = static_cast<float>(src[j]) * row_scale * scales[j];
  } else {
    const float scale = scales[0];
#pragma GCC ivdep
    for (int64_t j = 0; j < n; ++j) dst[j] = static_cast<float>(src[j]) * row_scale * scale;
  }
  if (bias == nullptr) return;
#pragma GCC ivdep
  for (int64_t j = 0; j < n; ++j) dst[j] += bias[j];
}

}  // namespace

const IntLevel& MINIM_INT() {
  using QuadOfA = std::conditional_t<kSignedQuads, SignedQuad, uint32_t>;
  static constexpr IntLevel kLevel = {MINIM_INT_NAME,
                                      kTile,
                                      kWordsPerThread,
                                      kPlaceRow,
                                      IntMultiply<PairTile, int32_t, true>,
                                      IntMultiply<ByteTile, QuadOfA, kSignedQuads>,
                                      IntMultiplyRow,
                                      Pair<uint8_t>,
                                      Pair<int8_t>,
                                      Quad,
                                      RequantizeSums<uint8_t>,
                                      RequantizeSums<int8_t>,
                                      Quantize<uint8_t>,
                                      Quantize<int8_t>,
                                      Dequantize<uint8_t>,
                                      Dequantize<int8_t>,
                                      QuantizeRow<int8_t>,
                                      DequantizeSums};
  return kLevel;
}

}  // namespace minim
