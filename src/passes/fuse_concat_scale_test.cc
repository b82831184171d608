#include <gtest/gtest.h>

#include "passes/passes.h"
#include "passes/testing/pass_test.h"

namespace minim {
namespace {

bool HasAll(std::string_view) { return true; }

Result<bool> AtAvx512(Graph& graph, const PassContext&) {
  return FuseConcatScale(graph, {.has_kernel = HasAll, .isa = Isa::kAvx512});
}

// What becomes of element-wise chains over images of 3, 2, 1 and 2 channels.
Graph Fused(const std::string& nodes, const char* type = "f32", const char* outputs = "y") {
  Graph graph = Parse(fmt::format(
      R"(graph "g"(a: {0}[2,4,3], b: {0}[2,4,2], c: {0}[2,4,1], bytes: u8[2,4,2]) -> ({1}) {{
    const s5: f32[1,5] = [1, -2, 3, 0.5, -0.25]
    const t5: f32[5] = [0.5, 1, -1.5, 2, -3]
    const s6: f32[1,1,6] = [1, -2, 3, 0.5, -0.25, 7]
    const t6: f32[6] = [0.5, 1, -1.5, 2, -3, 0.125]
    const rows: f32[4,1] = [1, 2, 3, 4]
    {2} }})",
      type, outputs, nodes));
  EXPECT_TRUE(FuseElementwise(graph, {.has_kernel = HasAll}).ok());
  Graph after = Apply(AtAvx512, graph);
  EXPECT_TRUE(EliminateDeadCode(after, {}).ok());
  return after;
}

const char kRelu[] = R"(d = Concat(a, b) {axis=2}
    e = Concat(d, c) {axis=-1}
    f = Mul(e, s6) g = Add(t6, f) y = Relu(g))";

TEST(FuseConcatScaleTest, PartsAreScaledFromWhereTheyLie) {
  const Graph graph = Fused(kRelu);
  ASSERT_EQ(OpsOf(graph), Ops({"ConcatScale"}));
  const Node& node = graph.nodes[0];
  EXPECT_EQ(std::vector(node.inputs.begin() + 2, node.inputs.end()),
            std::vector(graph.inputs.begin(), graph.inputs.begin() + 3));
  EXPECT_EQ(node.attributes.String("activation", ""), "Relu");
  EXPECT_EQ(graph.constant(node.input(0))->dims(), (Dims{6}));
}

TEST(FuseConcatScaleTest, Bf16IsRoundedOnce) {
  const Graph graph = Fused(R"(d = Concat(a, b) {axis=2} e = Cast(d) {to=1}
    f = Mul(e, s5) g = Add(f, t5) y = Cast(g) {to=16})",
                            "bf16");
  ASSERT_EQ(OpsOf(graph), Ops({"ConcatScale"}));
  EXPECT_EQ(graph.type(graph.outputs[0]).dtype, DType::bf16);
  EXPECT_EQ(graph.nodes[0].attributes.String("activation", ""), "");
}

TEST(FuseConcatScaleTest, BytesAreDequantizedAndQuantizedOnTheWay) {
  const char steps[] = R"(const p: f32 = [0.03] const i: u8 = [100]
    const q: f32[1] = [0.07] const j: u8[1] = [9]
    w = DequantizeLinear(bytes, p, i)
    d = Concat(a, w) {axis=2} f = Mul(d, s5) g = Add(f, t5) )";
  const Graph graph = Fused(std::string(steps) + "r = Relu(g) y = QuantizeLinear(r, q, j)");
  ASSERT_EQ(OpsOf(graph), Ops({"ConcatScale"}));
  const Attributes& attributes = graph.nodes[0].attributes;
  EXPECT_EQ(attributes.Floats("x_scales"), (std::vector<float>{1, 0.03f}));
  EXPECT_EQ(attributes.Ints("x_zero_points"), (std::vector<int64_t>{0, 100}));
  EXPECT_EQ(attributes.Float("y_scale", 0), 0.07f);
  EXPECT_EQ(attributes.Int("y_zero_point", 0), 9);
  EXPECT_EQ(attributes.String("activation", ""), "Relu");
  EXPECT_EQ(graph.type(graph.outputs[0]).dtype, DType::u8);
  EXPECT_EQ(OpsOf(Fused(std::string(steps) + "y = Relu(g)")), Ops({"ConcatScale"}));
  // By steps of each channel, or to another type.
  EXPECT_EQ(OpsOf(Fused(std::string(steps) +
                        "const k: f32[5] = [1, 2, 3, 4, 5] const l: u8[5] = [0, 0, 0, 0, 0]"
                        "y = QuantizeLinear(g, k, l) {axis=2}")),
            Ops({"ConcatScale", "QuantizeLinear"}));
  EXPECT_EQ(OpsOf(Fused(std::string(steps) + "const l: i8 = [3] y = QuantizeLinear(g, q, l)")),
            Ops({"DequantizeLinear", "Concat", "FusedElementwise"}));
}

