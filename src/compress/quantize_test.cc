#include "compress/quantize.h"

#include <algorithm>

#include "compress/store_weights.h"
#include "compress/testing/models.h"
#include "onnx/onnx.h"

namespace minim {
namespace {

std::string HowItRuns(const Graph& graph, const Tensor& x) {
  const auto session = MakeSession(graph, {}).value();
  const Dims dims[] = {x.dims()};
  EXPECT_TRUE(session->Warm(dims).ok());
  return session->Explain();
}

TEST(QuantizeTest, StaticStaysCloseAndRunsOnIntegers) {
  const Graph net = SmallNet();
  const Dataset data = Noise(64);
  const Graph quantized = Quantized(net, data).value();
  EXPECT_LT(RelativeError(RunGraph(quantized, data.samples), RunGraph(net, data.samples)), 0.03);
  const std::string how = HowItRuns(quantized, data.samples);
  for (const char* op : {"QLinearConv(", "MaxPool(u8", "QGemm("})
    EXPECT_NE(how.find(op), std::string::npos) << op << "\n" << how;
  EXPECT_EQ(how.find("DequantizeLinear("), std::string::npos) << how;
  EXPECT_EQ(how.find("reference"), std::string::npos) << how;
}

TEST(QuantizeTest, EveryOptionStaysClose) {
  const Graph net = Prepared(SmallNet());
  const Dataset data = Noise(128);
  const ActivationProfile profile = CollectProfile(net, data).value();
  const Tensor expected = RunGraph(net, data.samples);
  for (Calibrator calibrator : kCalibrators) {
    for (bool symmetric : {false, true}) {
      for (bool per_channel : {false, true}) {
        const StaticOptions options{.calibrator = calibrator,
                                    .symmetric = symmetric,
                                    .per_channel = per_channel,
                                    .bias_correction = per_channel};
        const auto quantized = QuantizeStatic(net, profile, options);
        ASSERT_TRUE(quantized.ok()) << quantized.status().message();
        // What single samples reach on average is less than what some reach.
        const double most = calibrator == Calibrator::kMovingAverage ? 0.1 : 0.05;
        EXPECT_LT(RelativeError(RunGraph(*quantized, data.samples), expected), most)
            << CalibratorName(calibrator) << (symmetric ? " s8" : "")
            << (per_channel ? " per channel" : "");
        EXPECT_EQ(HowItRuns(*quantized, data.samples).find("reference"), std::string::npos);
      }
    }
  }
}

TEST(QuantizeTest, SymmetricActivationsAreSignedAroundZero) {
  const Graph net = SmallNet();
  const Graph quantized = Quantized(net, Noise(16), {.symmetric = true}).value();
  for (const Node& node : quantized.nodes) {
    if (!node.Is("QuantizeLinear")) continue;
    const Tensor* zero = quantized.constant(node.input(2));
    ASSERT_EQ(zero->dtype(), DType::i8);
    EXPECT_EQ(zero->as<int8_t>()[0], 0);
  }
}

// Gives nothing but the set of nodes that read rounded values.
std::set<std::string> IntegerOps(const Graph& quantized) {
  std::set<std::string> names;
  const std::vector<int> producers = quantized.Producers();
  for (const Node& node : quantized.nodes) {
    if (!node.Is("Conv") && !node.Is("Gemm")) continue;
    const int from = producers[node.input(1)];
    if (from >= 0 && quantized.nodes[from].Is("DequantizeLinear"))
      names.insert(OpName(quantized, node));
  }
  return names;
}

TEST(QuantizeTest, EverySubsetOfOpsCanStayFloat) {
  const Graph net = Prepared(SmallNet());
  const Dataset data = Noise(32);
  const ActivationProfile profile = CollectProfile(net, data).value();
  const std::vector<std::string> ops = QuantizableOps(net);
  ASSERT_EQ(ops.size(), 3u);
  const Tensor expected = RunGraph(net, data.samples);
  for (int mask = 0; mask < 7; ++mask) {
    StaticOptions options;
    std::set<std::string> rounded;
    for (int i = 0; i < 3; ++i) (mask >> i & 1 ? options.keep_float : rounded).insert(ops[i]);
    const auto quantized = QuantizeStatic(net, profile, options);
    ASSERT_TRUE(quantized.ok()) << quantized.status().message();
    EXPECT_EQ(IntegerOps(*quantized), rounded);
    EXPECT_LT(RelativeError(RunGraph(*quantized, data.samples), expected), 0.03) << mask;
  }
  const auto none = QuantizeStatic(net, profile, {.keep_float = {ops.begin(), ops.end()}});
  EXPECT_EQ(none.status().code(), StatusCode::kUnsupported);
}

TEST(QuantizeTest, WhatCannotBeAskedFor) {
  const Graph net = Prepared(SmallNet());
  const ActivationProfile profile = CollectProfile(net, Noise(8)).value();
  for (const StaticOptions& options :
       {StaticOptions{.keep_float = {"nowhere"}}, StaticOptions{.percentile = 50},
        StaticOptions{.percentile = 100.5}, StaticOptions{.percentile = NAN}})
    EXPECT_EQ(QuantizeStatic(net, profile, options).status().code(), StatusCode::kInvalidArgument);
  const auto other = QuantizeStatic(net, ActivationProfile{});
  EXPECT_EQ(other.status().code(), StatusCode::kInvalidArgument);
  EXPECT_NE(other.status().message().find("input"), std::string::npos);
}

TEST(QuantizeTest, MinMaxDoesNotDependOnTheOrderOfSamples) {
  const Graph net = SmallNet();
  const Dataset data = Noise(64);
  Dataset reversed = {data.samples.Clone(), data.labels};
  for (int64_t i = 0; i < 64; ++i)
    std::copy_n(data.samples.as<float>().data() + (63 - i) * 64, 64,
                reversed.samples.as<float>().data() + i * 64);
  EXPECT_EQ(ToText(Quantized(net, data).value()), ToText(Quantized(net, reversed).value()));
}

// A bias of another shape than one value a channel.
TEST(QuantizeTest, BiasesOfEveryShape) {
  const Tensor w = NormalTensor({6, 4}, 1, 0.3f);
  const Dataset data = DataOf(NormalTensor({32, 6}, 2, 1));
  for (const Tensor& bias : {NormalTensor({4}, 3, 1), NormalTensor({1, 4}, 3, 1),
                             Tensor::Scalar(0.7f), Tensor::From<float>({1, 1}, {0.7f})}) {
    const Graph graph = ParseModel(
        fmt::format(
            "graph \"g\"(x: f32[N,6], w: f32[6,4], b: f32{}) -> (y) {{ y = Gemm(x, w, b) }}",
            bias.dims().rank() ? bias.dims().ToString() : ""),
        {w, bias});
    for (bool per_channel : {false, true}) {
      const auto quantized = Quantized(graph, data, {.per_channel = per_channel});
      ASSERT_TRUE(quantized.ok()) << quantized.status().message();
      EXPECT_LT(RelativeError(RunGraph(*quantized, data.samples), RunGraph(graph, data.samples)),
                0.03);
    }
  }
}

// As a transformer's layers have it.
TEST(QuantizeTest, AProductsShiftGoesIntoTheBiasBehindIt) {
  const Graph graph = ParseModel(
      R"(graph "g"(x: f32[N,6], w: f32[6,4], b: f32[4]) -> (y) {
    m = MatMul(x, w)
    y = Add(b, m) })",
      {NormalTensor({6, 4}, 1, 0.3f), NormalTensor({4}, 3, 1)});
  const Dataset data = DataOf(UniformTensor({64, 6}, 2, 0, 1));
  const Graph quantized = Quantized(graph, data, {.bias_correction = true}).value();
  int adds = 0;
  for (const Node& node : quantized.nodes) adds += node.Is("Add");
  EXPECT_EQ(adds, 1);
  const Tensor expected = RunGraph(graph, data.samples);
  EXPECT_LT(RelativeError(RunGraph(quantized, data.samples), expected),
            RelativeError(RunGraph(Quantized(graph, data).value(), data.samples), expected));
  EXPECT_NE(HowItRuns(quantized, data.samples).find("MatMulIntegerToFloat("), std::string::npos);
}

