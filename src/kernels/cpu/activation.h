// The activations that matrix products and convolutions apply before they store.
#pragma once

#include <limits>

#include "kernels/cpu/table.h"

namespace minim {

struct Activation {
  enum Kind : uint8_t {
    kNone,
    kRelu,
    kLeakyRelu,
    kClip,
    kSigmoid,
    kTanh,
    kHardSigmoid,
    kElu,
    kGelu
  };
  Kind kind = kNone;
  float a = 0, b = 0;

  /// Whether it does no more than clamp to [low(), high()].
  bool clamp() const { return kind == kNone || kind == kRelu || kind == kClip; }
  /// Whether kernels that keep their sums in registers or tiles apply it as they store.
  bool stored() const { return clamp() || kind == kGelu; }
  float low() const {
    return kind == kRelu ? 0 : (kind == kClip ? a : -std::numeric_limits<float>::infinity());
  }
  float high() const { return kind == kClip ? b : std::numeric_limits<float>::infinity(); }
};

/// FusedGemm: `activation`, `activation_alpha`, `activation_beta`; FusedConv: `activation`,
/// `activation_params`. Errors: kUnsupported names the activation.
Result<Activation> ActivationOf(const Attributes& attributes);

/// What happens to a finished tile: y = act(alpha * y + biases + beta * residual).
struct Epilogue {
  float alpha = 1, beta = 1;
  const float* column_bias = nullptr;  // one per column, times beta
  const float* row_bias = nullptr;     // one per row, times beta
  const float* residual = nullptr;     // laid out as C, times beta
  int64_t residual_stride = 0;
  Activation activation;

  bool empty() const {
    return alpha == 1 && !column_bias && !row_bias && !residual && activation.kind == 0;
  }
  /// The same epilogue for the block of C that starts at (row, column).
  Epilogue At(int64_t row, int64_t column) const {
    Epilogue e = *this;
    if (e.column_bias) e.column_bias += column;
    if (e.row_bias) e.row_bias += row;
    if (e.residual) e.residual += row * residual_stride + column;
    return e;
  }
};

}  // namespace minim
