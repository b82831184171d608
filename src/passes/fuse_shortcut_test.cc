#include <gtest/gtest.h>

#include "passes/passes.h"
#include "passes/testing/pass_test.h"

namespace minim {
namespace {

// Two convolutions of x with the channels last, a and b, then `nodes`.
Graph Net(const std::string& nodes, const char* outputs = "y") {
  return Parse(fmt::format(R"(graph "g"(x: u8[2,3,4,5]) -> ({}) {{
    const s: f32 = [0.02]
    const t: f32 = [0.5]
    const z: u8 = [120]
    const v: u8 = [0]
    const none: i8 = [0]
    const w: i8[5,5,1,1] = [1,-2,3,4,5,-6,7,8,9,-1,2,3,-4,5,6,7,8,-9,1,2,3,4,-5,6,7]
    a = ai.minim.NhwcQLinearConv(x, s, z, w, s, none, s, z)
    b = ai.minim.NhwcQLinearConv(a, s, z, w, s, none, t, v)
    {} }})",
                           outputs, nodes));
}

Graph Fuse(const std::string& nodes, const char* outputs = "y") {
  Graph graph = Net(nodes, outputs);
  EXPECT_TRUE(FuseElementwise(graph, {.has_kernel = [](std::string_view) { return true; }}).ok());
  return Apply(FuseShortcut, graph);
}

const char kSum[] = R"(c = DequantizeLinear(a, s, z)
    d = DequantizeLinear(b, t)
    e = Add(c, d)
    f = Relu(e)
    y = QuantizeLinear(f, t, z))";

TEST(FuseShortcutTest, TheLaterConvolutionTakesTheSum) {
  const Graph graph = Fuse(kSum);
  EXPECT_EQ(OpsOf(graph), Ops({"NhwcQLinearConv", "NhwcQLinearConv"}));
  const Node& conv = graph.nodes[1];
  EXPECT_EQ(conv.input(9), graph.nodes[0].output(0));
  EXPECT_EQ(conv.attributes.String("activation", ""), "Relu");
  EXPECT_EQ(graph.value(conv.output(0)).name, "y");
}

TEST(FuseShortcutTest, WithoutRelu) {
  const Graph graph = Fuse(R"(c = DequantizeLinear(x, t, v)
    d = DequantizeLinear(b, t, v)
    e = Add(d, c)
    y = QuantizeLinear(e, s, v))");
  EXPECT_EQ(OpsOf(graph), Ops({"NhwcQLinearConv", "NhwcQLinearConv"}));
  EXPECT_EQ(graph.nodes[1].input(9), graph.inputs[0]);
  EXPECT_EQ(graph.nodes[1].attributes.String("activation", ""), "");
}

TEST(FuseShortcutTest, OthersStay) {
  const Ops stays = {"NhwcQLinearConv", "NhwcQLinearConv", "FusedElementwise"};
  // Both are read elsewhere.
  EXPECT_EQ(OpsOf(Fuse(kSum, "y, a, b")), stays);
  // Another scale than the convolution's.
  EXPECT_EQ(OpsOf(Fuse(R"(c = DequantizeLinear(x, s, z)
    d = DequantizeLinear(b, s, v)
    e = Add(c, d)
    y = QuantizeLinear(e, t, z))")),
            stays);
  // More than a sum.
  EXPECT_EQ(OpsOf(Fuse(R"(c = DequantizeLinear(x, s, z)
    d = DequantizeLinear(b, t, v)
    e = Add(c, d)
    f = Sigmoid(e)
    y = QuantizeLinear(f, t, z))")),
            stays);
  // The sum is read as floats, too.
  EXPECT_EQ(OpsOf(Fuse(R"(c = DequantizeLinear(x, s, z)
    d = DequantizeLinear(b, t, v)
    f = Add(c, d)
    y = QuantizeLinear(f, t, z))",
                       "y, f")),
            stays);
}

}  // namespace
}  // namespace minim
