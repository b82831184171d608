// Winograd's F(4x4, 3x3) over integers, exact. With the points 0, +-1, +-2 and infinity, B is
// whole, and so is G once its rows are multiplied by 4, 6, 6, 24, 24 and 1; A then gives 2^i * 3
// times row i of the output, i = 3, 2, 1, 1. Sums wrap at 32 bits; 9 is undone by its inverse
// modulo 2^32 and the powers of two, at most 64, by a shift: right for outputs in 26 bits.
#pragma once

#include "kernels/cpu/winograd_tiling.h"

namespace minim {

/// Outputs below this magnitude are exact.
constexpr int64_t kIntWinogradLimit = int64_t{1} << 25;

struct IntWinogradLevel {
  std::string_view name;
  /// Words of two 16-bit values, each at most 327 in magnitude.
  WinogradInput input;
  /// start + A^T m A of 16 tiles: pixel (r, c) of tile i at pixels[r * 64 + 4 * i + c]. `sums`: 36
  /// rows of 16, `tap` apart.
  void (*output)(const int32_t* sums, int64_t tap, int32_t start, int32_t* pixels);
};

const IntWinogradLevel& IntWinogradPortable();
const IntWinogradLevel& IntWinogradAvx2();

}  // namespace minim
