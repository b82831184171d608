// A square of 4x4 floats turned in registers, in the 16-byte vectors that every supported CPU has.
// Included by sources that are compiled once per level: everything here has internal linkage.
#pragma once

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

}  // namespace
}  // namespace minim
