// Winograd's minimal filtering F(4x4, 3x3): a 4x4 tile of outputs costs 36 products a channel
// instead of 144. Y = A^T [(G g G^T) * (B^T d B)] A for a 6x6 tile d of the image and a filter g.
// A. Lavin, S. Gray, "Fast Algorithms for Convolutional Neural Networks", 2015. The points are 0,
// +-5/8, +-3/2 and infinity instead of the usual 0, +-1, +-2: errors are then about twice those of
// the direct sum instead of four times (B. Barabasz et al., "Error analysis and improving the
// accuracy of Winograd convolution", 2020). A NaN or infinity in a tile reaches all its outputs.
#pragma once

#include "kernels/cpu/gemm.h"
#include "kernels/cpu/winograd_tiling.h"

namespace minim {

constexpr double kWinogradPoints[] = {5.0 / 8, 3.0 / 2};

/// 16 tiles of one output plane, as 36 rows of 16 sums `tap` floats apart.
struct WinogradTiles {
  const float* sums = nullptr;
  int64_t tap = 0;
  float bias = 0;
  Activation activation;
  const GemmLevel* finisher = nullptr;  // of an activation that is no clamp
  const float* residual = nullptr;      // laid out as the plane
  float* plane = nullptr;
  WinogradPlane at;
};

/// A 6x6 tile of an image with its channels last.
struct NhwcWinogradIn {
  const float* tile = nullptr;
  int64_t row = 0, pixel = 0;  // floats from one to the next
  int64_t channels = 0;
  float* transformed = nullptr;  // 36 rows of so many channels, `tap` floats apart
  int64_t tap = 0;
};

/// A tile of pixels of a result with its channels last, as 36 rows of its filters' sums.
struct NhwcWinogradOut {
  const float* sums = nullptr;
  int64_t tap = 0;
  int64_t filters = 0;
  const float* bias = nullptr;      // one of each filter
  const float* residual = nullptr;  // laid out as the result, or null
  float* dst = nullptr;
  int64_t row = 0, pixel = 0;     // of both, floats from one to the next
  int64_t height = 0, width = 0;  // pixels that there are, of the 4x4
  float low = 0, high = 0;
};

struct WinogradLevel {
  std::string_view name;
  WinogradInput input;
  /// A^T m A, then bias, residual and activation. Writes nothing outside the plane.
  void (*output)(const WinogradTiles& tiles);
  void (*nhwc_input)(const NhwcWinogradIn& tile);
  void (*nhwc_output)(const NhwcWinogradOut& tile);
};

/// G g G^T of a 3x3 filter.
void TransformWinogradFilter(const float* g, double (&y)[kWinogradIn][kWinogradIn]);

const WinogradLevel& WinogradLevelPortable();
const WinogradLevel& WinogradLevelAvx2();
const WinogradLevel& WinogradLevelAvx512();

}  // namespace minim
