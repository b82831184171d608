#include <algorithm>

#include "compress/store_weights.h"
#include "compress/testing/models.h"
#include "onnx/onnx.h"

namespace minim {
namespace {

Tensor Rows(const Tensor& from, int64_t first, int64_t count) {
  Dims dims = from.dims();
  const int64_t width = dims.Elements(1, dims.rank());
  dims[0] = count;
  return Tensor::From<float>(dims, from.as<float>().subspan(first * width, count * width));
}

bool SameBits(const Tensor& a, const Tensor& b) {
  return a.dims() == b.dims() && std::memcmp(a.data(), b.data(), a.bytes()) == 0;
}

TEST(QuantizeDynamicTest, RowsDoNotDependOnTheirNeighbours) {
  const Graph net = SmallNet();
  const Graph quantized = QuantizeDynamic(net).value();
  Tensor x = Noise(8).samples;
  const Tensor together = RunGraph(quantized, x);
  EXPECT_LT(RelativeError(together, RunGraph(net, x)), 0.03);
  for (int64_t i = 0; i < 8; ++i)
    EXPECT_TRUE(SameBits(RunGraph(quantized, Rows(x, i, 1)), Rows(together, i, 1))) << i;
  for (int64_t i = 64; i < 128; ++i) x.as<float>()[i] *= 1000;  // one loud neighbour
  EXPECT_TRUE(SameBits(Rows(RunGraph(quantized, x), 5, 1), Rows(together, 5, 1)));
}

TEST(QuantizeDynamicTest, NamedOpsStayFloat) {
  const Graph net = Prepared(SmallNet());
  const std::vector<std::string> ops = QuantizableOps(net);  // a Conv, two Gemms
  const Graph one = QuantizeDynamic(net, {ops[1]}).value();
  int products = 0, gemms = 0;
  for (const Node& node : one.nodes) {
    products += node.Is("MatMulInteger");
    gemms += node.Is("Gemm");
  }
  EXPECT_EQ(products, 1);
  EXPECT_EQ(gemms, 1);
  EXPECT_EQ(QuantizeDynamic(net, {ops[1], ops[2]}).status().code(), StatusCode::kUnsupported);
  EXPECT_EQ(QuantizeDynamic(net, {"nowhere"}).status().code(), StatusCode::kInvalidArgument);
}

// x [T,N,6] and, for windows cut into steps, the state that goes around.
Graph LstmNet(int64_t hidden, bool states) {
  const std::string h = std::to_string(hidden), gates = std::to_string(4 * hidden);
  const std::string state = "f32[1,N," + h + "]";
  const std::string text =
      states
          ? "graph \"g\"(x: f32[T,N,6], h: " + state + ", c: " + state + ", w: f32[1," + gates +
                ",6], r: f32[1," + gates + "," + h + "], b: f32[1," + std::to_string(8 * hidden) +
                "]) -> (y, hn, cn) { y, hn, cn = LSTM(x, w, r, b, _, h, c) {hidden_size=" + h +
                "} }"
          : "graph \"g\"(x: f32[T,N,6], w: f32[1," + gates + ",6], r: f32[1," + gates + "," + h +
                "], b: f32[1," + std::to_string(8 * hidden) +
                "]) -> (y) { y = LSTM(x, w, r, b) {hidden_size=" + h + "} }";
  Graph graph = ParseText(text).value();
  const size_t kept = states ? 3 : 1;
  for (size_t i = kept; i < kept + 3; ++i)
    graph.constants.emplace(graph.inputs[i], UniformTensor(graph.type(graph.inputs[i]).dims(),
                                                           static_cast<uint64_t>(i), -0.2f, 0.2f));
  graph.inputs.resize(kept);
  return graph;
}

TEST(QuantizeDynamicTest, RecurrentLayersShrinkAndStayClose) {
  const Graph net = LstmNet(64, false);
  const Tensor x = UniformTensor({4, 2, 6}, 3, -1, 1);
  const Tensor y = RunGraph(net, x);
  const Graph bytes = QuantizeDynamic(net).value();
  const Graph halves = StoreWeights16(net, DType::bf16).value();
  EXPECT_TRUE(bytes.nodes[0].Is("DynamicQuantizeLSTM", kMicrosoftDomain));
  EXPECT_LT(RelativeError(RunGraph(bytes, x), y), 0.02);
  EXPECT_LT(RelativeError(RunGraph(halves, x), y), 0.01);
  for (const Graph& graph : {bytes, halves}) {
    const auto again = ParseOnnx(SerializeOnnx(graph).value());
    ASSERT_TRUE(again.ok()) << again.status().message();
    EXPECT_EQ(RelativeError(RunGraph(*again, x), RunGraph(graph, x)), 0);
  }
  EXPECT_FALSE(QuantizeDynamic(LstmNet(32, false)).ok());
  EXPECT_FALSE(QuantizeDynamic(net, {"y"}).ok());
}

// Sequence `n` of [T,N,...].
Tensor Sequence(const Tensor& x, int64_t n) {
  const Dims& d = x.dims();
  Tensor result(DType::f32, {d[0], 1, d[2]});
  for (int64_t t = 0; t < d[0]; ++t)
    std::copy_n(x.as<float>().data() + (t * d[1] + n) * d[2], d[2],
                result.as<float>().data() + t * d[2]);
  return result;
}

TEST(QuantizeDynamicTest, AnLstmsSequencesDoNotDependOnTheirNeighbours) {
  for (int64_t hidden : {64, 100, 128}) {  // FP32 would win at 64 to 127 units of several rows
    const Graph bytes = QuantizeDynamic(LstmNet(hidden, true)).value();
    Tensor x = NormalTensor({5, 3, 6}, 1, 1);
    const Tensor h = NormalTensor({1, 3, hidden}, 2, 0.3f), c = NormalTensor({1, 3, hidden}, 3, 1);
    const std::vector<Tensor> together = RunAll(bytes, {x, h, c});
    for (int64_t n = 0; n < 3; ++n) {
      const std::vector<Tensor> alone =
          RunAll(bytes, {Sequence(x, n), Sequence(h, n), Sequence(c, n)});
      Tensor y = together[0].Reshaped({5, 3, hidden});
      EXPECT_TRUE(SameBits(alone[0].Reshaped({5, 1, hidden}), Sequence(y, n))) << hidden;
      EXPECT_TRUE(SameBits(alone[2], Sequence(together[2], n))) << hidden;
    }
  }
}

TEST(QuantizeDynamicTest, CarriedStepsAreOneWindow) {
  for (int64_t hidden : {64, 128}) {
    for (int64_t batch : {1, 2}) {
      const Graph bytes = QuantizeDynamic(LstmNet(hidden, true)).value();
      const Tensor x = NormalTensor({7, batch, 6}, 1, 1);
      Tensor h(DType::f32, {1, batch, hidden}), c(DType::f32, {1, batch, hidden});
      const std::vector<Tensor> window = RunAll(bytes, {x, h, c});
      for (int64_t t = 0; t < 7; ++t) {
        const std::vector<Tensor> step = RunAll(bytes, {Rows(x, t, 1), h, c});
        EXPECT_TRUE(SameBits(step[0], Rows(window[0], t, 1))) << hidden << " units, step " << t;
        h = step[1];
        c = step[2];
      }
      EXPECT_TRUE(SameBits(h, window[1]));
      EXPECT_TRUE(SameBits(c, window[2]));
    }
  }
}

}  // namespace
}  // namespace minim
