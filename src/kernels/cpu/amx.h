// Tile registers and their products, for the files compiled at that level.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace minim {
namespace {

/// What the registers hold: rows of so many bytes. As ldtilecfg reads it (Intel SDM 1, 18.3).
struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};

  void Set(int tile, int64_t height, int64_t bytes) {
    rows[tile] = static_cast<uint8_t>(height);
    row_bytes[tile] = static_cast<uint16_t>(bytes);
  }
};

/// Of this thread, until ReleaseTiles.
inline thread_local TileConfig loaded_tiles{.palette = 0};

/// Zeroes the registers unless they are so already.
inline void LoadConfig(const TileConfig& config) {
  if (std::memcmp(&config, &loaded_tiles, sizeof config) == 0) return;
  asm volatile("ldtilecfg %0" ::"m"(config));
  loaded_tiles = config;
}
/// Else each switch of threads would keep them.
inline void ReleaseTiles() {
  asm volatile("tilerelease");
  loaded_tiles = TileConfig{.palette = 0};
}

// The intrinsics of GCC 12 take literals only, and do not say that they read and write memory.
template <int tile>
void LoadTile(const void* rows, int64_t step) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(rows), "r"(step), "i"(tile) : "memory");
}
template <int tile>
void ZeroTile() {
  asm volatile("tilezero %%tmm%c0" ::"i"(tile));
}
template <int tile>
void StoreTile(void* rows, int64_t step) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(rows), "r"(step), "i"(tile) : "memory");
}
/// sum[i, j] += sum over k, b of x[i, 4 k + b] * y[k, 4 j + b]: unsigned bytes by signed ones.
template <int sum, int x, int y>
void AddByteTiles() {
  asm volatile("tdpbusd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(sum), "i"(x), "i"(y));
}
/// The same of signed bytes by signed ones.
template <int sum, int x, int y>
void AddSignedByteTiles() {
  asm volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(sum), "i"(x), "i"(y));
}
/// The same of pairs of BF16.
template <int sum, int x, int y>
void AddBf16Tiles() {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(sum), "i"(x), "i"(y));
}

}  // namespace
}  // namespace minim
