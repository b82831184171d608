// What the levels of depthwise_rows.h share.
#pragma once

#include <immintrin.h>

#include "kernels/cpu/depthwise_rows.h"

namespace minim {
namespace {

// Calls f(rows under the taps of each, masks, first output column, outputs, where they go) for each
// vector of outputs.
template <typename T, typename Out, typename F>
inline void ForEachVector(const DepthwiseRows& r, const T* image, const T* padding, Out* dst,
                          F&& f) {
  const Window& w = r.w;
  const T* rows[kMostPlaneTaps];
  for (int64_t y = 0; y < w.out[1]; ++y, dst += w.out[2]) {
    for (int64_t tap = 0; tap < w.kernel[1]; ++tap) {
      const int64_t at = y * w.stride[1] - w.begin[1] + tap * w.dilation[1];
      rows[tap] = at >= 0 && at < w.in[1] ? image + at * w.in[2] : padding;
    }
    for (int64_t x = 0, i = 0; x < w.out[2]; x += r.lanes, ++i) {
      const int64_t left = w.out[2] - x;
      f(rows, r.MasksOf(i), x, left < r.lanes ? left : r.lanes, dst + x);
    }
  }
}

// Taps of a row and rows of taps, known to the compiler unless 0.
template <int size>
struct Taps {
  static int64_t Of(int64_t given) { return size > 0 ? size : given; }
};

}  // namespace
}  // namespace minim
