#include "compress/store_weights.h"

#include "compress/testing/models.h"
#include "onnx/onnx.h"

namespace minim {
namespace {

// A Conv, an LSTM, a MatMul and a Gemm; 100 rows of the matrix are no whole number of blocks.
Graph Everything() {
  return ParseModel(
      R"(graph "g"(x: f32[5,3,4,4], c: f32[8,3,3,3], w: f32[1,64,128], r: f32[1,64,16],
                   m: f32[16,100], v: f32[6,100]) -> (y) {
    const shape: i64[3] = [5, 1, 128]
    const axes: i64[1] = [0]
    a = Conv(x, c) {pads=[1,1,1,1]}
    b = Reshape(a, shape)
    h, hn, cn = LSTM(b, w, r) {hidden_size=16}
    s = Squeeze(hn, axes)
    t = MatMul(s, m)
    y = Gemm(t, v) {transB=1} })",
      {NormalTensor({8, 3, 3, 3}, 1, 0.2f), NormalTensor({1, 64, 128}, 2, 0.1f),
       NormalTensor({1, 64, 16}, 3, 0.2f), NormalTensor({16, 100}, 4, 0.2f),
       NormalTensor({6, 100}, 5, 0.2f)});
}

const Tensor& Input() {
  static const Tensor x = NormalTensor({5, 3, 4, 4}, 6, 1);
  return x;
}

void ExpectSameAfterExport(const Graph& graph) {
  const auto again = ParseOnnx(SerializeOnnx(graph).value());
  ASSERT_TRUE(again.ok()) << again.status().message();
  EXPECT_EQ(RelativeError(RunGraph(*again, Input()), RunGraph(graph, Input())), 0);
  for (const Node& node : again->nodes) EXPECT_TRUE(node.domain.empty()) << node.op;
}

struct Coding {
  int bits, block;
  double error, bytes;  // at most, bytes as a share of FP32's
};

TEST(StoreWeightsTest, SmallIntegersStayCloseAndSmall) {
  const Graph graph = Everything();
  const Tensor expected = RunGraph(graph, Input());
  const auto whole = static_cast<double>(SerializeOnnx(graph).value().size());
  for (const Coding& c : {Coding{8, 0, 0.06, 0.35},
                          {8, 32, 0.04, 0.42},
                          {4, 32, 0.4, 0.3},
                          {4, 16, 0.4, 0.35},
                          {4, 0, 0.5, 0.25}}) {
    const auto stored = StoreWeightsInt(graph, c.bits, c.block);
    ASSERT_TRUE(stored.ok()) << stored.status().message();
    const double error = RelativeError(RunGraph(*stored, Input()), expected);
    EXPECT_LT(error, c.error) << c.bits << " bits in blocks of " << c.block;
    EXPECT_GT(error, 0);
    EXPECT_LT(static_cast<double>(SerializeOnnx(*stored).value().size()), c.bytes * whole);
    ExpectSameAfterExport(*stored);
  }
}

TEST(StoreWeightsTest, SmallerBlocksAreCloser) {
  Tensor w = NormalTensor({256, 64}, 1, 0.1f);
  for (int64_t i = 0; i < 64; ++i) w.as<float>()[17 * 64 + i] = 5;  // spoils one block of each
  const Graph graph =
      ParseModel("graph \"g\"(x: f32[N,256], w: f32[256,64]) -> (y) { y = MatMul(x, w) }", {w});
  Tensor x = NormalTensor({8, 256}, 2, 1);
  for (int64_t i = 0; i < 8; ++i) x.as<float>()[i * 256 + 17] = 0;
  const Tensor expected = RunGraph(graph, x);
  const auto error = [&](int bits, int block) {
    return RelativeError(RunGraph(StoreWeightsInt(graph, bits, block).value(), x), expected);
  };
  EXPECT_GT(error(4, 0), 0.9);  // all but the outlier become 0
  EXPECT_LT(error(4, 16), 0.3);
  EXPECT_LT(error(8, 32), error(8, 0));
}

TEST(StoreWeightsTest, FourBitsClipWhereThatCostsLess) {
  Tensor w = NormalTensor({64, 16}, 1, 0.1f);
  const Graph graph =
      ParseModel("graph \"g\"(x: f32[N,64], w: f32[64,16]) -> (y) { y = MatMul(x, w) }", {w});
  const Graph stored = StoreWeightsInt(graph, 4, 64).value();
  const Tensor& scales = *stored.constant(stored.FindValue("w_scale"));
  const Tensor& values = *stored.constant(stored.FindValue("w_quantized"));
  double found = 0, widest = 0;
  for (int64_t c = 0; c < 16; ++c) {
    float most = 0;
    for (int64_t k = 0; k < 64; ++k) most = std::max(most, std::fabs(w.as<float>()[k * 16 + c]));
    EXPECT_LE(scales.as<float>()[c], most / 7);
    for (int64_t k = 0; k < 64; ++k) {
      const float x = w.as<float>()[k * 16 + c];
      const auto step = static_cast<float>(static_cast<int64_t>(values.as<Int4>()[k * 16 + c]));
      found += std::pow(step * scales.as<float>()[c] - x, 2);
      widest += std::pow(std::nearbyint(x * 7 / most) * most / 7 - x, 2);
    }
  }
  EXPECT_LT(found, 0.95 * widest);
}

