#include <gtest/gtest.h>

#include "passes/passes.h"
#include "passes/testing/pass_test.h"

namespace minim {
namespace {

Result<bool> Assign(Graph& graph, const PassContext&) {
  return AssignLayouts(graph, {.isa = Isa::kAvx512Vnni});
}

// A convolution with 1x1 filters from `from` to `to` channels.
std::string Conv(const char* y, const char* x, int to, int from) {
  std::string values;
  for (int i = 0; i < to * from; ++i) values += fmt::format("{}{}", i ? ", " : "", i % 7 - 3);
  return fmt::format(
      "\n    const {0}w: i8[{2},{3},1,1] = [{4}]\n"
      "    {0} = QLinearConv({1}, s, z, {0}w, s, none, s, z)",
      y, x, to, from, values);
}

std::string FloatConv(const char* y, const char* x, int to, int from) {
  std::string values;
  for (int i = 0; i < to * from; ++i)
    values += fmt::format("{}{}", i ? ", " : "", (i % 7 - 3) / 8.);
  return fmt::format("\n    const {0}w: f32[{2},{3},1,1] = [{4}]\n    {0} = Conv({1}, {0}w)", y, x,
                     to, from, values);
}

// Bytes have zero points of the input's type.
Graph Net(const std::string& nodes, std::string_view input = "u8[2,64,3,5]",
          const char* outputs = "y") {
  return Parse(fmt::format(R"(graph "g"(x: {}) -> ({}) {{
    const s: f32 = [0.02]
    const z: {} = [120]
    const none: i8 = [0]{} }})",
                           input, outputs, input.starts_with("i8") ? "i8" : "u8", nodes));
}

TEST(AssignLayoutsTest, ARegionIsTransposedAtItsEdgesOnly) {
  const std::string pool = "\n    b = MaxPool(a) {kernel_shape=[2,2], pads=[0,0,1,1]}";
  const Graph graph =
      Net(Conv("a", "x", 100, 64) + pool + Conv("c", "b", 100, 100) +
          "\n    d = Concat(b, c) {axis=1}\n    e = DequantizeLinear(d, s, z)\n    f = Relu(e)" +
          "\n    g = QuantizeLinear(f, s, z)" + Conv("h", "g", 100, 200) + "\n    y = Flatten(h)");
  EXPECT_EQ(OpsOf(Apply(Assign, graph)),
            Ops({"Transpose", "NhwcQLinearConv", "NhwcMaxPool", "NhwcQLinearConv", "Concat",
                 "DequantizeLinear", "Relu", "QuantizeLinear", "NhwcQLinearConv", "Transpose",
                 "Flatten"}));
}

TEST(AssignLayoutsTest, ValuesThatOthersReadAreThereInBothLayouts) {
  const Graph graph = Net(Conv("a", "x", 200, 64) + Conv("b", "a", 200, 200) +
                              "\n    y = Flatten(a)\n    w = Flatten(b)",
                          "u8[2,64,3,5]", "y, w, a");
  EXPECT_EQ(OpsOf(Apply(Assign, graph)),
            Ops({"Transpose", "NhwcQLinearConv", "Transpose", "NhwcQLinearConv", "Transpose",
                 "Flatten", "Flatten"}));
}

TEST(AssignLayoutsTest, TranspositionsThatAreThereAreUsed) {
  const Graph graph = Net(
      "\n    a = Transpose(x) {perm=[0,3,1,2]}" + Conv("b", "a", 128, 128) + "\n    y = Flatten(b)",
      "u8[2,3,5,128]");
  // The one that stood there is dead now.
  EXPECT_EQ(OpsOf(Apply(Assign, graph)),
            Ops({"Transpose", "NhwcQLinearConv", "Transpose", "Flatten"}));
}

