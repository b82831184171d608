// Executable: a plan with its kernels bound, ready to run on any number of contexts.
// Threads: Run may be called concurrently with distinct contexts and outputs.
#pragma once

#include <chrono>
#include <functional>

#include "exec/cpu/bind.h"
#include "passes/pass.h"
#include "plan/recompute.h"

namespace minim {

/// What one caller needs while running: an arena that grows to the largest plan it has met, and
/// pointer tables. One run at a time.
class ExecContext {
 public:
  /// At least `bytes`, 64-byte aligned.
  std::byte* Arena(size_t bytes);
  /// At least `count` entries.
  void** Pointers(size_t count);
  /// Another such table, for the caller of an executable.
  void** CallPointers(size_t count);
  size_t arena_bytes() const { return arena_bytes_; }

  /// What a program last ran on this context, so that the same shapes again take no lock. Set only
  /// by programs that outlive the context's use.
  const void* last_program = nullptr;
  std::shared_ptr<const void> last_entry;

 private:
  Tensor arena_;
  size_t arena_bytes_ = 0;
  std::vector<void*> pointers_;
  std::vector<void*> call_pointers_;
};

struct RunArgs {
  std::span<const void* const> inputs;
  std::span<void* const> outputs;
  std::span<void* const> states;
  ThreadBudget threads;
  /// If not empty: what each step of the plan took.
  std::span<std::chrono::nanoseconds> step_times = {};
  /// If given: called after each node with what it wrote; null where an output is omitted.
  const std::function<void(const Node&, std::span<void* const> outputs)>* observer = nullptr;
};

class Executable {
 public:
  /// Needs static types everywhere in `graph`. A `goal` other than kNone is for a training step
  /// whose first output is the loss. Errors: kResourceExhausted if an arena does not fit main
  /// memory or the goal.
  static Result<std::unique_ptr<Executable>> Build(Graph graph, std::shared_ptr<Runtime> runtime,
                                                   int threads, const RecomputeGoal& goal = {});
  /// The same of a graph for a slice of a batch: a run takes `slices` of them, one after the other
  /// along axis 0 of every input and output, each on one thread.
  static Result<std::unique_ptr<Executable>> BuildSliced(Graph graph, int64_t slices,
                                                         std::shared_ptr<Runtime> runtime,
                                                         int threads);

  /// Makes room in `context`, so that running there allocates nothing.
  void Ready(ExecContext& context) const {
    context.Arena(arena_bytes());
    context.Pointers(workers_ * WorkerPointers());
  }

  /// Errors: only from steps that the reference runs.
  Status Run(ExecContext& context, const RunArgs& args) const;

  const Plan& plan() const { return plan_; }
  /// Of what a run needs: a plan's for each slice at work.
  size_t arena_bytes() const { return workers_ * plan_.arena_bytes; }
  int64_t slices() const { return slices_; }
  /// Of a run's output, all slices of it.
  const TensorType& output_type(size_t index) const { return output_types_[index]; }
  /// Nodes that run twice, and their share of the work.
  const RecomputeCost& recomputed() const { return recomputed_; }
  const Graph& graph() const { return plan_.graph; }
  /// One line a step: op, types, implementation.
  std::string Explain() const;
  /// The same after `runs` runs, each step with its median time, share of the whole, and arithmetic
  /// speed where it multiplies matrices.
  Result<std::string> Profile(ExecContext& context, RunArgs args, int runs) const;
  /// Microseconds of each step of the plan, medians of `runs` runs, at least one.
  Result<std::vector<double>> StepMedians(ExecContext& context, RunArgs args, int runs) const;
  /// The row of the CPU table that a node is bound to; empty for other than these.
  std::string_view row(size_t node) const { return bound_[node].row; }

 private:
  Executable(std::shared_ptr<Runtime> runtime) : runtime_(std::move(runtime)) {}
  // Constants that the kernels have packed.
  void DropUnread();
  void* Resolve(const Slot& slot, std::byte* arena, const RunArgs& args) const;
  // Of one worker: those of a node, and of the inputs and outputs of its slice.
  size_t WorkerPointers() const {
    return slices_ == 1 ? most_pointers_
                        : most_pointers_ + plan_.graph.inputs.size() + plan_.graph.outputs.size();
  }
  Status RunSteps(std::byte* arena, void** pointers, const RunArgs& args) const;
  Status RunSlices(std::byte* arena, void** pointers, const RunArgs& args) const;
  Status RunStep(const Step& step, std::byte* arena, void** pointers, const RunArgs& args) const;
  std::string Describe(size_t node) const;
  Status RunHost(const Step& step, void* const* inputs, void* const* outputs) const;

  std::shared_ptr<Runtime> runtime_;
  Plan plan_;
  RecomputeCost recomputed_;
  std::vector<BoundStep> bound_;        // by node
  std::vector<const void*> constants_;  // by ValueId
  size_t most_pointers_ = 0;
  std::vector<TensorType> output_types_;
  int64_t slices_ = 1;
  size_t workers_ = 1;
};

}  // namespace minim