TEST(StoreWeightsTest, SharedWeightsAreStoredOnceAndWhatWouldGrowStays) {
  const Graph graph = ParseModel(
      R"(graph "g"(x: f32[N,1], a: f32[32,32], p: f32[1,32]) -> (y) {
    t = MatMul(x, p)
    u = MatMul(t, a)
    y = MatMul(u, a) })",
      {NormalTensor({32, 32}, 2, 1), NormalTensor({1, 32}, 3, 1)});
  const Graph stored = StoreWeightsInt(graph, 8, 0).value();
  int pairs = 0;
  for (const Node& node : stored.nodes) pairs += node.Is("DequantizeLinear");
  EXPECT_EQ(pairs, 1);  // of a; a scale for every number of p would save nothing
}

TEST(StoreWeightsTest, WeightsThatAFileMakesOfOthersAreStoredToo) {
  const Graph graph = ParseModel(
      R"(graph "g"(x: f32[N,32], w: f32[64,32]) -> (y) {
    t = Transpose(w) {perm=[1,0]}
    y = MatMul(x, t) })",
      {NormalTensor({64, 32}, 2, 1)});
  for (const auto& stored : {StoreWeightsInt(graph, 8, 0), StoreWeights16(graph, DType::f16)}) {
    ASSERT_TRUE(stored.ok()) << stored.status().message();
    EXPECT_FALSE(stored->nodes[0].Is("Transpose"));
  }
}

TEST(StoreWeightsTest, NamedOpsKeepTheirWeights) {
  const Graph graph = Everything();
  const Graph stored = StoreWeightsInt(graph, 4, 32, {"a", "h"}).value();
  EXPECT_NE(stored.constant(stored.FindValue("c")), nullptr);
  EXPECT_NE(stored.constant(stored.FindValue("r")), nullptr);
  EXPECT_EQ(stored.constant(stored.FindValue("m")), nullptr);
  EXPECT_EQ(stored.constant(stored.FindValue("v")), nullptr);
  EXPECT_LT(RelativeError(RunGraph(stored, Input()), RunGraph(graph, Input())),
            RelativeError(RunGraph(StoreWeightsInt(graph, 4, 32).value(), Input()),
                          RunGraph(graph, Input())));
  EXPECT_EQ(StoreWeightsInt(graph, 4, 32, {"b"}).status().code(), StatusCode::kInvalidArgument);
}

TEST(StoreWeightsTest, WhatCannotBeAskedFor) {
  EXPECT_EQ(StoreWeightsInt(Everything(), 5, 32).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(StoreWeightsInt(Everything(), 4, 24).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(StoreWeights16(Everything(), DType::f64).status().code(), StatusCode::kInvalidArgument);
  const Graph none = ParseModel("graph \"g\"(x: f32[N,2]) -> (y) { y = Relu(x) }");
  EXPECT_EQ(StoreWeightsInt(none, 4, 32).status().code(), StatusCode::kUnsupported);
  EXPECT_EQ(StoreWeights16(none, DType::f16).status().code(), StatusCode::kUnsupported);
}

TEST(StoreWeightsTest, SixteenBitsStayClose) {
  const Graph graph = Everything();
  const Tensor expected = RunGraph(graph, Input());
  for (const auto& [dtype, error] : {std::pair{DType::f16, 0.002}, {DType::bf16, 0.02}}) {
    std::vector<TensorRange> ranges;
    const Graph stored = StoreWeights16(graph, dtype, &ranges).value();
    EXPECT_LT(RelativeError(RunGraph(stored, Input()), expected), error);
    ASSERT_EQ(ranges.size(), 5u);
    for (const TensorRange& range : ranges) {
      EXPECT_EQ(range.overflow + range.underflow, 0) << range.name;
      EXPECT_GT(range.relative_rms_error, 0);
      EXPECT_LT(range.relative_rms_error, error);
    }
    ExpectSameAfterExport(stored);
  }
}

TEST(StoreWeightsTest, RangesSayWhatHalvesCannotHold) {
  const Graph graph =
      ParseModel("graph \"g\"(x: f32[N,2], w: f32[2,3]) -> (y) { y = MatMul(x, w) }",
                 {Tensor::From<float>({2, 3}, {70000, 0, 1e-9f, -1, 65000, 1e-7f})});
  std::vector<TensorRange> ranges;
  ASSERT_TRUE(StoreWeights16(graph, DType::f16, &ranges).ok());
  ASSERT_EQ(ranges.size(), 1u);
  EXPECT_EQ(ranges[0].name, "w");
  EXPECT_EQ(ranges[0].max_abs, 70000);
  EXPECT_EQ(ranges[0].smallest_nonzero, 1e-9f);
  EXPECT_EQ(ranges[0].overflow, 1);
  EXPECT_EQ(ranges[0].underflow, 1);  // 1e-7 is a subnormal half
  ranges.clear();
  ASSERT_TRUE(StoreWeights16(graph, DType::bf16, &ranges).ok());
  EXPECT_EQ(ranges[0].overflow + ranges[0].underflow, 0);
}

}  // namespace
}  // namespace minim
