// Which ops compute in BF16 for inference, and where the casts between come to lie.
#include <gtest/gtest.h>

#include "passes/testing/pass_test.h"

namespace minim {
namespace {

Graph Lowered(std::string_view text, Isa isa = Isa::kAmx) {
  Graph graph = Parse(text);
  const PassContext context{.isa = isa, .precision = DType::bf16};
  EXPECT_TRUE(LowerPrecision(graph, context).ok());
  EXPECT_TRUE(FoldConstants(graph, context).ok());
  EXPECT_TRUE(EliminateDeadCode(graph, context).ok());
  EXPECT_TRUE(Verify(graph).ok());
  return graph;
}

constexpr std::string_view kConvs = R"(graph "g"(x: f32[1,2,4,4]) -> (y) {
    const w: f32[2,2,1,1] = [1, 2, 3, 4]
    const b: f32[2] = [0.5, 0.25]
    a = com.microsoft.FusedConv(x, w, b) {activation="Relu"}
    p = MaxPool(a) {kernel_shape=[2,2]}
    m = AveragePool(p) {kernel_shape=[2,2]}
    c = Concat(m, m) {axis=1}
    const v: f32[4,4,1,1] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]
    y = Conv(c, v) })";

TEST(LowerPrecisionTest, WhatLiesBetweenProductsStaysLow) {
  const Graph graph = Lowered(kConvs);
  EXPECT_EQ(OpsOf(graph),
            Ops({"Cast", "FusedConv", "MaxPool", "AveragePool", "Concat", "Conv", "Cast"}));
  for (size_t i = 1; i + 1 < graph.nodes.size(); ++i)
    EXPECT_EQ(graph.type(graph.nodes[i].output(0)).dtype, DType::bf16) << graph.nodes[i].op;
  EXPECT_EQ(graph.type(graph.outputs[0]).dtype, DType::f32);
}

TEST(LowerPrecisionTest, AMachineWithoutTheArithmeticStaysInFp32) {
  EXPECT_EQ(OpsOf(Lowered(kConvs, Isa::kAvx512)), OpsOf(Parse(kConvs)));
}

TEST(LowerPrecisionTest, ProductsWithoutAKernelStayInFp32) {
  const std::string_view text = R"(graph "g"(x: f32[1,4,4,4]) -> (y) {
    const w: f32[2,2,1,1] = [1, 2, 3, 4]
    const v: f32[2,2,1,1] = [1, 2, 3, 4]
    a = Conv(x, w) {group=2}
    y = com.microsoft.FusedConv(a, v) {activation="Tanh"} })";
  EXPECT_EQ(OpsOf(Lowered(text)), OpsOf(Parse(text)));
}

TEST(LowerPrecisionTest, DepthwiseFiltersAreLowered) {
  const Graph graph = Lowered(R"(graph "g"(x: f32[1,2,4,4]) -> (y) {
    const w: f32[2,1,1,1] = [1, 2]
    const v: f32[2,2,1,1] = [1, 2, 3, 4]
    a = Conv(x, w) {group=2}
    y = Conv(a, v) })");
  EXPECT_EQ(OpsOf(graph), Ops({"Cast", "Conv", "Conv", "Cast"}));
}

// What computes in FP32 meets its cast before anything is moved.
TEST(LowerPrecisionTest, CastsMoveBeforeWhatOnlyMoves) {
  const Graph graph = Lowered(R"(graph "g"(x: f32[2,4], z: f32[2,4]) -> (y) {
    const w: f32[4,4] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]
    s = Softmax(x)
    c = Concat(s, z) {axis=0}
    t = Transpose(c) {perm=[0,1]}
    y = MatMul(t, w) })");
  EXPECT_EQ(OpsOf(graph),
            Ops({"Softmax", "Cast", "Cast", "Concat", "Transpose", "MatMul", "Cast"}));
}

TEST(LowerPrecisionTest, CastsMoveBeforeAResizeThatCopies) {
  const auto ops = [](const char* mode) {
    return OpsOf(Lowered(fmt::format(R"(graph "g"(x: f32[1,2,4,4]) -> (y) {{
      const w: f32[2,2,1,1] = [1, 2, 3, 4]
      const k: f32[4] = [1, 1, 2, 2]
      s = Softmax(x)
      r = Resize(s, _, k) {{mode="{}"}}
      y = Conv(r, w) }})",
                                     mode)));
  };
  EXPECT_EQ(ops("nearest"), Ops({"Softmax", "Cast", "Resize", "Conv", "Cast"}));
  EXPECT_EQ(ops("linear"), Ops({"Softmax", "Resize", "Cast", "Conv", "Cast"}));
}

TEST(LowerPrecisionTest, RecurrentWeightsAreStoredLowEverywhere) {
  for (const Isa isa : {Isa::kPortable, Isa::kAmx}) {
    Graph graph = Parse(R"(graph "g"(x: f32[2,1,3]) -> (y) {
      const w: f32[1,3,3] = [1.0001, 2, 3, 4, 5, 6, 7, 8, 9]
      const r: f32[1,3,1] = [1, 2, 3]
      y = GRU(x, w, r) {hidden_size=1} })");
    const PassContext context{.isa = isa, .precision = DType::bf16};
    ASSERT_TRUE(LowerPrecision(graph, context).ok());
    ASSERT_TRUE(FoldConstants(graph, context).ok());
    ASSERT_TRUE(EliminateDeadCode(graph, context).ok());
    ASSERT_EQ(OpsOf(graph), Ops({"GRU"}));
    EXPECT_EQ(graph.constant(graph.nodes[0].input(1))->as<float>()[0], 1.0f);
    EXPECT_EQ(graph.nodes[0].attributes.String("precision", ""), "bf16");
  }
}

}  // namespace
}  // namespace minim