TEST(AssignLayoutsTest, WhatDoesNotPayOrHasNoKernelStays) {
  const Graph few = Net(Conv("a", "x", 8, 64) + "\n    y = Flatten(a)");
  EXPECT_EQ(OpsOf(Apply(Assign, few)), Ops({"QLinearConv", "Flatten"}));
  const std::string pays = Conv("a", "x", 256, 256) + "\n    y = Flatten(a)";
  EXPECT_EQ(OpsOf(Apply(Assign, Net(pays, "u8[1,256,2,3]"))),
            Ops({"Transpose", "NhwcQLinearConv", "Transpose", "Flatten"}));
  EXPECT_EQ(OpsOf(Apply(Assign, Net(pays, "i8[1,256,2,3]"))), Ops({"QLinearConv", "Flatten"}));
  Graph portable = Net(pays, "u8[1,256,2,3]");
  const auto changed = AssignLayouts(portable, {.isa = Isa::kAvx512});
  EXPECT_TRUE(changed.ok() && !*changed);
}

// A value for each of 512 channels.
std::string Line() {
  std::string line;
  for (int i = 0; i < 512; ++i) line += fmt::format("{}{}", i ? ", " : "", i % 128 - 60);
  return line;
}

TEST(AssignLayoutsTest, FloatsWithConstantsOfTheirChannels) {
  const std::string line = Line();
  const Graph graph =
      Net(FloatConv("a", "x", 512, 512) +
              fmt::format("\n    const k: f32[512,1,1] = [{0}]\n    const l: f32[1,512,1,1] = [{0}]"
                          "\n    const rows: f32[1,3,1] = [1, 2, 3]",
                          line) +
              "\n    b = Mul(a, k)\n    c = Add(l, b)\n    r = Mul(c, rows)"
              "\n    m = MaxPool(r) {kernel_shape=[1,2]}"
              "\n    p = AveragePool(m) {kernel_shape=[2,2]}" +
              FloatConv("d", "p", 512, 512) + "\n    y = Flatten(d)",
          "f32[2,512,3,5]");
  Graph fused = graph;
  EXPECT_EQ(OpsOf(Apply(Assign, fused, 1e-3)),
            Ops({"Transpose", "NhwcFusedConv", "Mul", "Add", "Mul", "NhwcMaxPool",
                 "NhwcAveragePool", "NhwcFusedConv", "Transpose", "Flatten"}));
  ASSERT_TRUE(FuseElementwise(fused, {}).ok());
  EXPECT_EQ(OpsOf(Apply(Assign, fused, 1e-3)),
            Ops({"Transpose", "NhwcFusedConv", "FusedElementwise", "NhwcMaxPool", "NhwcAveragePool",
                 "NhwcFusedConv", "Transpose", "Flatten"}));
}

TEST(AssignLayoutsTest, FusedConvolutionsAsTheirKernelTakesThem) {
  const auto ops = [](const char* after, Isa isa = Isa::kAvx512) {
    Graph graph = Net(FloatConv("c", "x", 640, 640) + after, "f32[1,640,2,3]");
    EXPECT_TRUE(FuseEpilogue(graph, {}).ok() && EliminateDeadCode(graph, {}).ok());
    EXPECT_TRUE(AssignLayouts(graph, {.isa = isa}).ok());
    return OpsOf(graph);
  };
  const Ops turned = {"Transpose", "NhwcFusedConv", "Transpose"};
  EXPECT_EQ(ops("\n    y = Relu(c)"), turned);
  EXPECT_EQ(ops("\n    y = Relu(c)", Isa::kAvx2), Ops({"FusedConv"}));
  EXPECT_EQ(ops("\n    y = Sigmoid(c)"), Ops({"FusedConv"}));
  EXPECT_EQ(ops("\n    y = Add(c, x)"), turned);
}

TEST(AssignLayoutsTest, GroupsOfChannelsAreNormalizedWhereTheyLie) {
  const Graph graph =
      Net(FloatConv("a", "x", 512, 512) + fmt::format("\n    const k: f32[512] = [{}]", Line()) +
              "\n    b = com.microsoft.GroupNorm(a, k, k) {groups=8, "
              "channels_last=0, activation=1}" +
              FloatConv("c", "b", 512, 512) + "\n    y = Flatten(c)",
          "f32[2,512,3,5]");
  EXPECT_EQ(OpsOf(Apply(Assign, graph, 1e-2)), Ops({"Transpose", "NhwcFusedConv", "GroupNorm",
                                                    "NhwcFusedConv", "Transpose", "Flatten"}));
}

