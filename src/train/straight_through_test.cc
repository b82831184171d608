#include "train/straight_through.h"

#include <gtest/gtest.h>

#include "graph/text.h"
#include "ops/builder.h"
#include "ops/infer.h"
#include "ops/reference.h"
#include "passes/passes.h"

namespace minim {
namespace {

struct Passed {
  Tensor y, gradient;  // of the sum of y * y
};

// `text` has one input x and one output.
Passed PassedOf(const std::string& text, const Tensor& x) {
  Graph graph = ParseText(text).value();
  EXPECT_TRUE(InferGraph(graph).ok());
  const Tensor before = EvaluateGraph(graph, {x}).value()[0];
  EXPECT_TRUE(PassThroughRounding(graph, {graph.inputs[0]}).ok());
  EXPECT_TRUE(Verify(graph).ok());
  Builder builder(graph);
  const ValueId y = graph.outputs[0],
                loss = builder.Emit("ReduceSum", {builder.Mul(y, y)}, {{"keepdims", int64_t{0}}});
  const auto gradients = Autodiff(graph, loss, {graph.inputs[0]});
  EXPECT_TRUE(gradients.ok()) << gradients.status().message();
  graph.outputs.push_back((*gradients)[0]);
  EXPECT_TRUE(ExpandFunctions(graph, {.has_kernel = [](std::string_view) { return false; }}).ok());
  const std::vector<Tensor> after = EvaluateGraph(graph, {x}).value();
  for (int64_t i = 0; i < before.size(); ++i)
    EXPECT_EQ(after[0].as<float>()[i], before.as<float>()[i]);
  return {after[0], after[1]};
}

TEST(StraightThroughTest, GradientsPassWhereTheIntegersReach) {
  const Tensor x = Tensor::From<float>({5}, {-5.5f, -4.9f, 0.3f, 122.5f, 123});
  const Passed passed = PassedOf(R"(graph "g"(x: f32[5]) -> (y) {
    const s: f32 = [0.5]
    const z: u8 = [10]
    q = QuantizeLinear(x, s, z)
    y = DequantizeLinear(q, s, z) })",
                                 x);
  const float expected[] = {0, -10, 1, 245, 0};
  for (int i = 0; i < 5; ++i) EXPECT_EQ(passed.gradient.as<float>()[i], expected[i]) << i;
  EXPECT_EQ(passed.y.as<float>()[2], 0.5f);
}

TEST(StraightThroughTest, EachChannelHasItsOwnReach) {
  const Tensor x = Tensor::From<float>({2, 2}, {1, 20, 1, 20});
  const Passed passed = PassedOf(R"(graph "g"(x: f32[2,2]) -> (y) {
    const s: f32[2] = [0.1, 1]
    const z: i8[2] = [0, 0]
    q = QuantizeLinear(x, s, z) {axis=0}
    y = DequantizeLinear(q, s, z) {axis=0} })",
                                 x);
  const float expected[] = {2, 0, 2, 40};
  for (int i = 0; i < 4; ++i) EXPECT_NEAR(passed.gradient.as<float>()[i], expected[i], 1e-5) << i;
}

TEST(StraightThroughTest, AScaleThatIsComputedTakesNoGradient) {
  const Tensor x = Tensor::From<float>({3}, {-3, 1, 2});
  const Passed passed = PassedOf(R"(graph "g"(x: f32[3]) -> (y) {
    const m: f32 = [127]
    a = Abs(x)
    r = ReduceMax(a) {keepdims=0}
    s = Div(r, m)
    q = QuantizeLinear(x, s) {output_dtype=i8}
    y = DequantizeLinear(q, s) })",
                                 x);
  for (int i = 0; i < 3; ++i)
    EXPECT_EQ(passed.gradient.as<float>()[i], 2 * passed.y.as<float>()[i]) << i;
}

TEST(StraightThroughTest, WhatDoesNotDependOnParametersStays) {
  Graph graph = ParseText(R"(graph "g"(x: f32[5]) -> (y) {
    const s: f32 = [0.5]
    q = QuantizeLinear(x, s)
    y = DequantizeLinear(q, s) })")
                    .value();
  ASSERT_TRUE(InferGraph(graph).ok());
  const std::string before = ToText(graph);
  ASSERT_TRUE(PassThroughRounding(graph, {}).ok());
  EXPECT_EQ(ToText(graph), before);
}

}  // namespace
}  // namespace minim
