#include <gtest/gtest.h>

#include "core/philox.h"
#include "passes/passes.h"
#include "passes/testing/pass_test.h"

namespace minim {
namespace {

// On tiles; the same sums, but for zeros among them.
Graph Joined(const Graph& graph) {
  return Apply(
      [](Graph& g, const PassContext&) {
        return JoinGroups(g, {.isa = Isa::kAmx, .precision = DType::bf16});
      },
      graph, 1e-6);
}

std::string Constant(const std::string& name, const Dims& dims, uint64_t seed) {
  std::string text = fmt::format("const {}: f32{} = [", name, dims.ToString());
  const Philox random(seed);
  for (int64_t i = 0; i < dims.Elements(); ++i)
    text += fmt::format("{}{:.3f}", i ? ", " : "", random.Uniform(static_cast<uint64_t>(i)) - 0.5);
  return text + "]\n";
}

constexpr const char* kShuffle = R"(
    const parts: i64[5] = [0, 3, 4, 5, 5]
    const whole: i64[4] = [0, 12, 5, 5]
    p = Reshape(c, parts) t = Transpose(p) {perm=[0,2,1,3,4]} y = Reshape(t, whole))";

Graph Net(const std::string& nodes, const std::string& outputs = "y") {
  return Parse("graph \"g\"(x: f32[2,6,5,5], r: f32[2,12,5,5]) -> (" + outputs + ") {" +
               Constant("w", {12, 2, 1, 1}, 1) + Constant("v", {12, 2, 3, 3}, 2) +
               Constant("b", {12}, 3) + nodes + "}");
}

TEST(JoinGroupsTest, AConvolutionOfGroupsBecomesOneOfAllChannels) {
  for (const char* conv :
       {"y = Conv(x, w) {group=3}", "y = Conv(x, v, b) {group=3, pads=[1,1,1,1]}",
        "y = com.microsoft.FusedConv(x, w, b, r) {group=3, activation=\"Relu\"}"}) {
    const Graph after = Joined(Net(conv));
    ASSERT_EQ(after.nodes.size(), 1u) << conv;
    EXPECT_EQ(after.nodes[0].attributes.Int("group", 1), 1);
    EXPECT_EQ(after.type(after.nodes[0].input(1)).dims()[1], 6);
  }
}

TEST(JoinGroupsTest, AShuffleBecomesTheOrderOfFilters) {
  const Graph after =
      Joined(Net("c = com.microsoft.FusedConv(x, w, b) {group=3, activation=\"Relu\"}" +
                 std::string(kShuffle)));
  EXPECT_EQ(OpsOf(after), Ops({"FusedConv"}));
  EXPECT_EQ(after.value(after.outputs[0]).name, "y");
}

TEST(JoinGroupsTest, AShuffleOfWhatOthersReadStays) {
  const std::string conv = "c = Conv(x, w) {group=3}";
  EXPECT_EQ(Joined(Net(conv + kShuffle, "y, c")).nodes.size(), 4u);
  const std::string sum = "c = com.microsoft.FusedConv(x, w, b, r) {group=3}";
  EXPECT_EQ(Joined(Net(sum + kShuffle)).nodes.size(), 4u);
  const Graph other = Joined(Net(conv + R"(
    const parts: i64[5] = [0, 3, 4, 5, 5]
    const whole: i64[4] = [0, 12, 5, 5]
    p = Reshape(c, parts) t = Transpose(p) {perm=[0,2,1,4,3]} y = Reshape(t, whole))"));
  EXPECT_EQ(other.nodes.size(), 4u);
}

TEST(JoinGroupsTest, DepthwiseFiltersAndOtherLevelsStay) {
  for (const PassContext& context : {PassContext{.isa = Isa::kAvx512Bf16, .precision = DType::bf16},
                                     PassContext{.isa = Isa::kAmx}}) {
    Graph graph = Net("y = Conv(x, w) {group=3}");
    EXPECT_FALSE(JoinGroups(graph, context).value());
    EXPECT_EQ(graph.nodes[0].attributes.Int("group", 1), 3);
  }
  const Graph depthwise = Joined(Parse(R"(graph "g"(x: f32[1,2,4,4]) -> (y) {
    const w: f32[2,1,1,1] = [1, 2]
    y = Conv(x, w) {group=2} })"));
  EXPECT_EQ(depthwise.nodes[0].attributes.Int("group", 1), 2);
}

}  // namespace
}  // namespace minim
