#include "kernels/cpu/activation.h"

namespace minim {

Result<Activation> ActivationOf(const Attributes& attributes) {
  struct Row {
    std::string_view name;
    Activation activation;  // with the defaults of its parameters
  };
  constexpr Row kRows[] = {
      {"", {Activation::kNone}},
      {"Relu", {Activation::kRelu}},
      {"LeakyRelu", {Activation::kLeakyRelu, 0.01f}},
      {"Clip", {Activation::kClip, -3.4028235e38f, 3.4028235e38f}},
      {"Sigmoid", {Activation::kSigmoid}},
      {"Tanh", {Activation::kTanh}},
      {"HardSigmoid", {Activation::kHardSigmoid, 0.2f, 0.5f}},
      {"Elu", {Activation::kElu, 1}},
      {"Gelu", {Activation::kGelu}},
  };
  const std::string name = attributes.String("activation", "");
  for (const Row& row : kRows) {
    if (row.name != name) continue;
    const std::vector<float> params = attributes.Floats("activation_params");
    Activation result = row.activation;
    result.a = attributes.Float("activation_alpha", params.size() > 0 ? params[0] : result.a);
    result.b = attributes.Float("activation_beta", params.size() > 1 ? params[1] : result.b);
    return result;
  }
  return Unsupported("activation {} cannot be fused", name);
}

}  // namespace minim
