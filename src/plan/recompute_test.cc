#include "plan/recompute.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "core/philox.h"
#include "graph/text.h"
#include "ops/infer.h"
#include "ops/reference.h"
#include "passes/passes.h"
#include "passes/testing/training_chain.h"

namespace minim {
namespace {

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
  return PlanRecompute(graph, graph.outputs[0], traits, goal,
                       [](const Graph&, const Node&) { return size_t{0}; });
}

Result<RecomputePlan> Within(const Graph& graph, size_t bytes) {
  return PlanOf(graph, {.mode = RecomputeMode::kBudget, .budget_bytes = bytes});
}

TEST(RecomputeTest, WithoutAGoalNothingRunsTwice) {
  const Graph graph = TrainingChain(4, kTanh);
  const auto plan = PlanOf(graph, {});
  ASSERT_TRUE(plan.ok());
  EXPECT_EQ(plan->cost.nodes, 0);
  EXPECT_EQ(plan->plan.graph.nodes.size(), graph.nodes.size());
}

TEST(RecomputeTest, SegmentsTakeTheRootOfTheMemoryForOneMoreForwardPass) {
  const Graph graph = TrainingChain(64, kTanh);
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
    const Graph graph = TrainingChain(24, layer);
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

// Scratch of any size between the values fragments the arena: it takes more than is live at once.
TEST(RecomputeTest, BudgetsAreMetThoughScratchFragmentsTheArena) {
  const Graph graph = TrainingChain(6, kDropout);
  const Philox rng(0);
  std::vector<StepTraits> traits(graph.nodes.size());
  for (size_t i = 0; i < traits.size(); ++i)
    if (rng.Below(2 * i, 2) == 0) traits[i].scratch_bytes = rng.Below(2 * i + 1, 3000);
  const auto plan_of = [&](const RecomputeGoal& goal) {
    return PlanRecompute(graph, graph.outputs[0], traits, goal,
                         [](const Graph&, const Node&) { return size_t{0}; });
  };
  const size_t all = plan_of({})->plan.arena_bytes;
  const auto within = [&](size_t bytes) {
    return plan_of({.mode = RecomputeMode::kBudget, .budget_bytes = bytes});
  };
  const std::string refused = within(1).status().message();
  const size_t at = refused.find("the least found is ");
  ASSERT_NE(at, std::string::npos) << refused;
  const size_t least = std::stoul(refused.substr(at + std::strlen("the least found is ")));
  const double most_work = within(least)->cost.work;
  bool fragmented = false;
  for (size_t bytes = least; bytes <= all; bytes += 256) {
    const auto plan = within(bytes);
    ASSERT_TRUE(plan.ok()) << plan.status().message();
    EXPECT_LE(plan->plan.arena_bytes, bytes);
    fragmented = fragmented || plan->plan.arena_bytes > plan->plan.live_bytes;
    if (bytes >= (least + all) / 2) {  // not the least that there is, which meets any budget
      EXPECT_LT(plan->cost.work, most_work) << bytes << " of " << least << " to " << all;
    }
    ExpectSameBits(graph, plan->plan.graph);
  }
  EXPECT_TRUE(fragmented);
}

// Half the bytes cost less than running the forward pass again.
TEST(RecomputeTest, ABudgetGivesUpWhatIsCheapFirst) {
  const Graph graph = TrainingChain(
      16, "aSELF = MatMul(vSELF, wSELF) bSELF = Gelu(aSELF) vNEXT = Mul(bSELF, aSELF)");
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

// Codes take part of the bytes for less work than running a product again.
TEST(RecomputeTest, CodesSpareWorkWhereTheyAreAllowed) {
  const Graph graph = TrainingChain(16, "aSELF = MatMul(vSELF, wSELF) vNEXT = Tanh(aSELF)", 1024);
  const size_t half = PlanOf(graph, {})->plan.arena_bytes / 2;
  const auto exact = Within(graph, half);
  ASSERT_TRUE(exact.ok()) << exact.status().message();
  const std::vector<Tensor> expected = Evaluate(graph);
  for (ActivationStorage storage :
       {ActivationStorage::kHalf, ActivationStorage::kInt8, ActivationStorage::kInt4}) {
    const auto coded = PlanOf(graph, {.mode = RecomputeMode::kBudget,
                                      .budget_bytes = half,
                                      .storage = storage,
                                      .draw = graph.inputs[1]});
    ASSERT_TRUE(coded.ok()) << coded.status().message();
    EXPECT_LE(coded->plan.arena_bytes, half);
    EXPECT_LE(coded->cost.work, exact->cost.work);
    EXPECT_LE(coded->cost.storage, storage);
    ASSERT_TRUE(Verify(coded->plan.graph).ok());
    const std::vector<Tensor> actual = Evaluate(coded->plan.graph);
    double error = 0, norm = 0;  // of all gradients
    for (size_t i = 0; i < actual.size(); ++i) {
      for (int64_t k = 0; k < actual[i].size(); ++k) {
        error += std::pow(actual[i].as<float>()[k] - expected[i].as<float>()[k], 2);
        norm += std::pow(expected[i].as<float>()[k], 2);
      }
    }
    // Four bits hold a value to a fifteenth of its group's range, through sixteen layers.
    EXPECT_LT(error, norm * (storage == ActivationStorage::kInt4 ? 0.1 : 0.01))
        << static_cast<int>(storage);
  }
  EXPECT_GT(PlanOf(graph, {.mode = RecomputeMode::kBudget,
                           .budget_bytes = half,
                           .storage = ActivationStorage::kInt4})
                ->cost.encoded,
            0);
}

// Keeping an alias would keep nothing: its bytes are another value's.
TEST(RematerializeTest, AliasesAreSavedAsWhatTheyShow) {
  const Graph graph =
      TrainingChain(6,
                    "aSELF = MatMul(vSELF, wSELF) bSELF = Identity(aSELF) cSELF = Identity(bSELF)"
                    " vNEXT = Tanh(cSELF)");
  const ForwardPart forward(graph, graph.outputs[0]);
  const auto value = [&](const char* name) { return graph.FindValue(name); };
  EXPECT_EQ(forward.Stored(value("c3")), value("a3"));
  EXPECT_EQ(forward.Stored(value("a3")), value("a3"));
  const std::set<ValueId> saved = forward.Saved();
  for (int i = 0; i < 6; ++i) {
    for (const char* alias : {"b", "c"})
      EXPECT_FALSE(saved.contains(value(fmt::format("{}{}", alias, i).c_str())));
  }
  auto input = ParseText(R"(graph "g"(x: f32[4]) -> (loss, g) {
    y = Identity(x) loss = ReduceSum(y) {keepdims=0} g = Neg(y) })");
  ASSERT_TRUE(InferGraph(*input).ok());
  const ForwardPart of_input(*input, input->outputs[0]);  // an alias of what is always there
  EXPECT_EQ(of_input.Stored(input->FindValue("y")), input->FindValue("y"));
  const size_t all = PlanOf(graph, {})->plan.arena_bytes;
  const auto plan = Within(graph, all * 3 / 4);
  ASSERT_TRUE(plan.ok()) << plan.status().message();
  ExpectSameBits(graph, plan->plan.graph);
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
