// Comparing the answers of two ways to run a model, row by row.
#pragma once

#include <atomic>
#include <span>
#include <vector>

#include "minim/tensor.h"

namespace minim::serve {

struct Agreement {
  int64_t rows = 0;
  int64_t differing = 0;
};

/// True if any value of a floating-point tensor is NaN or infinite.
bool HasNonFinite(std::span<const Tensor> tensors);

/// Compares equally shaped answers of `rows` rows. A row differs if, in any output,
///   floats with two or more columns: another column is the largest (the class differs), and by
///     more than rounding: 0.1 % of the row's largest magnitude;
///   floats of one column: |a - b| > 5 % of the larger of |b| and the root mean square of b;
///   floats of a higher rank: |a - b|_2 > 5 % of |b|_2 of the row;
///   integers and bool: any value differs.
/// With rows = 0 the whole answer is one row (rows cannot be told apart).
/// Outputs of another dtype or dims than the other side's make every row differ.
Agreement CompareAnswers(std::span<const Tensor> answer, std::span<const Tensor> reference,
                         int64_t rows);

}  // namespace minim::serve
