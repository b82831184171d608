// The bodies of IntWinogradLevel. Define MINIM_INT_WINOGRAD and MINIM_INT_WINOGRAD_NAME first.
#pragma once

#include <cstring>

#include "kernels/cpu/int_winograd.h"

namespace minim {
namespace {

#ifdef __AVX2__
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif
typedef int16_t Shorts __attribute__((vector_size(kVectorBytes)));
typedef uint32_t Words __attribute__((vector_size(kVectorBytes)));  // wrap
typedef int32_t Ints __attribute__((vector_size(kVectorBytes)));
constexpr int64_t kLanes32 = kVectorBytes / 4;

template <typename V>
inline V LoadLanes(const void* src) {
  V x;
  std::memcpy(&x, src, sizeof(x));
  return x;
}
template <typename V>
inline void StoreLanes(void* dst, const V& x) {
  std::memcpy(dst, &x, sizeof(x));
}

// B^T x
inline void TransformIn(const Shorts (&x)[6], Shorts (&y)[6]) {
  const Shorts even = x[4] - 4 * x[2], odd = x[3] - 4 * x[1];
  const Shorts near = x[4] - x[2], far = 2 * (x[3] - x[1]);
  y[0] = 4 * x[0] - 5 * x[2] + x[4];
  y[1] = even + odd;
  y[2] = even - odd;
  y[3] = near + far;
  y[4] = near - far;
  y[5] = 4 * x[1] - 5 * x[3] + x[5];
}

// A^T x, with the factors that the rows of G are multiplied by.
inline void TransformOut(const Words (&x)[6], Words (&y)[4]) {
  const Words even1 = x[1] + x[2], odd1 = x[1] - x[2], even2 = x[3] + x[4], odd2 = x[3] - x[4];
  y[0] = 6 * x[0] + 4 * even1 + even2;
  y[1] = 2 * odd1 + odd2;
  y[2] = even1 + even2;
  y[3] = odd1 + 2 * odd2 + 6 * x[5];
}
constexpr int kShifts[4] = {3, 2, 1, 1};
constexpr uint32_t kInverseOf9 = 0x38E38E39;
static_assert(kInverseOf9 * 9u == 1);

void InputTiles(const float* tiles, float* transformed, int64_t tap) {
  for (int64_t lane = 0; lane < kPanel; lane += kLanes32) {
    Shorts columns[6][6];  // [row after the transform][column]
    for (int c = 0; c < 6; ++c) {
      Shorts x[6], y[6];
#pragma GCC unroll 6
      for (int r = 0; r < 6; ++r) x[r] = LoadLanes<Shorts>(tiles + (r * 6 + c) * kPanel + lane);
      TransformIn(x, y);
#pragma GCC unroll 6
      for (int r = 0; r < 6; ++r) columns[r][c] = y[r];
    }
    for (int r = 0; r < 6; ++r) {
      Shorts y[6];
      TransformIn(columns[r], y);
#pragma GCC unroll 6
      for (int c = 0; c < 6; ++c) StoreLanes(transformed + (r * 6 + c) * tap + lane, y[c]);
    }
  }
}

// Lanes of four vectors as one row: lane 0 of each, then lane 1 of each, ...
inline void StoreInterleaved(const Ints (&y)[4], int32_t* dst) {
#ifdef __AVX2__
  const Ints a = __builtin_shufflevector(y[0], y[1], 0, 8, 1, 9, 4, 12, 5, 13),
             b = __builtin_shufflevector(y[2], y[3], 0, 8, 1, 9, 4, 12, 5, 13),
             c = __builtin_shufflevector(y[0], y[1], 2, 10, 3, 11, 6, 14, 7, 15),
             d = __builtin_shufflevector(y[2], y[3], 2, 10, 3, 11, 6, 14, 7, 15);
  const Ints rows[4] = {__builtin_shufflevector(a, b, 0, 1, 8, 9, 4, 5, 12, 13),
                        __builtin_shufflevector(a, b, 2, 3, 10, 11, 6, 7, 14, 15),
                        __builtin_shufflevector(c, d, 0, 1, 8, 9, 4, 5, 12, 13),
                        __builtin_shufflevector(c, d, 2, 3, 10, 11, 6, 7, 14, 15)};
  StoreLanes(dst, Ints(__builtin_shufflevector(rows[0], rows[1], 0, 1, 2, 3, 8, 9, 10, 11)));
  StoreLanes(dst + 8, Ints(__builtin_shufflevector(rows[2], rows[3], 0, 1, 2, 3, 8, 9, 10, 11)));
  StoreLanes(dst + 16, Ints(__builtin_shufflevector(rows[0], rows[1], 4, 5, 6, 7, 12, 13, 14, 15)));
  StoreLanes(dst + 24, Ints(__builtin_shufflevector(rows[2], rows[3], 4, 5, 6, 7, 12, 13, 14, 15)));
#else
  for (int lane = 0; lane < kLanes32; ++lane)
    StoreLanes(dst + 4 * lane, Ints{y[0][lane], y[1][lane], y[2][lane], y[3][lane]});
#endif
}

void OutputTiles(const int32_t* sums, int64_t tap, int32_t start, int32_t* pixels) {
  for (int64_t lane = 0; lane < kPanel; lane += kLanes32) {
    Words columns[4][6];
    for (int c = 0; c < 6; ++c) {
      Words x[6], y[4];
#pragma GCC unroll 6
      for (int r = 0; r < 6; ++r) x[r] = LoadLanes<Words>(sums + (r * 6 + c) * tap + lane);
      TransformOut(x, y);
#pragma GCC unroll 4
      for (int r = 0; r < 4; ++r) columns[r][c] = y[r];
    }
    for (int r = 0; r < 4; ++r) {
      Words y[4];
      Ints exact[4];
      TransformOut(columns[r], y);
#pragma GCC unroll 4
      for (int c = 0; c < 4; ++c) {
        const Ints scaled = (Ints)(y[c] * kInverseOf9);
        exact[c] =
            (Ints)((Words)(scaled >> (kShifts[r] + kShifts[c])) + static_cast<uint32_t>(start));
      }
      StoreInterleaved(exact, pixels + r * kPanel * kWinogradOut + lane * kWinogradOut);
    }
  }
}

}  // namespace

const IntWinogradLevel& MINIM_INT_WINOGRAD() {
  static constexpr IntWinogradLevel kLevel = {MINIM_INT_WINOGRAD_NAME, InputTiles, OutputTiles};
  return kLevel;
}

}  // namespace minim
