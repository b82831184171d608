#include "compress/quantize.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/philox.h"
#include "graph/text.h"
#include "onnx/onnx.h"
#include "session/session_impl.h"
#include "train/model_builder.h"

namespace minim {
namespace {

Graph SmallNet() {
  ModelSpec spec;
  spec.input = {1, 8, 8};
  spec.layers = {{.kind = "conv", .units = 4, .kernel = 3, .padding = 1},
                 {.kind = "relu"},
                 {.kind = "max_pool", .kernel = 2},
                 {.kind = "flatten"},
                 {.kind = "linear", .units = 16},
                 {.kind = "relu"},
                 {.kind = "linear", .units = 5}};
  return BuildModel(spec, 1).value();
}

Dataset Noise(int64_t n) {
  Dataset data{Tensor(DType::f32, {n, 1, 8, 8}), Tensor(DType::i64, {n})};
  const Philox rng(2);
  for (int64_t i = 0; i < data.samples.size(); ++i) data.samples.as<float>()[i] = rng.Uniform(i);
  return data;
}

Tensor RunGraph(const Graph& graph, const Tensor& x) {
  const auto session = MakeSession(graph, {});
  EXPECT_TRUE(session.ok()) << session.status().message();
  const ConstView views[] = {x.view()};
  auto y = (*session)->Run(views);
  EXPECT_TRUE(y.ok()) << y.status().message();
  return (*y)[0];
}

double RelativeError(const Tensor& a, const Tensor& b) {
  double error = 0, norm = 0;
  for (int64_t i = 0; i < a.size(); ++i) {
    error += std::pow(a.as<float>()[i] - b.as<float>()[i], 2);
    norm += std::pow(b.as<float>()[i], 2);
  }
  return std::sqrt(error / norm);
}

TEST(QuantizeTest, WeightsAreSymmetricPerChannel) {
  const Tensor w = Tensor::From<float>({2, 3}, {1, -2, 0.5f, 0, 0, 0});
  const QuantizedWeights q = QuantizeWeights(w, 0);
  EXPECT_FLOAT_EQ(q.scales[0], 2.0f / 127);
  EXPECT_EQ(q.values.as<int8_t>()[1], -127);
  EXPECT_EQ(q.scales[1], 1);
  EXPECT_EQ(QuantizeWeights(w, 0, {1, 0}).values.as<int8_t>()[1], -2);
}

TEST(QuantizeTest, StaticStaysCloseAndRunsOnIntegers) {
  const Graph net = SmallNet();
  const Dataset data = Noise(64);
  const auto quantized = QuantizeStatic(net, data);
  ASSERT_TRUE(quantized.ok()) << quantized.status().message();
  EXPECT_LT(RelativeError(RunGraph(*quantized, data.samples), RunGraph(net, data.samples)), 0.03);
  const auto session = MakeSession(*quantized, {}).value();
  const Dims dims[] = {data.samples.dims()};
  ASSERT_TRUE(session->Warm(dims).ok());
  const std::string how = session->Explain();
  for (const char* op : {"QLinearConv(", "MaxPool(u8", "QGemm("})
    EXPECT_NE(how.find(op), std::string::npos) << op << "\n" << how;
  EXPECT_EQ(how.find("DequantizeLinear("), std::string::npos) << how;
  EXPECT_EQ(how.find("reference"), std::string::npos) << how;
}

TEST(QuantizeTest, CalibrationDoesNotDependOnOrderOrBatches) {
  const Graph net = SmallNet();
  const Dataset data = Noise(64);
  Dataset reversed = {data.samples.Clone(), data.labels};
  for (int64_t i = 0; i < 64; ++i)
    std::copy_n(data.samples.as<float>().data() + (63 - i) * 64, 64,
                reversed.samples.as<float>().data() + i * 64);
  EXPECT_EQ(ToText(QuantizeStatic(net, data).value()),
            ToText(QuantizeStatic(net, reversed).value()));
  EXPECT_FALSE(QuantizeStatic(net, Noise(7)).ok());
}

TEST(QuantizeTest, DynamicRowsDoNotDependOnTheirNeighbours) {
  const Graph net = SmallNet();
  const auto quantized = QuantizeDynamic(net);
  ASSERT_TRUE(quantized.ok()) << quantized.status().message();
  const Dataset data = Noise(8);
  const Tensor together = RunGraph(*quantized, data.samples);
  EXPECT_LT(RelativeError(together, RunGraph(net, data.samples)), 0.03);
  Tensor one(DType::f32, {1, 1, 8, 8});
  std::copy_n(data.samples.as<float>().data() + 5 * 64, 64, one.as<float>().data());
  const Tensor alone = RunGraph(*quantized, one);
  for (int64_t i = 0; i < 5; ++i) EXPECT_EQ(alone.as<float>()[i], together.as<float>()[5 * 5 + i]);
}

Graph LstmNet(int64_t hidden) {
  const std::string h = std::to_string(hidden), gates = std::to_string(4 * hidden);
  Graph graph = ParseText("graph \"g\"(x: f32[4,2,6], w: f32[1," + gates + ",6], r: f32[1," +
                          gates + "," + h + "], b: f32[1," + std::to_string(8 * hidden) +
                          "]) -> (y) { y = LSTM(x, w, r, b) {hidden_size=" + h + "} }")
                    .value();
  for (int i = 1; i < 4; ++i) {
    Tensor values(DType::f32, graph.type(graph.inputs[i]).dims());
    const Philox rng(static_cast<uint64_t>(i));
    for (int64_t k = 0; k < values.size(); ++k)
      values.as<float>()[k] = 0.4f * rng.Uniform(static_cast<uint64_t>(k)) - 0.2f;
    graph.constants.emplace(graph.inputs[i], values);
  }
  graph.inputs.resize(1);
  return graph;
}

TEST(QuantizeTest, RecurrentLayersShrinkAndStayClose) {
  const Graph net = LstmNet(64);
  Tensor x(DType::f32, {4, 2, 6});
  for (int64_t i = 0; i < x.size(); ++i)
    x.as<float>()[i] = 0.1f * static_cast<float>(i % 17) - 0.8f;
  const Tensor y = RunGraph(net, x);
  const Graph bytes = QuantizeDynamic(net).value(), halves = StoreWeightsBf16(net).value();
  EXPECT_TRUE(bytes.nodes[0].Is("DynamicQuantizeLSTM", kMicrosoftDomain));
  EXPECT_LT(RelativeError(RunGraph(bytes, x), y), 0.02);
  EXPECT_LT(RelativeError(RunGraph(halves, x), y), 0.01);
  for (const Graph& graph : {bytes, halves}) {
    const auto again = ParseOnnx(SerializeOnnx(graph).value());
    ASSERT_TRUE(again.ok()) << again.status().message();
    EXPECT_EQ(RelativeError(RunGraph(*again, x), RunGraph(graph, x)), 0);
  }
  EXPECT_FALSE(QuantizeDynamic(LstmNet(32)).ok());
}

TEST(QuantizeTest, FilesHoldStandardOpsOnly) {
  const Graph net = SmallNet();
  const Dataset data = Noise(16);
  for (const auto& graph :
       {QuantizeStatic(net, data), QuantizeDynamic(net), StoreWeightsBf16(net)}) {
    const auto bytes = SerializeOnnx(graph.value());
    ASSERT_TRUE(bytes.ok()) << bytes.status().message();
    const auto again = ParseOnnx(*bytes);
    ASSERT_TRUE(again.ok()) << again.status().message();
    for (const Node& node : again->nodes) EXPECT_TRUE(node.domain.empty()) << node.op;
  }
}

}  // namespace
}  // namespace minim
