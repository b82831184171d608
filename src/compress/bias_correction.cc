#include "compress/bias_correction.h"

namespace minim {

std::vector<float> BiasShift(const Tensor& weights, const QuantizedWeights& rounded, int axis,
                             int64_t groups, const ValueProfile& input) {
  const Dims& dims = weights.dims();
  const int64_t channels = dims[axis], inputs = dims[1 - axis];
  const int64_t taps = dims.Elements(2, dims.rank());
  std::vector<float> shift(static_cast<size_t>(channels), 0);
  if (static_cast<int64_t>(input.channel_mean.size()) != inputs * groups) return shift;
  const auto w = weights.as<float>();
  const auto q = rounded.values.as<int8_t>();
  const int64_t per_group = channels / groups;
  for (int64_t c = 0; c < channels; ++c) {
    const float scale = rounded.scales[rounded.scales.size() == 1 ? 0 : c];
    const double* mean = input.channel_mean.data() + c / per_group * inputs;
    double sum = 0;
    for (int64_t k = 0; k < inputs; ++k) {
      const int64_t first = (axis == 0 ? c * inputs + k : k * channels + c) * taps;
      double error = 0;
      for (int64_t i = first; i < first + taps; ++i)
        error += static_cast<double>(w[i]) - static_cast<double>(q[i] * scale);
      sum += error * mean[k];
    }
    shift[c] = static_cast<float>(sum);
  }
  return shift;
}

}  // namespace minim
