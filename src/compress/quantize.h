// Makes INT8 and BF16 variants of an FP32 graph, in standard ONNX.
#pragma once

#include "compress/calibrate.h"
#include "graph/graph.h"

namespace minim {

/// Static INT8 in QDQ form: activations u8 per tensor from min-max calibration, weights s8 per
/// output channel (symmetric, scale max|w|/127), bias s32 at scale s_x * s_w. Conv (batch norms are
/// folded into it first), Gemm and MatMul with constant weights; what lies between them as
/// value_choice.h has it.
Result<Graph> QuantizeStatic(const Graph& graph, const Dataset& calibration);

/// Dynamic INT8: Gemm and MatMul with constant weights quantize each row of their input at run
/// time, symmetric s8; an LSTM of 64 units or more becomes DynamicQuantizeLSTM. Convolutions stay
/// FP32. Errors: kUnsupported if nothing can be quantized.
Result<Graph> QuantizeDynamic(const Graph& graph);

/// Weights of Conv, Gemm, MatMul and recurrent layers stored in BF16 behind a Cast.
Result<Graph> StoreWeightsBf16(const Graph& graph);

struct QuantizedWeights {
  Tensor values;              // s8, the dims of the weights
  std::vector<float> scales;  // per channel of `axis`
};
/// Symmetric per channel: scale = max|w|/127, never below `least_scale[channel]` if given.
QuantizedWeights QuantizeWeights(const Tensor& weights, int axis,
                                 const std::vector<float>& least_scale = {});

}  // namespace minim
