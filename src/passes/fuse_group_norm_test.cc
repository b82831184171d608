#include <gtest/gtest.h>

#include "passes/passes.h"
#include "passes/testing/pass_test.h"

namespace minim {
namespace {

Graph Fused(const std::string& inputs, const std::string& nodes) {
  const Graph graph = Parse("graph \"g\"(" + inputs + R"() -> (y) {
      const g: f32[2] = [1, 2]
      const h: f32[2] = [0.5, -0.25]
      const w: f32[4,1,1] = [1, 2, 3, 4]
      const b: f32[1,4,1,1] = [0.5, -1, 1.5, 2]
      const columns: f32[3] = [1, 2, 3]
      const half: f32 = [0.5]
      const grouped: i64[3] = [0, 2, -1]
      const image: i64[4] = [2, 4, 5, 3]
)" + nodes + "}");
  Graph after = Apply(FuseGroupNorm, graph, 1e-5);  // constants meet in doubles
  EXPECT_TRUE(EliminateDeadCode(after, {}).ok());
  return after;
}

const std::string kNormalized =
    "r = Reshape(x, grouped) n = InstanceNormalization(r, g, h) {epsilon=0.01} ";

TEST(FuseGroupNormTest, AnInstanceNormBetweenReshapesBecomesAGroupNorm) {
  const auto ops = [](const std::string& nodes) {
    return OpsOf(Fused("x: f32[2,4,5,3]", kNormalized + nodes));
  };
  EXPECT_EQ(ops("y = Reshape(n, image)"), Ops({"GroupNorm"}));
  EXPECT_EQ(ops("i = Reshape(n, image) m = Mul(w, i) y = Add(m, b)"), Ops({"GroupNorm"}));
  EXPECT_EQ(ops("i = Reshape(n, image) m = Mul(i, half) y = Add(m, half)"), Ops({"GroupNorm"}));
  EXPECT_EQ(ops("i = Reshape(n, image) m = Mul(i, w) a = Add(m, b) s = Sigmoid(a) y = Mul(s, a)"),
            Ops({"GroupNorm"}));
  // What others read, and what is no value per channel, stays.
  EXPECT_EQ(ops("i = Reshape(n, image) m = Mul(i, columns) y = Add(m, b)"),
            Ops({"GroupNorm", "Mul", "Add"}));
  EXPECT_EQ(ops("i = Reshape(n, image) m = Mul(i, w) y = Add(m, i)"),
            Ops({"GroupNorm", "Mul", "Add"}));
  EXPECT_EQ(ops("i = Reshape(n, image) s = Sigmoid(i) t = Mul(s, i) y = Add(t, s)"),
            Ops({"GroupNorm", "Sigmoid", "Mul", "Add"}));
  EXPECT_EQ(ops("y = Relu(n)"), Ops({"Reshape", "InstanceNormalization", "Relu"}));
  EXPECT_EQ(ops("i = Reshape(n, image) k = ReduceSum(n) y = Add(i, k)"),
            Ops({"Reshape", "InstanceNormalization", "Reshape", "ReduceSum", "Add"}));
}

TEST(FuseGroupNormTest, AnImageOfOtherChannelsIsLeftAlone) {
  EXPECT_EQ(OpsOf(Fused("x: f32[1,3,20,2]",
                        "r = Reshape(x, grouped) "
                        "n = InstanceNormalization(r, g, h) y = Relu(n)"))
                .size(),
            3u);
  const Graph graph = Parse(R"(graph "g"(x: f32[1,3,4,2]) -> (y) {
    const g: f32[2] = [1, 2] const s: i64[3] = [1, 2, 12] const t: i64[4] = [1, 3, 4, 2]
    r = Reshape(x, s) n = InstanceNormalization(r, g, g) y = Reshape(n, t) })");
  EXPECT_EQ(OpsOf(Apply(FuseGroupNorm, graph)), OpsOf(graph));  // 3 channels in 2 groups
}

// Autocast widens what a BF16 convolution gives and narrows what the next one takes.
TEST(FuseGroupNormTest, TakesTheCastsOfBf16Along) {
  const auto fused = [](const std::string& nodes) {
    Graph graph = Parse(R"(graph "g"(x: bf16[2,4,5,3]) -> (y) {
      const g: f32[2] = [1, 2]
      const w: f32[4,1,1] = [1, 2, 3, 4]
      const grouped: i64[3] = [0, 2, -1]
      const image: i64[4] = [2, 4, 5, 3]
      r = Reshape(x, grouped) c = Cast(r) {to=1} n = InstanceNormalization(c, g, g)
      i = Reshape(n, image) m = Mul(i, w) )" +
                        nodes + "}");
    EXPECT_TRUE(FuseGroupNorm(graph, {}).value());
    EXPECT_TRUE(EliminateDeadCode(graph, {}).ok());
    EXPECT_TRUE(Verify(graph).ok());
    EXPECT_TRUE(InferGraph(graph).ok());
    return graph;
  };
  Graph narrow = fused("s = Sigmoid(m) t = Mul(m, s) y = Cast(t) {to=16}");
  EXPECT_EQ(OpsOf(narrow), Ops({"GroupNorm"}));
  EXPECT_EQ(narrow.type(narrow.outputs[0]).dtype, DType::bf16);
  EXPECT_EQ(OpsOf(fused("y = Relu(m)")), Ops({"Cast", "GroupNorm", "Relu"}));
}

}  // namespace
}  // namespace minim
