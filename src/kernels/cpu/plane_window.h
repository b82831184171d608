// Windows that slide over one plane: depthwise filters and pools, from staged rows
// (image_stage.h), eight output columns at a time.
#pragma once

#include <limits>

#include "kernels/cpu/image_stage.h"

namespace minim {

/// `rows` output rows of one plane, contiguous at dst; what follows dst + rows * width is
/// untouched.
struct PlaneRows {
  const float* stage = nullptr;
  int64_t output_row = 0;  // staged floats from one output row to the next
  const int64_t* taps = nullptr;
  int64_t tap_count = 0;
  int64_t rows = 0, width = 0;
  float* dst = nullptr;
};

struct PlaneFilter {
  const float* weights = nullptr;  // one per tap
  float bias = 0;
  const float* residual = nullptr;  // laid out as dst
  float low = -std::numeric_limits<float>::infinity();
  float high = std::numeric_limits<float>::infinity();
};

struct PlaneLevel {
  std::string_view name;
  void (*filter)(const PlaneRows& plane, const PlaneFilter& filter);
  /// The largest under the window; NaN wins.
  void (*max)(const PlaneRows& plane);
  /// The sum divided by row_counts[y] * column_counts[x]; column_counts is 16 longer than a row.
  void (*average)(const PlaneRows& plane, const float* row_counts, const float* column_counts);
};

const PlaneLevel& PlanesPortable();
const PlaneLevel& PlanesAvx2();

/// Filters of one plane from which staging it for each of them costs more than a product that they
/// share.
inline constexpr int64_t kSharedPlane = 4;

/// Rows to stage together, so that they stay in L2.
inline int64_t PlaneBlock(const ImageStage& stage, int64_t rows) {
  constexpr int64_t kStageFloats = 32 << 10;
  while (rows > 1 && stage.FloatsFor(1, rows) > kStageFloats) rows = (rows + 1) / 2;
  return rows;
}

/// `rows` output rows from those staged for them, to dst.
inline PlaneRows RowsOf(const Window& w, const ImageStage& stage, int64_t rows, const float* staged,
                        float* dst) {
  return {staged,
          stage.output_row(),
          stage.taps().data(),
          static_cast<int64_t>(stage.taps().size()),
          rows,
          w.out[2],
          dst};
}

/// Calls f(block, first row) for each block of output rows of the plane at `image`; `stage` holds
/// FloatsFor(1, block).
template <typename F>
void ForEachPlaneBlock(const Window& w, const ImageStage& stage, int64_t block, const float* image,
                       float padding, float* staged, float* dst, F&& f) {
  for (int64_t y = 0; y < w.out[1]; y += block) {
    const int64_t rows = block < w.out[1] - y ? block : w.out[1] - y;
    stage.Fill(image, y, y + rows, padding, staged);
    f(RowsOf(w, stage, rows, staged, dst + y * w.out[2]), y);
  }
}

}  // namespace minim
