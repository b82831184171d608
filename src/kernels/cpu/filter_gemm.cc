#include "kernels/cpu/filter_gemm.h"

#include <algorithm>

namespace minim {

void PackFilterTile(const float* filters, int64_t rows, int64_t k, float* packed) {
  for (int64_t i = 0; i < k; ++i) {
    for (int64_t r = 0; r < rows; ++r) *packed++ = filters[r * k + i];
  }
}

void PackFilters(const float* filters, int64_t m, int64_t k, float* packed) {
  for (int64_t row = 0; row < m;) {
    const int64_t rows = TileRows(m - row);
    PackFilterTile(filters + row * k, rows, k, packed + row * k);
    row += rows;
  }
  std::fill_n(packed + m * k, PackedFilterFloats(m, k) - m * k, 0.0f);
}

void UnpackFilters(const float* packed, int64_t m, int64_t k, float* filters) {
  for (int64_t row = 0; row < m;) {
    const int64_t rows = TileRows(m - row);
    for (int64_t i = 0; i < k; ++i)
      for (int64_t r = 0; r < rows; ++r) filters[(row + r) * k + i] = *packed++;
    row += rows;
  }
}

StagedPanel CutPanel(const Window& w, const ImageStage& stage, int64_t panel, int64_t first_row,
                     int64_t images) {
  StagedPanel cut{.taps = stage.taps().data(),
                  .tap_count = static_cast<int64_t>(stage.taps().size())};
  const int64_t width = w.out[2], size = w.out_size(), image_floats = stage.FloatsOf(w.out[1]);
  const int64_t end = std::min((panel + 1) * kPanel, size * images);
  for (int64_t pixel = panel * kPanel; pixel < end;) {
    const int64_t image = pixel / size, y = pixel % size / width, x = pixel % width;
    cut.from[cut.cuts] = image * image_floats + (y - first_row) * stage.output_row() + x;
    cut.lane[cut.cuts++] = pixel - panel * kPanel;
    pixel += width - x;
  }
  return cut;
}

}  // namespace minim
