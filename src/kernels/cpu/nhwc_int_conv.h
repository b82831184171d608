// Convolution of bytes with the channels last, and products of rows as such: what tiles are given.
#pragma once

#include "kernels/cpu/nhwc_cuts.h"

namespace minim {

/// dst[i, j] = Requantize(scales[j] * (starts[j] + sum)), in bytes.
struct NhwcInts {
  NhwcRun run;
  const int32_t* starts = nullptr;  // panels * 16
  const float* scales = nullptr;    // panels * 16
  bool is_signed = false;           // the result
  int32_t zero_point = 0;
};

/// dst[i, j] = scales[j] * (starts[j] + sum) + bias[j], in floats.
struct NhwcIntsToFloats {
  NhwcRun run;
  const int32_t* starts = nullptr;  // panels * 16
  const float* scales = nullptr;    // panels * 16
  const float* bias = nullptr;      // run.filters, or none
};

/// `pixels` of them.
void RunNhwcIntsPortable(const NhwcInts& ints, int64_t pixels);
void RunNhwcIntsVnni(const NhwcInts& ints, int64_t pixels);
void RunNhwcIntsToFloatsVnni(const NhwcIntsToFloats& ints, int64_t pixels);

}  // namespace minim
