// The bodies of TapDotsLevel. Define MINIM_TAP_DOTS and MINIM_TAP_DOTS_NAME first.
#pragma once

#include "kernels/cpu/simd.h"
#include "kernels/cpu/tap_dots.h"

namespace minim {
namespace {

// Twelve sums, three vectors of the image and one of the gradient are 16 registers, of which
// AVX-512 has twice as many.
constexpr int64_t kDotRows = kLanes == 16 ? 8 : 4;

template <int rows>
void AddDots(const TapDots& d) {
  Vec sum[rows][kDotTaps];
#pragma GCC unroll 8
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
#pragma GCC unroll 8
        for (int r = 0; r < rows; ++r) {
          const Vec g = Held(Load(dy + r * d.dy_plane + p));
#pragma GCC unroll 3
          for (int t = 0; t < kDotTaps; ++t) sum[r][t] = MulAdd(g, tap[t], sum[r][t]);
        }
      }
    }
  }
#pragma GCC unroll 8
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
    case 4: return AddDots<4>(args);
    default: break;
  }
  if constexpr (kDotRows == 8) {
    switch (args.rows) {
      case 5: return AddDots<5>(args);
      case 6: return AddDots<6>(args);
      case 7: return AddDots<7>(args);
      default: return AddDots<8>(args);
    }
  }
}

float TotalOf(const float* sum) {
  float total = 0;
  for (int i = 0; i < kLanes; ++i) total += sum[i];
  return total;
}

}  // namespace

const TapDotsLevel& MINIM_TAP_DOTS() {
  static constexpr TapDotsLevel kLevel = {MINIM_TAP_DOTS_NAME, kDotRows, kLanes, AddTapDots,
                                          TotalOf};
  return kLevel;
}

}  // namespace minim
