#include "compress/bias_correction.h"

#include "compress/testing/models.h"

namespace minim {
namespace {

// What the rounded weights lose on a constant input of these means.
TEST(BiasCorrectionTest, TakesBackTheMeanErrorOfEveryForm) {
  const Tensor w = NormalTensor({6, 2, 3}, 3, 1);  // 2 groups of 2 inputs, or [6,2] and 3 taps
  const QuantizedWeights rounded = QuantizeWeights(w, 0, std::vector<float>(6, 0.3f));
  ValueProfile input{.channel_mean = {0.5, -1, 2, 4}};
  const std::vector<float> shift = BiasShift(w, rounded, 0, 2, input);
  for (int64_t c = 0; c < 6; ++c) {
    double expected = 0;
    for (int64_t i = 0; i < 6; ++i) {
      const int64_t at = c * 6 + i;
      const double error = w.as<float>()[at] - rounded.scales[c] * rounded.values.as<int8_t>()[at];
      expected += error * input.channel_mean[c / 3 * 2 + i / 3];
    }
    EXPECT_NEAR(shift[c], expected, 1e-5) << c;
  }
  input.channel_mean.pop_back();  // of something else
  EXPECT_EQ(BiasShift(w, rounded, 0, 2, input), std::vector<float>(6, 0));
}

TEST(BiasCorrectionTest, InputsAlongTheFirstAxis) {
  const Tensor w = Tensor::From<float>({2, 2}, {0.3f, 1, -0.6f, 2});
  const QuantizedWeights rounded = QuantizeWeights(w, 1, {1, 1});
  const std::vector<float> shift = BiasShift(w, rounded, 1, 1, {.channel_mean = {10, 1}});
  EXPECT_NEAR(shift[0], 0.3 * 10 + 0.4, 1e-5);
  EXPECT_NEAR(shift[1], 0, 1e-6);
}

// A wide layer whose rounding errors all point one way.
TEST(BiasCorrectionTest, BringsTheMeanOfAModelBack) {
  Tensor w(DType::f32, {64, 4});
  for (int64_t i = 0; i < w.size(); ++i) w.as<float>()[i] = i < 4 ? 12.7f : 0.04f;
  for (const char* form : {"y = Gemm(x, w)", "y = MatMul(x, w)"}) {
    const Graph graph = ParseModel(
        fmt::format("graph \"g\"(x: f32[N,64], w: f32[64,4]) -> (y) {{ {} }}", form), {w});
    const Dataset data = DataOf(UniformTensor({64, 64}, 5, 0, 1));
    const Tensor expected = RunGraph(graph, data.samples);
    const double plain =
        RelativeError(RunGraph(Quantized(graph, data).value(), data.samples), expected);
    const double corrected = RelativeError(
        RunGraph(Quantized(graph, data, {.bias_correction = true}).value(), data.samples),
        expected);
    EXPECT_GT(plain, 0.1) << form;
    EXPECT_LT(corrected, plain / 5) << form;
  }
}

}  // namespace
}  // namespace minim
