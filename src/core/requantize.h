// The rounding formulas of quantized arithmetic, shared by kernels and reference evaluators so that
// both give the same bits.
#pragma once

#include <cmath>
#include <cstdint>

namespace minim {

/// saturate(round_half_even(x) + zero_point) to [low, high]; NaN becomes `low`. The bounds and the
/// zero point are at most 16-bit values, so their differences are exact in float.
inline int32_t Requantize(float x, int32_t zero_point, int32_t low, int32_t high) {
  const float least = static_cast<float>(low - zero_point);
  const float most = static_cast<float>(high - zero_point);
  const float rounded = std::nearbyint(x);
  const float bounded = rounded >= least ? rounded : least;
  return static_cast<int32_t>(bounded > most ? most : bounded) + zero_point;
}

/// The factor from an integer sum to steps of the result.
inline float RequantizeScale(float a_scale, float b_scale, float y_scale) {
  return a_scale * b_scale / y_scale;
}

/// An integer sum of per-row quantized activations and per-column quantized weights, as a float.
inline float DequantizeSum(int32_t sum, float row_scale, float column_scale) {
  return static_cast<float>(sum) * row_scale * column_scale;
}

}  // namespace minim
