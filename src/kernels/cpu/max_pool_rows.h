// MaxPool of one plane of bytes: first the largest of the rows under a window, column by column,
// then the largest of the columns under it. And the gradient of the commonest pool.
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

/// One plane of an image with at most two spatial axes; padding never wins.
template <typename T>
void MaxPoolPlaneAvx2(const Window& w, const T* src, T* line, T* dst);

/// The gradient of one plane of floats whose windows are 2x2, side by side from its corner on.
void MaxPoolHalvesGradAvx2(const Window& w, const float* dy, const float* x, float* dx);

}  // namespace minim
