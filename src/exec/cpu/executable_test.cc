#include "exec/cpu/executable.h"

#include <gtest/gtest.h>

#include <cstring>

#include "core/philox.h"
#include "passes/testing/training_chain.h"

namespace minim {
namespace {

struct Outcome {
  std::vector<Tensor> outputs;
  size_t arena_bytes = 0;
  size_t touched = 0;  // the end of the highest 64 bytes of the arena that a run writes
};

// Runs on an arena full of `mark`.
Outcome RunOn(const Executable& executable, int mark) {
  Outcome outcome{.arena_bytes = executable.plan().arena_bytes};
  const Graph& graph = executable.graph();
  const Philox rng(3);
  uint64_t drawn = 0;
  std::vector<Tensor> inputs;
  std::vector<const void*> from;
  for (ValueId id : graph.inputs) {
    Tensor input(graph.type(id).dtype, graph.type(id).dims());
    if (input.dtype() == DType::f32)
      for (float& value : input.as<float>()) value = rng.Uniform(drawn++) - 0.5f;
    inputs.push_back(std::move(input));
    from.push_back(inputs.back().data());
  }
  std::vector<void*> to;
  for (ValueId id : graph.outputs) {
    outcome.outputs.emplace_back(graph.type(id).dtype, graph.type(id).dims());
    to.push_back(outcome.outputs.back().data());
  }
  ExecContext context;
  executable.Ready(context);
  EXPECT_EQ(context.arena_bytes(), outcome.arena_bytes);
  std::byte* arena = context.Arena(outcome.arena_bytes);
  std::memset(arena, mark, outcome.arena_bytes);
  const auto runtime = Runtime::Default().value();
  const Status status = executable.Run(
      context, {.inputs = from, .outputs = to, .states = {}, .threads = {&runtime->pool(), 1}});
  EXPECT_TRUE(status.ok()) << status.message();
  for (size_t i = 0; i < outcome.arena_bytes; ++i)
    if (arena[i] != static_cast<std::byte>(mark)) outcome.touched = (i / 64 + 1) * 64;
  return outcome;
}

std::unique_ptr<Executable> Build(Graph graph, const RecomputeGoal& goal) {
  PassContext context;
  context.has_kernel = HasCpuKernel;
  EXPECT_TRUE(RunPipeline(kTrainPipeline, graph, context).ok());
  auto executable = Executable::Build(std::move(graph), Runtime::Default().value(), 1, goal);
  EXPECT_TRUE(executable.ok()) << executable.status().message();
  return *std::move(executable);
}

// The arena is what a run uses, to its last 64 bytes; nothing that was there before matters; and
// what runs twice changes no bit.
TEST(ExecutableTest, AThousandLayersTrainInThePlannedBytes) {
  const Graph graph = TrainingChain(1000, "aSELF = MatMul(vSELF, wSELF) vNEXT = Tanh(aSELF)");
  const Outcome all = RunOn(*Build(graph, {}), 0xA5);
  EXPECT_EQ(all.touched, all.arena_bytes);
  const RecomputeGoal goals[] = {
      {.mode = RecomputeMode::kSqrt},
      {.mode = RecomputeMode::kBudget, .budget_bytes = all.arena_bytes / 4}};
  for (const RecomputeGoal& goal : goals) {
    const auto executable = Build(graph, goal);
    EXPECT_LE(executable->plan().arena_bytes, all.arena_bytes / 4);
    // The forward part is a third of the products, which read transposed operands in place, and
    // half of what is element-wise.
    EXPECT_LT(executable->recomputed().work, 0.35);
    for (int mark : {0xA5, 0x5A}) {
      const Outcome outcome = RunOn(*executable, mark);
      EXPECT_EQ(outcome.touched, outcome.arena_bytes);
      ASSERT_EQ(outcome.outputs.size(), all.outputs.size());
      for (size_t i = 0; i < all.outputs.size(); ++i)
        ASSERT_EQ(
            std::memcmp(outcome.outputs[i].data(), all.outputs[i].data(), all.outputs[i].bytes()),
            0)
            << i;
    }
  }
}

}  // namespace
}  // namespace minim
