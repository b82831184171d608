// Makes INT8 variants of an FP32 graph, in standard ONNX.
#pragma once

#include <set>
#include <string>

#include "compress/calibrate.h"
#include "compress/quantizable.h"
#include "graph/graph.h"

namespace minim {

/// The form that the functions below work on: constants are folded and batch norms are in the
/// weights, so that a convolution ends in its activation.
Result<Graph> PrepareForQuantization(const Graph& graph);

struct StaticOptions {
  Calibrator calibrator = Calibrator::kMinMax;
  double percentile = 99.99;     // of kPercentile
  bool symmetric = false;        // activations s8 with zero point 0; else u8
  bool per_channel = true;       // a weight scale per output channel; else one
  bool bias_correction = false;  // takes the mean error of the rounded weights off the bias
  /// Ops of QuantizableOps that stay FP32.
  std::set<std::string> keep_float = {};
};

/// Static INT8 in QDQ form: activations of 8 bits per tensor, weights s8 (symmetric, scale
/// max|w|/127), bias s32 at scale s_x * s_w; a bias that would not fit gets a larger s_w. What lies
/// between the quantized ops follows as value_choice.h has it.
/// `profile`: collected on `prepared`. The cost is that of rounding the weights, so many subsets
/// can be tried.
/// Errors: kUnsupported if nothing is left to quantize; kInvalidArgument for an unknown name in
/// `keep_float`, a percentile out of (50, 100] or a profile of another graph.
Result<Graph> QuantizeStatic(const Graph& prepared, const ActivationProfile& profile,
                             const StaticOptions& options = {});

/// Dynamic INT8: Gemm and MatMul with constant weights quantize each row of their input at run
/// time, symmetric s8; an LSTM of 64 units or more becomes DynamicQuantizeLSTM. Convolutions stay
/// FP32. Errors: kUnsupported if nothing can be quantized; kInvalidArgument as above.
Result<Graph> QuantizeDynamic(const Graph& graph, const std::set<std::string>& keep_float = {});

}  // namespace minim
