// Convolution of bytes with the channels last, and products of rows as such: what tiles are given.
#pragma once

#include <string_view>

#include "kernels/cpu/nhwc_cuts.h"
#include "kernels/cpu/quotient.h"

namespace minim {

/// What becomes of bytes y beside those of another image, z, of the same type: y * y_scale + z *
/// z_scale, each less its zero point, no less than zero where it `rectifies`, quantized anew.
struct NhwcShortcut {
  float y_scale = 1, z_scale = 1;
  int32_t z_zero = 0, zero_point = 0;
  bool rectifies = false;
  StepDivisor divisor;  // its bounds past every byte, whatever the zero point
};

/// dst[i, j] = Requantize(scales[j] * (starts[j] + sum)), in bytes.
struct NhwcInts {
  NhwcRun run;
  const int32_t* starts = nullptr;  // panels * 16
  const float* scales = nullptr;    // panels * 16
  bool is_signed = false;           // the result
  int32_t zero_point = 0;
  const NhwcShortcut* shortcut = nullptr;  // for to_sums
  const std::byte* z = nullptr;            // with the steps of run.dst
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
  void (*to_sums)(const NhwcInts& ints, int64_t pixels);  // those bytes, as `shortcut` says
  bool divides = false;                                   // to_sums takes any scales
  void (*to_floats)(const NhwcIntsToFloats& ints, int64_t pixels) = nullptr;
  /// As NhwcCuts has them.
  bool joins_lines = false;
  void (*release)() = nullptr;
};

const NhwcIntLevel& NhwcIntPortable();  // no to_floats
const NhwcIntLevel& NhwcIntVnni();
const NhwcIntLevel& NhwcIntAmx();

}  // namespace minim
