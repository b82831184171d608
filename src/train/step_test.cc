#include "train/step.h"

#include <gtest/gtest.h>

#include <set>

#include "graph/text.h"
#include "ops/infer.h"

namespace minim {
namespace {

Result<StepGraph> StepOf(const std::string& text, const Tensor& labels, LossKind loss) {
  auto graph = ParseText(text);
  EXPECT_TRUE(graph.ok()) << graph.status().message();
  EXPECT_TRUE(InferGraph(*graph).ok());
  TrainConfig config;
  config.loss = loss;
  return BuildStep(*graph, config, TrainPrecision::kFp32, {Dims({3, 2})}, labels,
                   StepPart::kUpdate);
}

// The causal mask that the expansion brings is no parameter.
TEST(StepTest, TrainsThroughOpsGivenByExpansion) {
  auto graph = ParseText(R"(graph "g"(x: f32[N,2,2]) -> (y) {
    const w: f32[2,2] = [0.5, 0, 1, 0.5]
    const c: f32[2] = [0, 0]
    m = com.microsoft.FusedMatMul(x, w) {alpha=0.5}
    n = com.microsoft.BiasGelu(m, c)
    y = Attention(n, n, n) {q_num_heads=1, kv_num_heads=1, is_causal=1} })");
  ASSERT_TRUE(graph.ok()) << graph.status().message();
  ASSERT_TRUE(InferGraph(*graph).ok());
  TrainConfig config;
  config.loss = LossKind::kMeanSquaredError;
  const auto step = BuildStep(*graph, config, TrainPrecision::kFp32, {Dims({3, 2, 2})},
                              Tensor(DType::f32, {3, 2, 2}), StepPart::kUpdate);
  ASSERT_TRUE(step.ok()) << step.status().message();
  EXPECT_EQ(step->parameter_count, 6);
}

// What each draws must differ, or two layers would drop alike.
TEST(StepTest, DropoutsDrawApartAndThoseOfRatioZeroNotAtAll) {
  const auto step = StepOf(R"(graph "g"(x: f32[N,2]) -> (y) {
    const w: f32[2,2] = [0.5, 0, 1, 0.5]
    const none: f32[] = [0]
    const half: f32[] = [0.5]
    a = MatMul(x, w)
    b = Dropout(a, half)
    c = Dropout(b, none)
    y = Dropout(c, half) })",
                           Tensor(DType::f32, {3, 2}), LossKind::kMeanSquaredError);
  ASSERT_TRUE(step.ok()) << step.status().message();
  std::set<int64_t> seeds;
  for (const Node& node : step->graph.nodes) {
    if (!node.Is("Dropout")) continue;
    EXPECT_EQ(node.input(3), step->graph.inputs[kDraw]);
    seeds.insert(node.attributes.Int("seed", 0));  // one for both passes of a layer
  }
  EXPECT_EQ(seeds.size(), 2u);
}

TEST(StepTest, ModelsAndLabelsThatCannotBeTrainedAreErrors) {
  const auto expect = [](const std::string& text, const Tensor& labels, LossKind loss,
                         const std::string& part) {
    const std::string found = StepOf(text, labels, loss).status().message();
    EXPECT_NE(found.find(part), std::string::npos) << found;
  };
  const std::string linear = R"(graph "g"(x: f32[N,2]) -> (y) {
    const w: f32[2,2] = [0.5, 0, 1, 0.5]
    y = MatMul(x, w) })";
  const Tensor ids(DType::i64, {3}), targets(DType::f32, {3, 2});
  ASSERT_TRUE(StepOf(linear, ids, LossKind::kCrossEntropy).ok());
  ASSERT_TRUE(StepOf(linear, targets, LossKind::kMeanSquaredError).ok());
  expect(linear, targets, LossKind::kCrossEntropy, "needs integer class labels, found f32");
  for (LossKind loss : {LossKind::kMeanSquaredError, LossKind::kBinaryCrossEntropy})
    expect(linear, ids, loss, "labels of shape [3] do not fit predictions of shape [3,2]");
  expect("graph \"g\"(x: f32[N,2]) -> (y) { y = Neg(x) }", targets, LossKind::kMeanSquaredError,
         "no trainable parameter");
  expect("graph \"g\"(x: f32[N,2]) -> (y, z) { y = Neg(x) z = Neg(y) }", targets,
         LossKind::kMeanSquaredError, "inputs and one output, found 1 and 2");
  expect(R"(graph "g"(x: f32[N,2]) -> (y) {
    const one: f32[2] = [1, 1]
    const rows: i64[1] = [0]
    mean = ReduceMean(x, rows) {keepdims=0}
    y = BatchNormalization(x, one, one, mean, one) })",
         targets, LossKind::kMeanSquaredError, "running statistics must be constants");
}

}  // namespace
}  // namespace minim
