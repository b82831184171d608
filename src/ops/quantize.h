// The rounding rules that quantized ops share.
#pragma once

#include <cstdint>
#include <span>

#include "core/error.h"
#include "minim/dtype.h"

namespace minim {
class InferContext;
}

namespace minim::ops {

/// To the nearest integer, ties to even; NaN and infinities stay.
double RoundHalfEven(double x);
/// The nearest value of an integer dtype.
int64_t Saturate(double value, DType dtype);

/// An error unless inputs `value` and `zero` are of one byte type and `scale` is a float. Omitted
/// inputs pass, and so does -1.
Status CheckQuantized(const InferContext& op, int value, int scale, int zero);

/// Scale and zero point of DynamicQuantizeLinear.
struct DynamicScale {
  float scale = 1;
  int64_t zero = 0;
  int64_t Quantize(double x) const;
};
DynamicScale DynamicScaleOf(std::span<const double> x);

}  // namespace minim::ops