TEST(AssignLayoutsTest, ImagesGrowWithTheirChannelsLast) {
  const auto ops = [](const std::string& resize, const std::string& before = "") {
    const Graph graph = Net(FloatConv("a", "x", 512, 512) + before + "\n    b = Resize(" + resize +
                                FloatConv("c", "b", 512, 512) + "\n    y = Flatten(c)",
                            "f32[2,512,3,5]");
    return OpsOf(Apply(Assign, graph, 1e-3));
  };
  const std::string scales = "\n    const k: f32[4] = [1, 1, 2, 3]";
  const Ops turned = {"Transpose",     "NhwcFusedConv", "Resize",
                      "NhwcFusedConv", "Transpose",     "Flatten"};
  EXPECT_EQ(ops("a, _, k)", scales), turned);
  EXPECT_EQ(ops("a, _, k) {mode=\"linear\"}", scales), turned);
  EXPECT_EQ(ops("a, _, _, k)", "\n    const k: i64[4] = [2, 512, 7, 4]"), turned);
  EXPECT_EQ(ops("a, _, k) {axes=[2,3]}", "\n    const k: f32[2] = [2, 3]"),
            Ops({"Transpose", "NhwcFusedConv", "Transpose", "Resize", "Transpose", "NhwcFusedConv",
                 "Transpose", "Flatten"}));
}

// BF16 that stays as it is would be widened: one product is enough to turn it.
TEST(AssignLayoutsTest, Bf16IsTurnedWhereItsKernelIs) {
  const auto ops = [](Isa isa) {
    Graph graph = Parse(R"(graph "g"(x: f32[1,2,4,4]) -> (y) {
      const w: f32[2,2,1,1] = [1, 2, 3, 4]
      v = Cast(w) {to=bf16} l = Cast(x) {to=bf16} c = Conv(l, v) y = MaxPool(c) {kernel_shape=[2,2]}
    })");
    EXPECT_TRUE(FoldConstants(graph, {}).ok());
    EXPECT_TRUE(AssignLayouts(graph, {.isa = isa}).ok());
    return OpsOf(graph);
  };
  EXPECT_EQ(ops(Isa::kAvx512Vnni), Ops({"Cast", "Conv", "MaxPool"}));
  EXPECT_EQ(ops(Isa::kAvx512Bf16),
            Ops({"Cast", "Transpose", "NhwcFusedConv", "NhwcMaxPool", "Transpose"}));
}

// What only follows is not worth a transposition of its own.
TEST(AssignLayoutsTest, EdgesLieWhereTheyCostLeast) {
  const Graph graph = Net("\n    q = QuantizeLinear(x, s, z)" + Conv("a", "q", 256, 256) +
                              "\n    d = DequantizeLinear(a, s, z)\n    y = Relu(d)",
                          "f32[1,256,2,3]");
  EXPECT_EQ(OpsOf(Apply(Assign, graph, 1e-6)),
            Ops({"QuantizeLinear", "Transpose", "NhwcQLinearConv", "Transpose", "DequantizeLinear",
                 "Relu"}));
}

TEST(AssignLayoutsTest, OutputsThatAreLeftOutAreNoImages) {
  Graph graph = Net(Conv("a", "x", 256, 256) + "\n    y = Flatten(a)", "u8[1,256,2,3]");
  const ValueId x = graph.AddInput("steps", {DType::f32, Shape{2, 1, 3}});
  const ValueId w = graph.AddConstant("w", Tensor(DType::f32, {1, 8, 3})),
                r = graph.AddConstant("r", Tensor(DType::f32, {1, 8, 2}));
  Node& lstm = graph.AddNode("LSTM", {x, w, r}, 2, {{"hidden_size", int64_t{2}}});
  graph.outputs.push_back(lstm.output(1));
  lstm.outputs[0] = kNoValue;
  ASSERT_TRUE(InferGraph(graph).ok());
  EXPECT_EQ(OpsOf(Apply(Assign, graph)),
            Ops({"Transpose", "NhwcQLinearConv", "Transpose", "Flatten", "LSTM"}));
}

}  // namespace
}  // namespace minim
