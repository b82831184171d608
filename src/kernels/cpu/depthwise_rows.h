// Depthwise filters on planes as they lie: nothing is staged, and columns that a row lacks are
// masked off. For levels with masked vectors.
#pragma once

#include "kernels/cpu/plane_window.h"

namespace minim {

struct DepthwiseRows {
  Window w;           // spatial axes 1 and 2
  int64_t lanes = 1;  // outputs of a vector
  /// By vector of a row of outputs, then by tap of a row: bit i is set if column i of those that
  /// lie under the vector, from its first one on, is there.
  std::vector<uint64_t> masks;

  /// Of vector `index` of a row.
  const uint64_t* MasksOf(int64_t index) const { return masks.data() + index * w.kernel[2]; }
  int64_t ColumnOf(int64_t x, int64_t tap) const {
    return x * w.stride[2] - w.begin[2] + tap * w.dilation[2];
  }
};

/// Taps of a filter, and rows of them, at most.
inline constexpr int64_t kMostPlaneTaps = 64;

/// Errors: kUnsupported for three spatial axes, columns more than two apart and large filters.
Result<DepthwiseRows> DepthwiseRowsOf(const Window& w, int64_t lanes);

/// The whole plane. `padding`: a row of zeros.
void FilterFloatsAvx512(const DepthwiseRows& rows, const float* image, const float* padding,
                        const PlaneFilter& filter, float* dst);

/// dst = Requantize(scale * (start + sum of products)), in bytes.
struct PlaneByteFilter {
  const int32_t* pairs = nullptr;  // of taps, a 16-bit weight each; the last may be alone
  int32_t start = 0;
  float scale = 1;
  int32_t zero_point = 0;  // of the result
  bool is_signed = false;  // the result
};
/// The whole plane. `padding`: a row of the image's zero point.
void FilterBytesVnni(const DepthwiseRows& rows, const uint8_t* image, const uint8_t* padding,
                     const PlaneByteFilter& filter, std::byte* dst);
void FilterSignedBytesVnni(const DepthwiseRows& rows, const uint8_t* image, const uint8_t* padding,
                           const PlaneByteFilter& filter, std::byte* dst);

}  // namespace minim
