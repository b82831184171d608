// Sums over pixels of products of a gradient's rows with an image shifted by its taps: the weight
// gradient of a convolution, with pixels across the vector, so that nothing is packed.
#pragma once

#include <cstdint>
#include <string_view>

namespace minim {

constexpr int64_t kDotTaps = 3;  // of a tile

/// Adds to sums[r][t], lane by lane, dy[r * dy_plane + p] * x[p + taps[t]] over all pixels p:
/// `images` images of `lines` lines of `length` pixels, a multiple of the lanes.
struct TapDots {
  const float* dy = nullptr;
  int64_t rows = 1;  // at most the level's
  int64_t dy_plane = 0, dy_image = 0, dy_line = 0;
  const float* x = nullptr;
  int64_t taps[kDotTaps] = {};  // repeat one where there are fewer
  int64_t x_image = 0, x_line = 0;
  int64_t images = 1, lines = 1, length = 0;
  float* sums = nullptr;  // rows x kDotTaps x lanes
};

struct TapDotsLevel {
  std::string_view name;
  int64_t rows, lanes;  // of a tile
  void (*add)(const TapDots& args);
  /// The sum of the lanes of one of the sums.
  float (*total)(const float* sum);
};

const TapDotsLevel& TapDotsPortable();
const TapDotsLevel& TapDotsAvx2();
const TapDotsLevel& TapDotsAvx512();

}  // namespace minim