TEST(FuseConcatScaleTest, BytesDequantizedToBf16StayAnImageOfBf16) {
  const Graph graph = Fused(R"(const p: bf16 = [0.03] const i: u8 = [100]
    w = DequantizeLinear(bytes, p, i) d = Concat(a, w) {axis=2} e = Cast(d) {to=1}
    f = Mul(e, s5) g = Add(f, t5) y = Cast(g) {to=16})",
                            "bf16");
  EXPECT_EQ(OpsOf(graph), Ops({"DequantizeLinear", "ConcatScale"}));
  const Graph given = Fused(R"(const p: f32 = [0.03] const i: u8 = [100]
    w = DequantizeLinear(bytes, p, i) {output_dtype=16} d = Concat(a, w) {axis=2}
    e = Cast(d) {to=1} f = Mul(e, s5) g = Add(f, t5) y = Cast(g) {to=16})",
                            "bf16");
  EXPECT_EQ(OpsOf(given), Ops({"DequantizeLinear", "ConcatScale"}));
}

// Each level of a list of nothing but itself, twice, doubles what a model of few bytes asks for.
TEST(FuseConcatScaleTest, ListsWithinListsAreTakenApartToAnEnd) {
  std::string nodes = "none = Concat(nothing, nothing) {axis=2}\n";
  for (int i = 0; i < 40; ++i)
    nodes +=
        fmt::format("n{} = Concat({}, {}) {{axis=2}}\n", i, i ? fmt::format("n{}", i - 1) : "none",
                    i ? fmt::format("n{}", i - 1) : "none");
  Graph graph = Parse(R"(graph "g"(a: f32[2,4,5], nothing: f32[2,4,0]) -> (y) {
    const s: f32[5] = [1, -2, 3, 0.5, -0.25]
    )" + nodes + "d = Concat(a, n39) {axis=2} f = Mul(d, s) y = Add(f, s) }");
  ASSERT_TRUE(FuseElementwise(graph, {.has_kernel = HasAll}).ok());
  graph = Apply(AtAvx512, graph);
  ASSERT_TRUE(graph.nodes.back().Is("ConcatScale", kMinimDomain));
  EXPECT_LE(graph.nodes.back().inputs.size(), 1100u);
}

TEST(FuseConcatScaleTest, AConcatThatOthersReadStaysBeside) {
  EXPECT_EQ(OpsOf(Fused(kRelu, "f32", "y, d")), Ops({"Concat", "ConcatScale"}));
  EXPECT_EQ(OpsOf(Fused(R"(d = Concat(a, a) {axis=1} e = Concat(d, d) {axis=2}
    f = Mul(e, s6) y = Add(f, t6))")),
            Ops({"Concat", "ConcatScale"}));
}

TEST(FuseConcatScaleTest, OthersStay) {
  const auto stays = [](const std::string& nodes, const char* type = "f32") {
    return OpsOf(Fused("d = Concat(a, b) {axis=2}\n" + nodes, type)).back() == "FusedElementwise";
  };
  EXPECT_TRUE(stays("f = Mul(d, rows) y = Add(f, t5)"));
  EXPECT_TRUE(stays("f = Add(d, t5) y = Mul(f, s5)"));
  EXPECT_TRUE(stays("f = Mul(d, s5) g = Add(f, t5) y = Sigmoid(g)"));
  EXPECT_TRUE(stays("f = Mul(d, s5) y = Add(f, d)"));
  EXPECT_TRUE(stays("e = Cast(d) {to=1} f = Mul(e, s5) y = Add(f, t5)", "bf16"));
}

TEST(FuseConcatScaleTest, OlderProcessorsKeepChains) {
  Graph graph = Parse(R"(graph "g"(x: f32[2,2]) -> (y) {
    const s: f32[2] = [1, 2] f = Mul(x, s) y = Add(f, s) })");
  const PassContext context = {.has_kernel = HasAll, .isa = Isa::kAvx2};
  ASSERT_TRUE(FuseElementwise(graph, context).ok());
  EXPECT_FALSE(FuseConcatScale(graph, context).value());
}

}  // namespace
}  // namespace minim
