// The pixels under a convolution's taps as the right side of a product: panels of 16 output pixels,
// row (plane, tap). A pixel is a 32-bit word: a float, or two 16-bit values of neighbouring
// channels, which are only moved.
#pragma once

#include "kernels/cpu/filter_gemm.h"

namespace minim {

class PixelPanels {
 public:
  PixelPanels() = default;
  /// `planes`: of one image and group.
  PixelPanels(const Window& w, int64_t planes, const FilterLevel& level);

  int64_t count() const { return PanelsOf(window_.out_size()); }
  int64_t rows() const { return planes_ * window_.taps(); }
  /// Panels whose staged rows stay in a cache together.
  int64_t Most() const;
  /// Floats that Stage fills for at most so many panels, and Pack for exactly so many.
  int64_t StageFloats(int64_t panels) const;
  int64_t PackFloats(int64_t panels) const { return (panels * rows() + 1) * kPanel; }
  std::string_view name() const;

  /// Panels [first, last), and what Pack needs for any of them.
  struct Range {
    int64_t first, last;
  };
  void Stage(const float* image, const Range& range, float padding, float* stage) const;
  /// Packs panels [first, last) of the range that was staged.
  void Pack(const float* image, const float* stage, const Range& staged, int64_t first,
            int64_t last, float padding, float* packed) const;

 private:
  enum class Way : uint8_t {
    kRows,      // 1x1
    kStaged,    // through padded rows
    kGathered,  // three spatial axes
  };
  TapRange RowsOf(const Range& range) const;

  Window window_;  // flat where rows do not matter
  int64_t planes_ = 1;
  const FilterLevel* level_ = nullptr;
  Way way_ = Way::kStaged;
  ImageStage stage_;
};

}  // namespace minim
