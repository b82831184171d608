#include "compress/quantization_aware.h"

#include "compress/quantize.h"
#include "compress/testing/small_problems.h"
#include "onnx/onnx.h"
#include "passes/passes.h"

namespace minim {
namespace {

// As static quantization prepares it.
Graph Prepared(Graph graph) {
  EXPECT_TRUE(FoldConstants(graph, {}).ok());
  EXPECT_TRUE(FoldBatchNorm(graph, {}).ok());
  return graph;
}

// One sample of many times the others' size stretches every range.
Dataset WithOutlier(const Dataset& data, float factor) {
  Dataset result{data.samples.Clone(), data.labels};
  const int64_t size = data.samples.dims().Elements(1, data.samples.dims().rank());
  for (int64_t i = 0; i < size; ++i) result.samples.as<float>()[i] *= factor;
  return result;
}

std::vector<std::string> Ops(const Graph& graph) {
  std::vector<std::string> ops;
  for (const Node& node : graph.nodes) ops.push_back(node.op);
  return ops;
}

TEST(QuantizationAwareTest, RescuesAModelThatRangesRuined) {
  const Fashion data = SomeFashion();
  if (data.train.size() == 0) GTEST_SKIP() << "dataset-fashion-mnist is not installed";
  const Graph net = Prepared(TrainedFashionNet(data));
  const auto quantized =
      QuantizeStatic(net, CollectProfile(net, WithOutlier(data.train, 110)).value());
  ASSERT_TRUE(quantized.ok()) << quantized.status().message();
  ArraySource source(data.train);
  const auto tuned = FineTuneQuantized(net, *quantized, source,
                                       {.epochs = 1.5, .batch = 50, .learning_rate = 1e-3});
  ASSERT_TRUE(tuned.ok()) << tuned.status().message();
  const double whole = Accuracy(net, data.test), ruined = Accuracy(*quantized, data.test);
  const double rescued = Accuracy(tuned->graph, data.test);
  RecordProperty("fp32", std::to_string(whole));
  RecordProperty("int8", std::to_string(ruined));
  RecordProperty("trained", std::to_string(rescued));
  // Of the 256 steps of an activation two or three are left: not all can come back.
  EXPECT_LT(ruined, 0.75 * whole) << "nothing was ruined";
  EXPECT_GT(rescued, 0.9 * whole) << whole << ", " << ruined << " -> " << rescued;
  EXPECT_EQ(Ops(tuned->graph), Ops(*quantized));
  // As large as it was, and the file says the same.
  EXPECT_NEAR(static_cast<double>(SerializeOnnx(tuned->graph)->size()),
              static_cast<double>(SerializeOnnx(*quantized)->size()), 64);
  const auto again = ParseOnnx(*SerializeOnnx(tuned->graph));
  ASSERT_TRUE(again.ok()) << again.status().message();
  EXPECT_EQ(Accuracy(*again, data.test), rescued);
}

TEST(QuantizationAwareTest, KeepsTheFormAndItsScales) {
  const Dataset data = Moons(256);
  const Graph net = Prepared(Tuned(MoonsNet(16), data, {.epochs = 30, .learning_rate = 1e-2}));
  const Graph quantized = QuantizeStatic(net, CollectProfile(net, data).value()).value();
  const auto tuned = FineTuneQuantized(net, quantized, *std::make_shared<ArraySource>(data),
                                       {.epochs = 5, .batch = 32});
  ASSERT_TRUE(tuned.ok()) << tuned.status().message();
  const Graph& graph = tuned->graph;
  EXPECT_EQ(Ops(graph), Ops(quantized));
  const auto floats = [](const Graph& g, const std::string& name) {
    const Tensor* tensor = g.constant(g.FindValue(name));
    MINIM_CHECK(tensor != nullptr);
    return std::vector<float>(tensor->as<float>().begin(), tensor->as<float>().end());
  };
  const std::string weight = "layer2_linear_weight", bias = "layer2_linear_bias";
  const Tensor& bytes = *graph.constant(graph.FindValue(weight + "_quantized"));
  ASSERT_EQ(bytes.dtype(), DType::i8);
  ASSERT_EQ(graph.constant(graph.FindValue(bias + "_quantized"))->dtype(), DType::i32);
  // Each channel uses its whole range: the scale followed the weights.
  for (int64_t c = 0; c < 16; ++c) {
    int most = 0;
    for (int64_t i = 0; i < 16; ++i)
      most = std::max(most, std::abs(int{bytes.as<int8_t>()[c * 16 + i]}));
    EXPECT_EQ(most, 127) << c;
  }
  EXPECT_NE(floats(graph, weight + "_scale"), floats(quantized, weight + "_scale"));
  // Activations keep theirs, and a bias is at s_x * s_w, as kernels need it.
  int activations = 0;
  float x_scale = 0;
  for (const Node& node : graph.nodes) {
    if (node.Is("QuantizeLinear")) {
      EXPECT_EQ(
          graph.constant(node.input(1))->as<float>()[0],
          quantized.constant(quantized.FindValue(graph.value(node.input(1)).name))->as<float>()[0]);
      ++activations;
    }
    if (node.Is("Gemm") && graph.value(node.input(1)).name != "")
      for (const Node& dq : graph.nodes)
        if (dq.output(0) == node.input(1) && graph.value(dq.input(0)).name == weight + "_quantized")
          for (const Node& x : graph.nodes)
            if (x.output(0) == node.input(0)) x_scale = graph.constant(x.input(1))->as<float>()[0];
  }
  EXPECT_EQ(activations, 3);
  const std::vector<float> w_scales = floats(graph, weight + "_scale"),
                           b_scales = floats(graph, bias + "_scale");
  for (size_t c = 0; c < b_scales.size(); ++c) EXPECT_EQ(b_scales[c], x_scale * w_scales[c]);
}

TEST(QuantizationAwareTest, WithoutTrainingNothingMovesButRounding) {
  const Dataset data = Moons(256);
  const Graph net = Prepared(Tuned(MoonsNet(16), data, {.epochs = 30, .learning_rate = 1e-2}));
  const Graph quantized = QuantizeStatic(net, CollectProfile(net, data).value()).value();
  ArraySource source(data);
  const auto still =
      FineTuneQuantized(net, quantized, source, {.epochs = 1, .learning_rate = 1e-30});
  ASSERT_TRUE(still.ok()) << still.status().message();
  EXPECT_EQ(Distance(RunGraph(still->graph, data.samples), RunGraph(quantized, data.samples)), 0);
  // Also where the original weights are not at hand.
  const auto unknown =
      FineTuneQuantized(quantized, quantized, source, {.epochs = 1, .learning_rate = 1e-30});
  ASSERT_TRUE(unknown.ok()) << unknown.status().message();
  EXPECT_LT(Distance(RunGraph(unknown->graph, data.samples), RunGraph(quantized, data.samples)),
            1e-5);
}

TEST(QuantizationAwareTest, NeedsQuantizedWeights) {
  const Dataset data = Moons(32);
  ArraySource source(data);
  const Graph net = MoonsNet(8);
  EXPECT_EQ(FineTuneQuantized(net, net, source, {}).status().code(), StatusCode::kUnsupported);
}

}  // namespace
}  // namespace minim
