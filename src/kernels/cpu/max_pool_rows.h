// MaxPool of one plane: first the largest of the rows under a window, column by column,
// then the largest of the columns under it. And the commonest pool of floats with its gradient.
#pragma once

#include "kernels/cpu/window.h"

namespace minim {

/// Elements of `line` that may be read past what a window covers.
inline constexpr int64_t kMaxPoolSlack = 34;

/// Elements of `line` below, without the slack.
inline int64_t MaxPoolLine(const Window& w) {
  const int64_t reach = (w.out[2] - 1) * w.stride[2] + (w.kernel[2] - 1) * w.dilation[2] + 1;
  return reach > w.begin[2] + w.in[2] ? reach : w.begin[2] + w.in[2];
}

/// One plane of an image with at most two spatial axes; padding never wins, NaN does. Of bytes and
/// floats.
template <typename T>
void MaxPoolPlaneAvx2(const Window& w, const T* src, T* line, T* dst);

/// Windows of 2x2, side by side from the corner of a plane on.
inline bool AreHalves(const Window& w) {
  bool halves = w.in[0] == 1 && w.out[0] == 1 && w.kernel[0] == 1;
  for (int i : {1, 2})
    halves = halves && w.kernel[i] == 2 && w.stride[i] == 2 && w.dilation[i] == 1 &&
             w.begin[i] == 0 && 2 * w.out[i] <= w.in[i];
  return halves;
}

/// One plane of floats under such windows; NaN wins.
void MaxPoolHalvesAvx2(const Window& w, const float* src, float* dst);
/// The gradient of the same.
void MaxPoolHalvesGradAvx2(const Window& w, const float* dy, const float* x, float* dx);

}  // namespace minim
