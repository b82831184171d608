// Rows of an image copied with their padding, columns sorted by their place in the stride, so that
// the pixels any tap meets along an output row lie side by side.
#pragma once

#include <vector>

#include "kernels/cpu/window.h"

namespace minim {

/// One or two spatial axes (axis 0 of the window is 1 long).
class ImageStage {
 public:
  ImageStage() = default;
  /// `slack`: floats that readers may touch past the last output of a row.
  ImageStage(const Window& w, int64_t slack);

  /// Input rows needed for output rows [first, last).
  int64_t RowsFor(int64_t output_rows) const {
    return output_rows == 0 ? 0 : (output_rows - 1) * window_.stride[1] + reach_;
  }
  /// Floats of one plane for so many output rows.
  int64_t FloatsOf(int64_t output_rows) const { return RowsFor(output_rows) * row_; }
  /// Floats of `channels` planes for so many output rows, the slack included.
  int64_t FloatsFor(int64_t channels, int64_t output_rows) const {
    return channels * FloatsOf(output_rows) + slack_;
  }
  int64_t row() const { return row_; }                             // floats between staged rows
  int64_t output_row() const { return row_ * window_.stride[1]; }  // ... between those of outputs
  /// Where tap i stands, against the first output of a row.
  const std::vector<int64_t>& taps() const { return taps_; }

  /// Stages one plane at `image` for output rows [first, last); padding becomes `padding`.
  void Fill(const float* image, int64_t first, int64_t last, float padding, float* stage) const;

 private:
  void FillFourPhases(const float* src, float padding, float* stage) const;
  void FillPhases(const float* src, float padding, float* stage) const;

  struct Phase {
    int64_t column;
    TapRange valid;  // that lie in the image
  };

  Window window_;
  std::vector<Phase> phases_;  // columns modulo the stride that some tap meets
  std::vector<int64_t> taps_;
  int64_t width_ = 0, row_ = 0, reach_ = 1, slack_ = 0;
};

}  // namespace minim
