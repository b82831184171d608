// Convolution of bytes with the channels last, and products of rows as such: what tiles are given.
#pragma once

#include <string_view>

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

/// A level's; each makes `pixels` of them.
struct NhwcIntLevel {
  std::string_view name;
  double quads_per_thread = 0;  // products that take about 6 us, worth waking a thread for
  void (*to_bytes)(const NhwcInts& ints, int64_t pixels);
  void (*to_floats)(const NhwcIntsToFloats& ints, int64_t pixels) = nullptr;
  /// As NhwcCuts has them.
  bool joins_lines = false;
  void (*release)() = nullptr;
};

const NhwcIntLevel& NhwcIntPortable();  // no to_floats
const NhwcIntLevel& NhwcIntVnni();
const NhwcIntLevel& NhwcIntAmx();

}  // namespace minim
