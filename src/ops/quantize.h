// Arithmetic that the quantized ops share. All of it follows semantics of ONNX: true division in
// the scale's dtype, rounding half to even, saturation.
#pragma once

#include "ops/reference.h"

namespace minim::ops {

/// The nearest value of `dtype`, as f64.
double RoundTo(double value, DType dtype);
/// `value` clamped to the range of an integer dtype.
int64_t SaturateTo(double value, DType dtype);
/// saturate(round_half_even(x / scale) + zero_point), dividing in `scale_dtype`.
int64_t QuantizeOne(double x, double scale, int64_t zero_point, DType scale_dtype, DType dtype);
/// Input i's only element, or `fallback` when omitted.
int64_t ScalarInt(const RefContext& op, int i, int64_t fallback);

/// Where the scale of each element is: per tensor, along one axis, or in blocks of one axis.
class ScaleIndex {
 public:
  /// Errors: kInvalidArgument when the scale's shape fits none of the three.
  static Result<ScaleIndex> Make(const RefContext& op, const Dims& dims, const Dims& scale_dims);
  int64_t operator()(const Dims& index) const;

 private:
  int axis_ = -1;  // -1: per tensor
  int64_t block_ = 0;
  Dims strides_;
};

}  // namespace minim::ops
