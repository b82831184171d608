// FP32 product of packed filters with pixels: C[m,n] = A * B, then bias, residual and a clamp while
// the sums are still in registers. The order of every sum depends on k and n alone.
#pragma once

#include <limits>

#include "kernels/cpu/gemm.h"

namespace minim {

struct FilterGemm {
  int64_t m = 0, n = 0, k = 0;
  const float* a = nullptr;  // packed
  /// Panels of 16 columns, `b_panel` apart, whose rows are `b_row` apart and may be read whole:
  /// packed pixels (16, k * 16), or an image in place (pixels, 16) if n is a multiple of 16.
  const float* b = nullptr;
  int64_t b_row = kPanel, b_panel = 0;
  float* c = nullptr;
  int64_t c_row = 0;
  const float* bias = nullptr;      // one per row
  const float* residual = nullptr;  // laid out as c
  float low = -std::numeric_limits<float>::infinity();
  float high = std::numeric_limits<float>::infinity();
};

struct FilterLevel {
  std::string_view name;
  void (*multiply)(const FilterGemm& args);
};

const FilterLevel& FilterPortable();
const FilterLevel& FilterAvx2();

/// Rows of the tile that starts `left` rows before the end: six, the last two evenly cut.
inline int64_t TileRows(int64_t left) {
  return left >= 12 ? 6 : (left > 6 ? (left + 1) / 2 : left);
}

/// Floats of m x k packed filters: tiles of rows, each k x rows; tile loads may read past the end.
inline int64_t PackedFilterFloats(int64_t m, int64_t k) { return m * k + 8; }
/// Packs row-major filters.
void PackFilters(const float* filters, int64_t m, int64_t k, float* packed);

}  // namespace minim
