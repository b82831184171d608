// Weights as integers: rounding and scales.
#pragma once

#include <vector>

#include "minim/tensor.h"

namespace minim {

struct QuantizedWeights {
  Tensor values;              // s8, the dims of the weights
  std::vector<float> scales;  // per channel of `axis`
};
/// Of an integer bias, in steps: safely inside int32 after rounding.
inline constexpr float kMostBias = 2147483000.0f;

/// Symmetric per channel, or of axis -1 with one scale: max|w|/127, never below
/// `least_scale[channel]` if given.
QuantizedWeights QuantizeWeights(const Tensor& weights, int axis,
                                 const std::vector<float>& least_scale = {});

/// A view of weights as [outer, channels, inner] around an axis; of axis -1 all is one channel.
struct ChannelRuns {
  int64_t outer = 1, channels = 1, inner = 1;

  ChannelRuns(const Dims& dims, int axis)
      : outer(axis < 0 ? 1 : dims.Elements(0, axis)),
        channels(axis < 0 ? 1 : dims[axis]),
        inner(dims.Elements(axis + 1, dims.rank())) {}

  /// f(channel, first element, elements) for every run.
  template <typename F>
  void ForEach(F&& f) const {
    for (int64_t o = 0; o < outer; ++o)
      for (int64_t c = 0; c < channels; ++c) f(c, (o * channels + c) * inner, inner);
  }
};

}  // namespace minim
