// Row-wise FP32 functions compiled once per instruction-set level, without contraction: the same
// bits at every level, but for functions by polynomials (elementwise_functions.h) and what is
// centered, which the portable level does without fused multiply-add.
#pragma once

#include <limits>

#include "kernels/cpu/table.h"

namespace minim {

/// What an optimizer makes of a gradient g of the parameter x before using it:
/// clamp(g * inverse_scale * coefficient, +-limit) + decay * x, from left to right.
struct GradientRule {
  float inverse_scale = 1, coefficient = 1;
  float limit = std::numeric_limits<float>::infinity();
  float decay = 0;
};
/// v = alpha * v + (1 - alpha) * g; h = beta * h + (1 - beta) * g^2;
/// the direction is rate * v / (sqrt(h) * root_scale + epsilon), taken from keep * x.
struct AdamStep {
  GradientRule gradient;
  float alpha, beta, epsilon, keep, rate, root_scale;
};
/// v = alpha * v + beta * g; x is lowered by rate * v, or rate * (g + alpha * v).
struct MomentumStep {
  GradientRule gradient;
  float alpha, beta, rate;
  bool nesterov;
};
struct AdagradStep {
  GradientRule gradient;
  float epsilon, rate;
};
/// h = alpha * h + (1 - alpha) * g^2; v = momentum * v + g / (sqrt(h) + epsilon).
struct RmspropStep {
  GradientRule gradient;
  float alpha, epsilon, momentum, rate;
};
/// Of some gradients times an inverse scale.
struct GradientSums {
  float squares = 0;
  bool finite = true;
};

/// Functions over contiguous data. n: elements along the axis, inner: elements between them.
struct RowLevel {
  std::string_view name;
  /// Softmax (or its logarithm) of n values `inner` apart, for each of `inner` columns.
  void (*softmax)(const float* src, float* dst, int64_t n, int64_t inner, bool log);
  /// row = e^(x - the largest x) with x = row * scale + mask, of n values; `mask` may be null. The
  /// inverse of their sum, by which they become the softmax of x; 0 of no values.
  float (*attend)(float* row, float scale, const float* mask, int64_t n);
  /// Writes y = (x - mean) * inverse deviation * scale + bias; scale and bias may be null.
  void (*layer_norm)(const float* x, const float* scale, const float* bias, float epsilon,
                     int64_t n, float* y, float* mean, float* inverse);
  float (*sum)(const float* x, int64_t n);
  /// The sum of (x - mean)^2.
  float (*square_deviations)(const float* x, float mean, int64_t n);
  /// y = x * scale + shift.
  void (*affine)(const float* x, float scale, float shift, int64_t n, float* y);
  /// y = (x - mean) * scale + bias.
  void (*centered)(const float* x, float mean, float scale, float bias, int64_t n, float* y);
  /// y = x / (bias + alpha * sum)^beta.
  void (*lrn)(const float* x, const float* sum, float alpha, float beta, float bias, int64_t n,
              float* y);
  void (*adam)(const AdamStep& s, const float* x, const float* g, const float* v, const float* h,
               int64_t n, float* x_new, float* v_new, float* h_new);
  void (*momentum)(const MomentumStep& s, const float* x, const float* g, const float* v, int64_t n,
                   float* x_new, float* v_new);
  void (*adagrad)(const AdagradStep& s, const float* x, const float* g, const float* h, int64_t n,
                  float* x_new, float* h_new);
  /// Without momentum v and v_new are null.
  void (*rmsprop)(const RmspropStep& s, const float* x, const float* g, const float* h,
                  const float* v, int64_t n, float* x_new, float* h_new, float* v_new);
  void (*sgd)(const GradientRule& gradient, float rate, const float* x, const float* g, int64_t n,
              float* x_new);
  /// The moments of Adam, and the squares of x and of the direction plus keep * x, summed.
  void (*lamb_moments)(const AdamStep& s, const float* x, const float* g, const float* v,
                       const float* h, int64_t n, float* v_new, float* h_new, float* squares);
  /// x less `trust` times (the direction plus keep * x).
  void (*lamb_apply)(const AdamStep& s, float trust, const float* x, const float* v, const float* h,
                     int64_t n, float* x_new);
  GradientSums (*gradient_sums)(const float* g, float inverse_scale, int64_t n);
  /// Of the first `count` elements of a group, see core/group_codes.h; `range` is low and step.
  void (*encode_group)(const float* x, int64_t count, int bits, uint64_t seed, uint64_t stream,
                       int64_t group, uint8_t* codes, float* range);
  void (*decode_group)(const uint8_t* codes, const float* range, int bits, int64_t count, float* y);
};

const RowLevel& RowsPortable();
const RowLevel& RowsAvx2();
const RowLevel& RowsAvx512();
/// For kernels that need AVX2 at least.
inline const RowLevel& WidestRows(Isa isa) {
  return isa >= Isa::kAvx512 ? RowsAvx512() : RowsAvx2();
}

}  // namespace minim
