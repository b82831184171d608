// Models that plain static INT8 (min-max, per tensor) ruins, and what rescues each.
#include <algorithm>

#include "compress/equalize.h"
#include "compress/testing/models.h"

namespace minim {
namespace {

constexpr double kRuined = 0.3, kRescued = 0.03;

double ErrorOf(const Graph& quantized, const Graph& graph, const Tensor& x) {
  return RelativeError(RunGraph(quantized, x), RunGraph(graph, x));
}

// One channel between two convolutions is 1000 times as large as the others, and read with weights
// a 1000th of theirs.
TEST(RescueTest, EqualizationSavesChannelsBesideALoudOne) {
  Tensor a = NormalTensor({8, 1, 3, 3}, 1, 0.4f), bias = NormalTensor({8}, 2, 0.2f);
  Tensor b = NormalTensor({5, 8, 3, 3}, 3, 0.2f);
  for (int64_t i = 0; i < 9; ++i) a.as<float>()[3 * 9 + i] *= 1000;
  bias.as<float>()[3] *= 1000;
  for (int64_t out = 0; out < 5; ++out)
    for (int64_t i = 0; i < 9; ++i) b.as<float>()[(out * 8 + 3) * 9 + i] /= 1000;
  const Graph graph = Prepared(ParseModel(
      R"(graph "g"(x: f32[N,1,8,8], a: f32[8,1,3,3], b: f32[8], c: f32[5,8,3,3]) -> (y) {
    u = Conv(x, a, b) {pads=[1,1,1,1]}
    r = Relu(u)
    y = Conv(r, c) })",
      {a, bias, b}));
  const Dataset data = DataOf(NormalTensor({64, 1, 8, 8}, 4, 1));
  const Tensor& x = data.samples;
  const StaticOptions plain{.per_channel = false};
  EXPECT_GT(ErrorOf(Quantized(graph, data, plain).value(), graph, x), kRuined);
  EXPECT_GT(ErrorOf(Quantized(graph, data).value(), graph, x), kRuined);
  Graph equal = graph;
  ASSERT_EQ(EqualizeWeights(equal).value(), 1);
  EXPECT_LT(ErrorOf(Quantized(equal, data, plain).value(), graph, x), kRescued);
  EXPECT_LT(ErrorOf(Quantized(equal, data).value(), graph, x), kRescued);
}

// One element of two million is 300 times as large as the others.
TEST(RescueTest, AStrayElementIsClipped) {
  const Graph graph = Prepared(ParseModel(
      R"(graph "g"(x: f32[N,1,32,32], a: f32[4,1,3,3]) -> (y) { y = Conv(x, a) {strides=[2,2]} })",
      {NormalTensor({4, 1, 3, 3}, 1, 0.4f)}));
  Dataset data = DataOf(UniformTensor({2048, 1, 32, 32}, 2, -1, 1));
  const Tensor x = UniformTensor({16, 1, 32, 32}, 3, -1, 1);
  data.samples.as<float>()[1234567] = 300;
  const ActivationProfile profile = CollectProfile(graph, data).value();
  const auto error = [&](Calibrator calibrator) {
    const StaticOptions options{.calibrator = calibrator, .per_channel = false};
    return ErrorOf(QuantizeStatic(graph, profile, options).value(), graph, x);
  };
  EXPECT_GT(error(Calibrator::kMinMax), kRuined);
  EXPECT_LT(error(Calibrator::kPercentile), kRescued);
  EXPECT_LT(error(Calibrator::kMovingAverage), kRuined / 2);
  // Its candidates end where 256 of the 2048 bins are left: 38 of 300.
  EXPECT_LT(error(Calibrator::kEntropy), kRuined / 2);
  // The stray element's own error still counts.
  EXPECT_LT(error(Calibrator::kMse), kRuined * 2 / 3);
}

// With the scale that its weights alone ask for, a channel's bias would be 10^12 steps.
TEST(RescueTest, ABiasBeyondInt32EnlargesTheWeightScale) {
  const Tensor w = Tensor::From<float>({3, 2}, {1e-9f, 0.5f, -2e-9f, 0.2f, 1e-9f, -0.7f});
  const Tensor b = Tensor::From<float>({2}, {1, 0.1f});
  const Graph graph = ParseModel(
      "graph \"g\"(x: f32[N,3], w: f32[3,2], b: f32[2]) -> (y) { y = Gemm(x, w, b) }", {w, b});
  const Dataset data = DataOf(NormalTensor({64, 3}, 1, 1));
  const Graph rescued = Quantized(graph, data).value();
  EXPECT_LT(ErrorOf(rescued, graph, data.samples), kRescued);
  // The same model with max|w| / 127 and a bias that saturates.
  Graph plain = rescued;
  const ValueId x_scale = plain.FindValue("x_scale");
  const float scale = 2e-9f / 127;
  const float bias_scale = plain.constant(x_scale)->as<float>()[0] * scale;
  for (const auto& [name, value] : {std::pair{"w_scale", scale}, {"b_scale", bias_scale}}) {
    Tensor& tensor = plain.constants.at(plain.FindValue(name));
    tensor = tensor.Clone();
    EXPECT_GT(tensor.as<float>()[0], value * 10) << "nothing was enlarged";
    tensor.as<float>()[0] = value;
  }
  Tensor& steps = plain.constants.at(plain.FindValue("b_quantized"));
  steps = steps.Clone();
  steps.as<int32_t>()[0] = INT32_MAX;
  EXPECT_GT(ErrorOf(plain, graph, data.samples), kRuined);
}

// Attention over 6 places. Feature 0, of up to 1000, is what is attended to; where to attend is
// told by the other features, all within 1, and the scores saturate the softmax.
TEST(RescueTest, ScoresOfASoftmaxStayFloat) {
  Tensor s = NormalTensor({8, 1}, 1, 8), v(DType::f32, {8, 4});
  s.as<float>()[0] = 0;
  for (int64_t i = 0; i < 4; ++i) v.as<float>()[i] = 0.001f * static_cast<float>(i + 1);
  const Graph graph = ParseModel(
      R"(graph "g"(x: f32[N,6,8], s: f32[8,1], v: f32[8,4]) -> (y) {
    const axes: i64[1] = [1]
    scores = MatMul(x, s)
    p = Softmax(scores) {axis=1}
    values = MatMul(x, v)
    weighted = Mul(p, values)
    y = ReduceSum(weighted, axes) {keepdims=0} })",
      {s, v});
  Dataset data = DataOf(UniformTensor({128, 6, 8}, 2, -1, 1));
  for (int64_t i = 0; i < data.samples.size(); i += 8) data.samples.as<float>()[i] *= 1000;
  const StaticOptions plain{.per_channel = false}, kept{.keep_float = {"scores"}};
  EXPECT_GT(ErrorOf(Quantized(graph, data, plain).value(), graph, data.samples), kRuined);
  EXPECT_GT(ErrorOf(Quantized(graph, data).value(), graph, data.samples), kRuined);
  EXPECT_LT(ErrorOf(Quantized(graph, data, kept).value(), graph, data.samples), kRescued);
}

}  // namespace
}  // namespace minim
