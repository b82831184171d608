// FP32 product of packed filters with pixels: C[m,n] = A * B, then bias, residual and a clamp while
// the sums are still in registers. The order of every sum depends on k and n alone.
#pragma once

#include <limits>

#include "kernels/cpu/gemm.h"
#include "kernels/cpu/image_stage.h"

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

/// One panel of pixels under every tap of `channels` staged planes (image_stage.h). A panel is cut
/// where output rows end: cut i is lanes from lane[i] on, read at from[i] past a tap.
struct StagedPanel {
  const float* stage = nullptr;
  int64_t plane = 0, channels = 0;  // planes are `plane` floats apart
  const int64_t* taps = nullptr;
  int64_t tap_count = 0;
  int64_t cuts = 0, lane[kPanel] = {}, from[kPanel] = {};
};
/// Panel `panel` of w's output pixels, to be read from rows staged for output rows from `first_row`
/// on; stage, plane and channels are still to be set. The pixels of several images follow each
/// other, as their stages (of all rows) do.
StagedPanel CutPanel(const Window& w, const ImageStage& stage, int64_t panel, int64_t first_row,
                     int64_t images = 1);

struct FilterLevel {
  std::string_view name;
  void (*multiply)(const FilterGemm& args);
  /// Packs channels * tap_count rows of 16; writes up to 16 floats past them.
  void (*pack)(const StagedPanel& panel, float* packed);
};

const FilterLevel& FilterPortable();
const FilterLevel& FilterAvx2();
const FilterLevel& FilterAvx512();

/// Rows of the tile that starts `left` rows before the end: six, the last two evenly cut.
inline int64_t TileRows(int64_t left) {
  return left >= 12 ? 6 : (left > 6 ? (left + 1) / 2 : left);
}

/// First row of part `part` of `parts`: whole tiles of six rows, or of four, so that parts are
/// packed as the whole is.
inline constexpr int64_t kLeastPart = 12;
inline int64_t FilterPart(int64_t m, int64_t parts, int64_t part) {
  return part == parts ? m : m / parts * part / kLeastPart * kLeastPart;
}

/// Floats of m x k packed filters: tiles of rows, each k x rows; tile loads may read past the end.
inline int64_t PackedFilterFloats(int64_t m, int64_t k) { return m * k + 8; }
/// Packs one tile of rows, and nothing past it.
void PackFilterTile(const float* filters, int64_t rows, int64_t k, float* packed);
/// Packs row-major filters.
void PackFilters(const float* filters, int64_t m, int64_t k, float* packed);
/// The inverse.
void UnpackFilters(const float* packed, int64_t m, int64_t k, float* filters);

}  // namespace minim
