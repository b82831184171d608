// The floats of at most 8 bits: rounding, and the choices that ONNX's Cast offers for them.
#pragma once

#include "minim/dtype.h"

namespace minim {

/// Rounds a positive finite number to `mantissa_bits` stored bits, to nearest even; the result is a
/// format's bits without sign, under an exponent field that may grow without end.
uint32_t RoundMagnitude(double magnitude, int mantissa_bits, int min_exponent);

/// To the neighbouring power of two: E8M0 only.
enum class PowerRounding : uint8_t { kUp, kDown, kNearest };

/// What becomes of values that a format does not hold. Saturating, they turn into the nearest one
/// that it does; else into infinity or NaN.
struct SmallCast {
  bool saturate = true;
  PowerRounding power = PowerRounding::kUp;
};

/// The value to convert to a small float dtype so that it ends as ONNX's tables for Cast say. E8M0
/// has no sign: negative values, which ONNX leaves open, become NaN.
double CastToSmall(double value, DType dtype, const SmallCast& cast);

}  // namespace minim
