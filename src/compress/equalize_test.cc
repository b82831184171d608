#include "compress/equalize.h"

#include "compress/testing/models.h"

namespace minim {
namespace {

float MostOf(const Graph& graph, const char* name, int64_t first, int64_t n, int64_t step = 1) {
  const Tensor& w = *graph.constant(graph.FindValue(name));
  float most = 0;
  for (int64_t i = 0; i < n; ++i) most = std::max(most, std::fabs(w.as<float>()[first + i * step]));
  return most;
}

// Channel `c` of what the first op makes becomes `factor` times as large.
void Unbalance(Tensor& w, Tensor& bias, int64_t channel, int64_t row, float factor) {
  for (int64_t i = 0; i < row; ++i) w.as<float>()[channel * row + i] *= factor;
  bias.as<float>()[channel] *= factor;
}

TEST(EqualizeTest, ConvsPoolsAndDepthwiseKeepTheFunction) {
  Tensor a = NormalTensor({4, 2, 3, 3}, 1, 0.3f), bias = NormalTensor({4}, 2, 0.1f);
  Unbalance(a, bias, 1, 18, 1000);
  const Graph graph = ParseModel(
      R"(graph "g"(x: f32[N,2,9,9], a: f32[4,2,3,3], b: f32[4], d: f32[4,1,3,3], c: f32[3,4,1,1])
         -> (y) {
    u = Conv(x, a, b)
    v = Relu(u)
    p = MaxPool(v) {kernel_shape=[2,2]}
    w = Conv(p, d) {group=4}
    l = LeakyRelu(w) {alpha=0.1}
    y = Conv(l, c) })",
      {a, bias, NormalTensor({4, 1, 3, 3}, 3, 0.3f), NormalTensor({3, 4, 1, 1}, 4, 0.3f)});
  Graph equal = graph;
  EXPECT_EQ(EqualizeWeights(equal).value(), 2);
  const Tensor x = NormalTensor({3, 2, 9, 9}, 5, 1);
  EXPECT_LT(RelativeError(RunGraph(equal, x), RunGraph(graph, x)), 1e-5);
  for (int64_t c = 0; c < 4; ++c) {  // made as large as read
    EXPECT_NEAR(MostOf(equal, "a", c * 18, 18) / MostOf(equal, "d", c * 9, 9), 1, 0.02);
    EXPECT_NEAR(MostOf(equal, "d", c * 9, 9) / MostOf(equal, "c", c, 3, 4), 1, 0.02);
  }
}

TEST(EqualizeTest, ProductsWithTheirBiasBehindThem) {
  Tensor w = NormalTensor({6, 5}, 1, 0.5f);
  for (int64_t i = 0; i < 6; ++i) w.as<float>()[i * 5 + 2] *= 300;
  const Graph graph = ParseModel(
      R"(graph "g"(x: f32[N,6], w: f32[6,5], b: f32[5], v: f32[3,5]) -> (y) {
    m = MatMul(x, w)
    s = Add(b, m)
    r = Relu(s)
    y = Gemm(r, v) {transB=1} })",
      {w, NormalTensor({5}, 2, 1), NormalTensor({3, 5}, 3, 1)});
  Graph equal = graph;
  EXPECT_EQ(EqualizeWeights(equal).value(), 1);
  const Tensor x = NormalTensor({4, 6}, 4, 1);
  EXPECT_LT(RelativeError(RunGraph(equal, x), RunGraph(graph, x)), 1e-5);
  EXPECT_NEAR(MostOf(equal, "w", 2, 6, 5) / MostOf(equal, "v", 2, 3, 5), 1, 0.01);
}

TEST(EqualizeTest, LeavesAloneWhatIsReadTwiceOrBent) {
  for (const char* between : {"r = Sigmoid(u)", "r = Relu(u)\n z = Exp(u)", "r = Clip(u, l, h)"}) {
    const Graph graph = ParseModel(
        fmt::format(R"(graph "g"(x: f32[N,2], a: f32[2,2], c: f32[2,2], l: f32, h: f32) -> (y) {{
      u = MatMul(x, a)
      {}
      y = MatMul(r, c) }})",
                    between),
        {Tensor::From<float>({2, 2}, {1, 100, 1, 100}), Tensor::From<float>({2, 2}, {1, 1, 1, 1}),
         Tensor::Scalar(0.0f), Tensor::Scalar(6.0f)});
    Graph equal = graph;
    EXPECT_EQ(EqualizeWeights(equal).value(), 0) << between;
    EXPECT_EQ(ToText(equal), ToText(graph));
  }
}

TEST(EqualizeTest, WeightsThatAnotherNodeReadsStayAsTheyAre) {
  const Graph graph = ParseModel(
      R"(graph "g"(x: f32[N,2], a: f32[2,2]) -> (y, z) {
    u = MatMul(x, a)
    y = MatMul(u, a)
    z = Exp(y) })",
      {Tensor::From<float>({2, 2}, {1, 100, 1, 50})});
  Graph equal = graph;
  EXPECT_EQ(EqualizeWeights(equal).value(), 1);
  const Tensor x = NormalTensor({4, 2}, 4, 0.01f);
  EXPECT_LT(RelativeError(RunGraph(equal, x), RunGraph(graph, x)), 1e-5);
}

}  // namespace
}  // namespace minim
