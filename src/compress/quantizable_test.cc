#include "compress/quantizable.h"

#include "compress/testing/models.h"

namespace minim {
namespace {

Graph Mixed() {
  return ParseModel(
      R"(graph "g"(x: f32[3,N,2], w: f32[1,12,2], r: f32[1,12,3], m: f32[3,4], v: f32[4,4])
         -> (y) {
    _, last, cell = LSTM(x, w, r) {hidden_size=3}
    s = Squeeze(last)
    a = MatMul(s, m)
    t = Tanh(a)
    y = Gemm(t, v) {transA=1} })",
      {Tensor(DType::f32, {1, 12, 2}), Tensor(DType::f32, {1, 12, 3}), Tensor(DType::f32, {3, 4}),
       Tensor(DType::f32, {4, 4})});
}

TEST(QuantizableTest, OpsAreNamedByTheirFirstOutput) {
  const Graph graph = Mixed();
  EXPECT_EQ(QuantizableOps(graph), (std::vector<std::string>{"a", "last"}));
}

TEST(QuantizableTest, WeightInputs) {
  const Graph graph = Mixed();
  EXPECT_EQ(WeightInputs(graph, graph.nodes[0]), (std::vector<int>{1, 2}));
  EXPECT_EQ(WeightInputs(graph, graph.nodes[2]), std::vector<int>{1});
  EXPECT_TRUE(WeightInputs(graph, graph.nodes[4]).empty());  // transposed activations
}

TEST(QuantizableTest, AnUnknownNameIsRefused) {
  const Graph graph = Mixed();
  EXPECT_TRUE(CheckKeepFloat(graph, {"a", "last"}).ok());
  const Status status = CheckKeepFloat(graph, {"t"});
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_NE(status.message().find("'t'"), std::string::npos);
}

TEST(QuantizableTest, DropUnreadLeavesTheOutputsOfWhatStays) {
  Graph graph = ParseModel(R"(graph "g"(x: f32[2,4]) -> (y) {
    const a: f32 = [1]
    const b: f32 = [2]
    y, rest = Split(x) {axis=1, num_outputs=2}
    s = Add(x, a)
    t = Mul(s, b) })");
  DropUnread(graph);
  ASSERT_EQ(graph.nodes.size(), 1u);
  EXPECT_EQ(graph.nodes[0].outputs.size(), 2u);
  EXPECT_NE(graph.nodes[0].outputs[1], kNoValue);
  EXPECT_TRUE(graph.constants.empty());
}

}  // namespace
}  // namespace minim