TEST(QuantizeTest, ShortcutsAreSummedInBytes) {
  for (const char* sum : {"Add", "Sum"}) {
    const Graph graph =
        ParseModel(fmt::format(R"(graph "g"(x: f32[N,8,5,5], w: f32[8,8,1,1]) -> (y) {{
      a = Conv(x, w) b = Relu(a) c = Conv(b, w) d = {}(c, b) e = Relu(d) y = Conv(e, w) }})",
                               sum),
                   {NormalTensor({8, 8, 1, 1}, 1, 0.3f)});
    const Dataset data = DataOf(UniformTensor({32, 8, 5, 5}, 2, 0, 1));
    const Graph quantized = Quantized(graph, data).value();
    EXPECT_LT(RelativeError(RunGraph(quantized, data.samples), RunGraph(graph, data.samples)),
              0.03);
    EXPECT_NE(HowItRuns(quantized, data.samples)
                  .find("FusedElementwise(u8[32,8,5,5], f32, u8, u8[32,8,5,5]"),
              std::string::npos)
        << sum;
  }
}

TEST(QuantizeTest, ActivationsThatAreAlmostNothingDoNoHarm) {
  const Graph graph = ParseModel(
      "graph \"g\"(x: f32[N,2], w: f32[2,2], b: f32[2]) -> (y) { y = Gemm(x, w, b) }",
      {Tensor::From<float>({2, 2}, {1e-3f, 1, 2, -1e-30f}), Tensor::From<float>({2}, {1, -2})});
  const Dataset data = DataOf(UniformTensor({16, 2}, 1, -1e-38f, 1e-38f));
  const Graph quantized = Quantized(graph, data).value();
  EXPECT_LT(RelativeError(RunGraph(quantized, data.samples), RunGraph(graph, data.samples)), 1e-5);
}

TEST(QuantizeTest, FilesHoldStandardOpsOnly) {
  const Graph net = SmallNet();
  const Dataset data = Noise(16);
  for (const auto& graph :
       {Quantized(net, data), Quantized(net, data, {.symmetric = true, .per_channel = false}),
        QuantizeDynamic(net), StoreWeights16(net, DType::bf16), StoreWeightsInt(net, 4, 32)}) {
    const auto bytes = SerializeOnnx(graph.value());
    ASSERT_TRUE(bytes.ok()) << bytes.status().message();
    const auto again = ParseOnnx(*bytes);
    ASSERT_TRUE(again.ok()) << again.status().message();
    for (const Node& node : again->nodes) EXPECT_TRUE(node.domain.empty()) << node.op;
  }
}

}  // namespace
}  // namespace minim
