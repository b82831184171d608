#include "compress/weight_codes.h"

#include <algorithm>
#include <cmath>

namespace minim {

QuantizedWeights QuantizeWeights(const Tensor& weights, int axis,
                                 const std::vector<float>& least_scale) {
  const ChannelRuns runs(weights.dims(), axis);
  const auto w = weights.as<float>();
  QuantizedWeights result{Tensor(DType::i8, weights.dims()),
                          std::vector<float>(static_cast<size_t>(runs.channels), 0)};
  runs.ForEach([&](int64_t c, int64_t first, int64_t n) {
    for (int64_t i = first; i < first + n; ++i)
      result.scales[c] = std::max(result.scales[c], std::fabs(w[i]));
  });
  for (size_t c = 0; c < result.scales.size(); ++c) {
    float& scale = result.scales[c];
    scale /= 127;
    if (c < least_scale.size()) scale = std::max(scale, least_scale[c]);
    if (scale == 0) scale = 1;
  }
  const auto q = result.values.as<int8_t>();
  runs.ForEach([&](int64_t c, int64_t first, int64_t n) {
    for (int64_t i = first; i < first + n; ++i)
      q[i] =
          static_cast<int8_t>(std::clamp(std::nearbyint(w[i] / result.scales[c]), -127.0f, 127.0f));
  });
  return result;
}

}  // namespace minim
