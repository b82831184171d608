#include <algorithm>

#include "kernels/cpu/amx.h"
#include "kernels/cpu/dot_rows.h"
#include "kernels/cpu/gemm.h"

namespace minim {
namespace {

constexpr int64_t kTileRows = 16;
constexpr int64_t kTileBytes = kTileRows * kDotBlock;  // of B
// Registers: sums by row of tiles and panel, then two of A and two of B.
constexpr int kA = 4, kB = 6;

struct Bf16Product {
  static constexpr int64_t kParts = 1;
  template <int sum, int x, int y>
  static void Add() {
    AddBf16Tiles<sum, x, y>();
  }
};
struct PartsProduct : Bf16Product {
  static constexpr int64_t kParts = kDotParts;
};
struct ByteProduct {
  static constexpr int64_t kParts = 1;
  template <int sum, int x, int y>
  static void Add() {
    AddSignedByteTiles<sum, x, y>();
  }
};

// The same start for every row.
template <int tile>
void StartSums(const DotRows& t, int64_t panel) {
  t.start ? LoadTile<tile>(t.start + panel * kPanel, 0) : ZeroTile<tile>();
}

// One or two tiles of rows by one or two panels: a block of depth.
template <typename Product, int tiles, int panels>
void AddBlock(const std::byte* a, int64_t a_step) {
  LoadTile<kA>(a, a_step);
  if constexpr (tiles > 1) LoadTile<kA + 1>(a + kTileRows * a_step, a_step);
  Product::template Add<0, kA, kB>();
  if constexpr (tiles > 1) Product::template Add<2, kA + 1, kB>();
  if constexpr (panels > 1) Product::template Add<1, kA, kB + 1>();
  if constexpr (tiles > 1 && panels > 1) Product::template Add<3, kA + 1, kB + 1>();
}

template <typename Product, int tiles, int panels>
void RunTiles(const DotRows& t, int64_t panel) {
  constexpr int64_t parts = Product::kParts;
  const int64_t c_step = t.c_row * 4, b_step = t.blocks * kTileBytes;
  float *c = static_cast<float*>(t.c) + panel * kPanel, *lower = c + kTileRows * t.c_row;
  const std::byte *a = t.a, *b = t.packed + panel * b_step;
  StartSums<0>(t, panel);
  if constexpr (panels > 1) StartSums<1>(t, panel + 1);
  if constexpr (tiles > 1) StartSums<2>(t, panel);
  if constexpr (tiles > 1 && panels > 1) StartSums<3>(t, panel + 1);
  for (int64_t k = 0; k < t.blocks; ++k, a += kDotBlock, b += kTileBytes) {
    for (int64_t j = 0; j < parts; ++j) {
      LoadTile<kB>(b + j * t.b_part, kDotBlock);
      if constexpr (panels > 1) LoadTile<kB + 1>(b + j * t.b_part + b_step, kDotBlock);
      for (int64_t i = 0; i + j < parts; ++i)
        AddBlock<Product, tiles, panels>(a + i * t.a_part, t.a_row);
    }
  }
  StoreTile<0>(c, c_step);
  if constexpr (panels > 1) StoreTile<1>(c + kPanel, c_step);
  if constexpr (tiles > 1) StoreTile<2>(lower, c_step);
  if constexpr (tiles > 1 && panels > 1) StoreTile<3>(lower + kPanel, c_step);
}

template <typename Product, int tiles>
void RunPanels(const DotRows& t) {
  const int64_t pairs = (t.panels + 1) / 2;
  for (int64_t i = 0; i < pairs; ++i) {
    const int64_t panel = 2 * (t.backwards ? pairs - 1 - i : i);
    panel + 1 < t.panels ? RunTiles<Product, tiles, 2>(t, panel)
                         : RunTiles<Product, tiles, 1>(t, panel);
  }
}

// For how many rows this thread's registers are set. A step multiplies anew: comparing the whole
// configuration, fresh from its stores, would cost a hundredth of it.
thread_local int64_t rows_set = 0;

void SetRows(int64_t rows) {
  if (rows == rows_set) return;
  const int64_t upper = std::min(rows, kTileRows), lower = rows - upper;
  TileConfig config;
  for (int tile : {0, 1, kA}) config.Set(tile, upper, kDotBlock);
  for (int tile : {2, 3, kA + 1}) config.Set(tile, lower > 0 ? lower : upper, kDotBlock);
  for (int tile : {kB, kB + 1}) config.Set(tile, kTileRows, kDotBlock);
  LoadConfig(config);
  rows_set = rows;
}

void Release() {
  ReleaseTiles();
  rows_set = 0;
}

template <typename Product>
void Multiply(const DotRows& args) {
  DotRows some = args;
  for (int64_t row = 0; row < args.rows; row += some.rows) {
    some.rows = std::min(2 * kTileRows, args.rows - row);
    some.a = args.a + row * args.a_row;
    some.c = static_cast<float*>(args.c) + row * args.c_row;
    SetRows(some.rows);
    some.rows > kTileRows ? RunPanels<Product, 2>(some) : RunPanels<Product, 1>(some);
  }
}

}  // namespace

const DotLevel& DotsAmx() {
  static const DotLevel kLevel = {.name = "amx",
                                  .multiply_bf16 = Multiply<Bf16Product>,
                                  .multiply_parts = Multiply<PartsProduct>,
                                  .multiply_bytes = Multiply<ByteProduct>,
                                  .round = DotsBf16().round,
                                  .split = DotsBf16().split,
                                  .finish = DotsBf16().finish,
                                  .release = Release};
  return kLevel;
}

}  // namespace minim
