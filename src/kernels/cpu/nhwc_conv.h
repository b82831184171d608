// Convolution of floats or BF16 with the channels last, and products of rows as such: what tiles
// are given.
#pragma once

#include "kernels/cpu/nhwc_cuts.h"

namespace minim {

/// dst[i, j] = min(high, max(low, starts[j] + sum + residual[i, j])), in floats; NaN stays. With
/// `gelu`, which halves have, Gelu in the place of the bounds.
struct NhwcFloats {
  NhwcRun run;
  const float* starts = nullptr;        // panels * 16
  const std::byte* residual = nullptr;  // laid out as dst, or null
  float low = 0, high = 0;
  bool gelu = false;
};

/// `pixels` of them.
using RunNhwcFloats = void (*)(const NhwcFloats& floats, int64_t pixels);
void RunNhwcFloatsPortable(const NhwcFloats& floats, int64_t pixels);
void RunNhwcFloatsAvx512(const NhwcFloats& floats, int64_t pixels);

/// The same of an image, filters, residual and result of BF16: the sums are floats, rounded once. A
/// value past a segment of an odd number of them meets a filter's 0, so it must be finite.
using NhwcHalves = NhwcFloats;
using RunNhwcHalves = void (*)(const NhwcHalves& halves, int64_t pixels);

/// B[k,n] of BF16 with element strides (row, column).
struct HalfColumns {
  const BFloat16* b = nullptr;
  int64_t row = 0, column = 1, k = 0, n = 0;
};

/// The functions of one instruction-set level.
struct NhwcHalfLevel {
  std::string_view name;
  double products_per_thread = 0;  // of multiply-adds, worth another one
  double least_products = 0;       // of a product of rows: fewer do not pay for the start
  RunNhwcHalves run = nullptr;
  /// As NhwcFilters::Columns packs.
  void (*pack)(const HalfColumns& columns, std::byte* packed) = nullptr;
  bool joins_lines = false;  // as NhwcCuts has them
  void (*release)() = nullptr;
};
const NhwcHalfLevel& NhwcHalfBf16();
const NhwcHalfLevel& NhwcHalfAmx();

/// `count` biases of `dtype`, or zeros if null, then zeros up to `filled`.
void FillStarts(const void* bias, DType dtype, int64_t count, int64_t filled, float* starts);

}  // namespace minim
