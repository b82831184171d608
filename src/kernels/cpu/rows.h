// Row-wise FP32 functions compiled once per instruction-set level, without contraction: the same
// bits at every level.
#pragma once

#include "kernels/cpu/table.h"

namespace minim {

struct AdamStep {
  float alpha, beta, epsilon, norm, post, rate;  // rate: already adjusted by the step count
};
struct MomentumStep {
  float alpha, beta, norm, rate;
  bool nesterov;
};
struct AdagradStep {
  float epsilon, norm, rate;
};

/// Functions over contiguous data. n: elements along the axis, inner: elements between them.
struct RowLevel {
  std::string_view name;
  /// Softmax (or its logarithm) of n values `inner` apart, for each of `inner` columns.
  void (*softmax)(const float* src, float* dst, int64_t n, int64_t inner, bool log);
  /// Writes y = (x - mean) * inverse deviation * scale + bias; scale and bias may be null.
  void (*layer_norm)(const float* x, const float* scale, const float* bias, float epsilon,
                     int64_t n, float* y, float* mean, float* inverse);
  /// y = x * scale + shift.
  void (*affine)(const float* x, float scale, float shift, int64_t n, float* y);
  /// y = x / (bias + alpha * sum)^beta.
  void (*lrn)(const float* x, const float* sum, float alpha, float beta, float bias, int64_t n,
              float* y);
  void (*adam)(const AdamStep& s, const float* x, const float* g, const float* v, const float* h,
               int64_t n, float* x_new, float* v_new, float* h_new);
  void (*momentum)(const MomentumStep& s, const float* x, const float* g, const float* v, int64_t n,
                   float* x_new, float* v_new);
  void (*adagrad)(const AdagradStep& s, const float* x, const float* g, const float* h, int64_t n,
                  float* x_new, float* h_new);
};

const RowLevel& RowsPortable();
const RowLevel& RowsAvx2();

}  // namespace minim
