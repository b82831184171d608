// Scaled and shifted channels of pixels that have their channels side by side.
#pragma once

#include <cstdint>
#include <string_view>

#include "minim/dtype.h"

namespace minim {

/// Some pixels of one image, and where in the result they go.
template <typename X, typename Y>
struct ScaledPart {
  const X* x = nullptr;
  Y* y = nullptr;
  const float *scale = nullptr, *shift = nullptr;
  int64_t channels = 0, pixels = 0;
  int64_t stride = 0;  // of the result's pixels
  float low = 0;       // no result is lower
  float x_scale = 1;   // of bytes
  int32_t x_zero = 0;
  float y_scale = 1;  // of bytes: in (1e-20, 1e30) where a level divides by multiplications
  int32_t y_zero = 0;
};

/// y[p * stride + c] = max(x[p * channels + c] * scale[c] + shift[c], low), NaN staying, each
/// operation in FP32; x of bytes is (x - x_zero) * x_scale, and bytes of the result as
/// QuantizeLinear makes them.
template <typename X, typename Y>
using ScalePart = void (*)(const ScaledPart<X, Y>& part);

struct ConcatScaleLevel {
  std::string_view name;
  bool divides;  // by any y_scale
  ScalePart<float, float> f32;
  ScalePart<BFloat16, BFloat16> bf16;
  ScalePart<uint8_t, float> u8_f32;
  ScalePart<float, uint8_t> f32_u8;
  ScalePart<uint8_t, uint8_t> u8;
};

const ConcatScaleLevel& ConcatScalesPortable();
const ConcatScaleLevel& ConcatScalesAvx512();
/// Rounds by the processor's instruction: results in BF16 below 2^-126 become zero.
const ConcatScaleLevel& ConcatScalesBf16();

}  // namespace minim
