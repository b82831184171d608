// Runs the optimizer's steps: compiled step graphs, the states they share, the loss scale.
#pragma once

#include <memory>

#include "exec/cpu/executable.h"
#include "minim/data_source.h"
#include "train/step.h"

namespace minim {

struct StepOutcome {
  double loss = 0;       // mean over the batches
  bool stepped = false;  // false: a gradient was not finite, and no state changed
  double norm = 0;       // of the unscaled gradients, before clipping
  double scale = 1;      // that the loss was multiplied by
};

/// Threads: one thread at a time.
class StepRunner {
 public:
  /// `precision` is not kAuto; `loss` is that of BuildStep. `forward` and `config` outlive the
  /// runner. Errors: those of BuildStep and Executable::Build.
  static Result<std::unique_ptr<StepRunner>> Make(const Graph& forward, const TrainConfig& config,
                                                  TrainPrecision precision, const Batch& like,
                                                  const LossBuilder& loss = {});

  /// One step over config.accumulate batches. `draw` is the number of the first, of the whole run.
  Result<StepOutcome> Run(std::span<const Batch> batches, double rate, int64_t draw);

  /// Runs the step again on the same batches, with the scale that it had, and says which op made
  /// the first value that is not finite. For a step that was not taken.
  Result<std::string> Diagnose(std::span<const Batch> batches, int64_t draw, double scale);

  /// A line for each op of a step with its median time over `runs` runs on `batch`. The rate is 0,
  /// but moments and counts move.
  Result<std::string> Profile(const Batch& batch, int runs);

  /// The model as trained so far.
  Graph Trained() const { return WithStates(forward_, step_, states_); }
  const StepGraph& step() const { return step_; }
  std::vector<Tensor>& states() { return states_; }
  GradScaler& scaler() { return scaler_; }
  size_t arena_bytes() const;
  /// Of the step that updates; of an accumulating one it is alike.
  const RecomputeCost& recomputed() const { return update_->recomputed(); }
  size_t state_bytes() const;

 private:
  StepRunner(const Graph& forward, const TrainConfig& config, GradScaler scaler)
      : forward_(forward), config_(config), scaler_(std::move(scaler)) {}
  Status Build(TrainPrecision precision, const Batch& like, const LossBuilder& loss);
  Result<std::unique_ptr<Executable>> Compile(const StepGraph& step) const;
  // Results of one batch, in the order of StepOutput.
  struct Outputs {
    float loss = 0;
    bool finite = true;
    float norm = 0;
    ExponentHistogram exponents;
  };
  using Observer = std::function<void(const Node&, std::span<void* const>)>;
  // Calls run(RunArgs) with what a step graph takes; `executable` is update_ or accumulate_.
  template <typename F>
  Status WithArgs(const Batch& batch, float rate, float scale, int64_t draw,
                  const Executable& executable, Outputs& out, F&& run);
  Result<Outputs> RunBatch(const Batch& batch, bool last, float rate, float scale, int64_t draw,
                           const Observer* observer);
  std::vector<Tensor> CopyStatistics() const;
  // After a step that was not taken: statistics as they were, no gradients.
  void Undo(const std::vector<Tensor>& statistics);
  void ClearGradients();

  const Graph& forward_;
  const TrainConfig& config_;
  GradScaler scaler_;
  StepGraph step_;
  std::shared_ptr<Runtime> runtime_;
  std::unique_ptr<Executable> update_, accumulate_;  // accumulate_: null for one batch a step
  ExecContext context_;
  std::vector<Tensor> states_;
};

}  // namespace minim
