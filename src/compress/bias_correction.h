// Bias correction (Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias
// Correction", 2019): rounded weights shift the mean of each output channel; the bias takes that
// back.
#pragma once

#include <vector>

#include "compress/range_choice.h"
#include "compress/weight_codes.h"

namespace minim {

/// What to add to the bias of each output channel: the sum of (weight - rounded weight) * E[input].
/// `axis` is that of the output channels of the weights, 0 with inputs along axis 1 (of a group:
/// Conv, transposed Gemm) or 1 with inputs along axis 0. Zeros if the profile has no mean for
/// these inputs. Window positions beyond the edge of an image count as the mean.
std::vector<float> BiasShift(const Tensor& weights, const QuantizedWeights& rounded, int axis,
                             int64_t groups, const ValueProfile& input);

}  // namespace minim
