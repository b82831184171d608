// Squares of 4x4 floats, 8x8 halves and 16x16 bytes turned in registers, in the 16-byte vectors
// that every supported CPU has. Included by sources that are compiled once per level: everything
// here has internal linkage.
#pragma once

#include <cstdint>

namespace minim {
namespace {

using Four = float __attribute__((vector_size(16)));

/// Element j of y[i] is element i of x[j].
inline void TurnSquare(const Four (&x)[4], Four (&y)[4]) {
  const Four a = __builtin_shufflevector(x[0], x[1], 0, 4, 1, 5),
             b = __builtin_shufflevector(x[2], x[3], 0, 4, 1, 5),
             c = __builtin_shufflevector(x[0], x[1], 2, 6, 3, 7),
             d = __builtin_shufflevector(x[2], x[3], 2, 6, 3, 7);
  y[0] = __builtin_shufflevector(a, b, 0, 1, 4, 5);
  y[1] = __builtin_shufflevector(a, b, 2, 3, 6, 7);
  y[2] = __builtin_shufflevector(c, d, 0, 1, 4, 5);
  y[3] = __builtin_shufflevector(c, d, 2, 3, 6, 7);
}

using Eight = uint16_t __attribute__((vector_size(16)));

/// y: rows i and i + 4 of x interleaved, for each i. Three times over, that turns the square.
inline void Interleave(const Eight (&x)[8], Eight (&y)[8]) {
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    y[2 * i] = __builtin_shufflevector(x[i], x[i + 4], 0, 8, 1, 9, 2, 10, 3, 11);
    y[2 * i + 1] = __builtin_shufflevector(x[i], x[i + 4], 4, 12, 5, 13, 6, 14, 7, 15);
  }
}
inline void TurnSquare(const Eight (&x)[8], Eight (&y)[8]) {
  Eight z[8];
  Interleave(x, y);
  Interleave(y, z);
  Interleave(z, y);
}

using Sixteen = uint8_t __attribute__((vector_size(16)));

/// y: rows i and i + 8 of x interleaved, for each i. Four times over, that turns the square.
inline void Interleave(const Sixteen (&x)[16], Sixteen (&y)[16]) {
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    y[2 * i] = __builtin_shufflevector(x[i], x[i + 8], 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6,
                                       22, 7, 23);
    y[2 * i + 1] = __builtin_shufflevector(x[i], x[i + 8], 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13,
                                           29, 14, 30, 15, 31);
  }
}
inline void TurnSquare(const Sixteen (&x)[16], Sixteen (&y)[16]) {
  Sixteen z[16];
  Interleave(x, y);
  Interleave(y, z);
  Interleave(z, y);
  Interleave(y, z);
  for (int i = 0; i < 16; ++i) y[i] = z[i];
}

}  // namespace
}  // namespace minim
