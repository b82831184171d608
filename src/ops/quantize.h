// The rounding rules that quantized ops share.
#pragma once

#include <cstdint>
#include <span>

#include "minim/dtype.h"

namespace minim::ops {

/// To the nearest integer, ties to even; NaN and infinities stay.
double RoundHalfEven(double x);
/// The nearest value of an integer dtype.
int64_t Saturate(double value, DType dtype);

/// Scale and zero point of DynamicQuantizeLinear.
struct DynamicScale {
  float scale = 1;
  int64_t zero = 0;
  int64_t Quantize(double x) const;
};
DynamicScale DynamicScaleOf(std::span<const double> x);

}  // namespace minim::ops
