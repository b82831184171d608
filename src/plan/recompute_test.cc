#include "plan/recompute.h"

#include <gtest/gtest.h>

#include <cstring>

#include "core/philox.h"
#include "graph/text.h"
#include "ops/infer.h"
#include "ops/reference.h"
#include "passes/passes.h"

namespace minim {
namespace {

// `layers` lines, each from v<i> to v<i+1> with a weight w<i>, and the gradients of all weights.
// Outputs are the loss and the gradients.
Graph Chain(int layers, std::string_view layer) {
  std::string text = "graph \"g\"(v0: f32[8,16], draw: i64";
  for (int i = 0; i < layers; ++i) text += fmt::format(", w{}: f32[16,16]", i);
  text += ") -> (loss) { const ratio: f32 = [0.5] const yes: bool = [1]\n";
  for (int i = 0; i < layers; ++i) {
    std::string line(layer);
    for (const auto& [mark, value] :
         {std::pair("NEXT", i + 1), std::pair("SELF", i), std::pair("BEFORE", std::max(0, i - 1))})
      for (size_t at; (at = line.find(mark)) != std::string::npos;)
        line.replace(at, std::strlen(mark), std::to_string(value));
    text += line + "\n";
  }
  text += fmt::format("loss = ReduceSum(v{}) {{keepdims=0}} }}", layers);
  auto graph = ParseText(text);
  EXPECT_TRUE(graph.ok()) << graph.status().message();
  EXPECT_TRUE(InferGraph(*graph).ok());
  std::vector<ValueId> weights(graph->inputs.begin() + 2, graph->inputs.end());
  const auto gradients = Autodiff(*graph, graph->outputs[0], weights);
  EXPECT_TRUE(gradients.ok()) << gradients.status().message();
  graph->outputs.insert(graph->outputs.end(), gradients->begin(), gradients->end());
  EXPECT_TRUE(EliminateDeadCode(*graph, {}).ok());
  return *std::move(graph);
}

constexpr std::string_view kTanh = "aSELF = MatMul(vSELF, wSELF) vNEXT = Tanh(aSELF)";
constexpr std::string_view kDropout =
    "aSELF = MatMul(vSELF, wSELF) bSELF = Tanh(aSELF)"
    " cSELF = Dropout(bSELF, ratio, yes, draw) {seed=SELF} vNEXT = Add(cSELF, vBEFORE)";

std::vector<Tensor> Evaluate(const Graph& graph) {
  const Philox rng(3);
  uint64_t drawn = 0;
  std::vector<Tensor> inputs;
  for (ValueId id : graph.inputs) {
    Tensor input(graph.type(id).dtype, graph.type(id).dims());
    if (input.dtype() == DType::f32)
      for (float& value : input.as<float>()) value = rng.Uniform(drawn++) - 0.5f;
    inputs.push_back(std::move(input));
  }
  auto outputs = EvaluateGraph(graph, inputs);
  EXPECT_TRUE(outputs.ok()) << outputs.status().message();
  return *std::move(outputs);
}

void ExpectSameBits(const Graph& a, const Graph& b) {
  const std::vector<Tensor> left = Evaluate(a), right = Evaluate(b);
  ASSERT_EQ(left.size(), right.size());
  for (size_t i = 0; i < left.size(); ++i)
    EXPECT_EQ(std::memcmp(left[i].data(), right[i].data(), left[i].bytes()), 0) << i;
}

Result<RecomputePlan> PlanOf(const Graph& graph, const RecomputeGoal& goal) {
  const std::vector<StepTraits> traits(graph.nodes.size());
  return PlanRecompute(graph, graph.outputs[0], traits, goal);
}

Result<RecomputePlan> Within(const Graph& graph, size_t bytes) {
  return PlanOf(graph, {.mode = RecomputeMode::kBudget, .budget_bytes = bytes});
}

TEST(RecomputeTest, WithoutAGoalNothingRunsTwice) {
  const Graph graph = Chain(4, kTanh);
  const auto plan = PlanOf(graph, {});
  ASSERT_TRUE(plan.ok());
  EXPECT_EQ(plan->cost.nodes, 0);
  EXPECT_EQ(plan->plan.graph.nodes.size(), graph.nodes.size());
}

TEST(RecomputeTest, SegmentsTakeTheRootOfTheMemoryForOneMoreForwardPass) {
  const Graph graph = Chain(64, kTanh);
  const size_t all = PlanOf(graph, {})->plan.arena_bytes;
  const auto plan = PlanOf(graph, {.mode = RecomputeMode::kSqrt});
  ASSERT_TRUE(plan.ok());
  EXPECT_LT(plan->plan.arena_bytes, all * 3 / 8);
  EXPECT_LT(plan->cost.work, 0.5);
  EXPECT_GT(plan->cost.nodes, 0);
  ExpectSameBits(graph, plan->plan.graph);
}

TEST(RecomputeTest, EveryBudgetIsMetBitForBitOrRefusedWithTheLeast) {
  for (std::string_view layer : {kTanh, kDropout}) {
    const Graph graph = Chain(24, layer);
    const size_t all = PlanOf(graph, {})->plan.arena_bytes;
    double work = 0;
    for (int percent : {100, 75, 60, 48}) {
      const auto plan = Within(graph, all * static_cast<size_t>(percent) / 100);
      ASSERT_TRUE(plan.ok()) << percent << plan.status().message();
      EXPECT_LE(plan->plan.arena_bytes, all * static_cast<size_t>(percent) / 100);
      EXPECT_LE(plan->cost.work, 0.5);
      EXPECT_GE(plan->cost.work, work) << percent;
      work = plan->cost.work;
      for (size_t i = 0; i < plan->origins.size(); ++i)
        EXPECT_EQ(plan->plan.graph.nodes[i].op, graph.nodes[plan->origins[i]].op);
      ASSERT_TRUE(Verify(plan->plan.graph).ok());
      ExpectSameBits(graph, plan->plan.graph);
    }
    const Status refused = Within(graph, 1).status();
    EXPECT_EQ(refused.code(), StatusCode::kResourceExhausted);
    const std::string text = refused.message();
    const size_t at = text.find("the least found is ") + std::strlen("the least found is ");
    const size_t least = std::stoul(text.substr(at));
    EXPECT_LT(least, all / 2);
    EXPECT_TRUE(Within(graph, least).ok()) << text;
  }
}

// Half the bytes cost less than running the forward pass again.
TEST(RecomputeTest, ABudgetGivesUpWhatIsCheapFirst) {
  const Graph graph =
      Chain(16, "aSELF = MatMul(vSELF, wSELF) bSELF = Gelu(aSELF) vNEXT = Mul(bSELF, aSELF)");
  const auto plan = Within(graph, PlanOf(graph, {})->plan.arena_bytes * 3 / 4);
  ASSERT_TRUE(plan.ok()) << plan.status().message();
  std::vector<bool> seen(graph.nodes.size(), false);
  for (int origin : plan->origins) {
    if (seen[origin]) {
      EXPECT_NE(graph.nodes[origin].op, "MatMul");
    }
    seen[origin] = true;
  }
}

TEST(RematerializeTest, DrawsThatNoInputNumbersAreKept) {
  auto graph = ParseText(R"(graph "g"(x: f32[4]) -> (loss, g) {
    r = RandomUniformLike(x) y = Mul(x, r) loss = ReduceSum(y) {keepdims=0} g = Mul(x, r) })");
  ASSERT_TRUE(graph.ok()) << graph.status().message();
  ASSERT_TRUE(InferGraph(*graph).ok());
  const ForwardPart forward(*graph, graph->outputs[0]);
  EXPECT_TRUE(forward.Fixed().contains(graph->FindValue("r")));
  EXPECT_FALSE(forward.Makes(graph->FindValue("g")));
}

}  // namespace
}  // namespace minim
