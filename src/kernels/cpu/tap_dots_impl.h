// The bodies of TapDotsLevel. Define MINIM_TAP_DOTS and MINIM_TAP_DOTS_NAME first.
#pragma once

#include "kernels/cpu/simd.h"
#include "kernels/cpu/tap_dots.h"

namespace minim {
namespace {

// 12 sums, three vectors of the image and one of the gradient: 16 registers.
template <int rows>
void AddDots(const TapDots& d) {
  Vec sum[rows][kDotTaps];
#pragma GCC unroll 4
  for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 3
    for (int t = 0; t < kDotTaps; ++t) sum[r][t] = Load(d.sums + (r * kDotTaps + t) * kLanes);
  }
  for (int64_t image = 0; image < d.images; ++image) {
    for (int64_t line = 0; line < d.lines; ++line) {
      const float* dy = d.dy + image * d.dy_image + line * d.dy_line;
      const float* base = d.x + image * d.x_image + line * d.x_line;
      const float* x[kDotTaps];
      for (int t = 0; t < kDotTaps; ++t) x[t] = base + d.taps[t];
      for (int64_t p = 0; p < d.length; p += kLanes) {
        Vec tap[kDotTaps];
#pragma GCC unroll 3
        for (int t = 0; t < kDotTaps; ++t) tap[t] = Load(x[t] + p);
#pragma GCC unroll 4
        for (int r = 0; r < rows; ++r) {
          const Vec g = Load(dy + r * d.dy_plane + p);
#pragma GCC unroll 3
          for (int t = 0; t < kDotTaps; ++t) sum[r][t] = MulAdd(g, tap[t], sum[r][t]);
        }
      }
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 3
    for (int t = 0; t < kDotTaps; ++t) Store(d.sums + (r * kDotTaps + t) * kLanes, sum[r][t]);
  }
}

void AddTapDots(const TapDots& args) {
  switch (args.rows) {
    case 1: return AddDots<1>(args);
    case 2: return AddDots<2>(args);
    case 3: return AddDots<3>(args);
    default: return AddDots<4>(args);
  }
}

float TotalOf(const float* sum) {
  float total = 0;
  for (int i = 0; i < kLanes; ++i) total += sum[i];
  return total;
}

}  // namespace

const TapDotsLevel& MINIM_TAP_DOTS() {
  static constexpr TapDotsLevel kLevel = {MINIM_TAP_DOTS_NAME, kLanes, AddTapDots, TotalOf};
  return kLevel;
}

}  // namespace minim
