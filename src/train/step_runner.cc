#include "train/step_runner.h"

#include <cmath>
#include <cstring>

#include "core/dtype.h"
#include "passes/passes.h"

namespace minim {
namespace {

// What is wrong with a value, or nothing.
struct Found {
  int64_t nans = 0, infinities = 0;
  double largest = 0;  // of the finite elements

  bool any() const { return nans + infinities > 0; }
};

Found Inspect(const ConstView& view) {
  Found found;
  if (!IsFloat(view.dtype)) return found;
  const Tensor wide = Converted(view, DType::f64);
  for (double value : wide.as<double>()) {
    if (std::isnan(value))
      ++found.nans;
    else if (std::isinf(value))
      ++found.infinities;
    else
      found.largest = std::max(found.largest, std::abs(value));
  }
  return found;
}

std::string Describe(const Found& found, int64_t elements) {
  return fmt::format("{} NaN and {} infinite of {} elements, the largest finite one {:.4g}",
                     found.nans, found.infinities, elements, found.largest);
}

// Watches a run for the first value that is not finite.
class Watch {
 public:
  explicit Watch(const Graph& graph) : graph_(graph) {}

  void Look(const Node& node, std::span<void* const> outputs) {
    for (size_t i = 0; text_.empty() && i < outputs.size(); ++i) {
      if (outputs[i] == nullptr) continue;
      const TensorType& type = graph_.type(node.outputs[i]);
      const Found found = Inspect({outputs[i], type.dtype, type.dims()});
      if (!found.any()) continue;
      const std::string name = node.name.empty() ? "" : fmt::format(" ({})", node.name);
      text_ = fmt::format("{}{} made the first value that is not finite: '{}', {}: {}", node.op,
                          name, graph_.value(node.outputs[i]).name, type.ToString(),
                          Describe(found, type.dims().Elements()));
    }
  }
  const std::string& text() const { return text_; }

 private:
  const Graph& graph_;
  std::string text_;
};

}  // namespace

Result<std::unique_ptr<StepRunner>> StepRunner::Make(const Graph& forward,
                                                     const TrainConfig& config,
                                                     TrainPrecision precision, const Batch& like,
                                                     const LossBuilder& loss) {
  GradScalerOptions options = config.scaler;
  options.enabled = options.enabled && precision == TrainPrecision::kFp16;
  MINIM_TRY(GradScaler scaler, GradScaler::Make(options));
  std::unique_ptr<StepRunner> runner(new StepRunner(forward, config, std::move(scaler)));
  MINIM_TRY(runner->Build(precision, like, loss));
  return runner;
}

Result<std::unique_ptr<Executable>> StepRunner::Compile(const StepGraph& step) const {
  PassContext context;
  context.has_kernel = HasCpuKernel;
  Graph graph = step.graph;
  MINIM_TRY(RunPipeline(kTrainPipeline, graph, context));
  const MemorySpec& memory = config_.memory;
  RecomputeGoal goal;
  if (memory.sqrt_checkpoints) goal.mode = RecomputeMode::kSqrt;
  if (memory.budget_bytes > 0) {
    size_t states = 0;
    for (const Tensor& state : step.initial_states) states += state.bytes();
    goal = {.mode = RecomputeMode::kBudget,
            .budget_bytes = memory.budget_bytes,
            .state_bytes = states,
            .storage = memory.storage,
            .draw = graph.inputs[kDraw]};
  }
  auto executable = Executable::Build(std::move(graph), runtime_, config_.threads, goal);
  if (executable.ok() || goal.mode != RecomputeMode::kBudget) return executable;
  return Annotate(executable.status(), "[memory] budget");
}

Status StepRunner::Build(TrainPrecision precision, const Batch& like, const LossBuilder& loss) {
  MINIM_TRY(runtime_, Runtime::Default());
  const auto build = [&](StepPart part) {
    std::vector<Dims> dims = {like.samples.dims()};
    for (const Tensor& other : like.others) dims.push_back(other.dims());
    return BuildStep(forward_, config_, precision, dims, like.labels, part, loss);
  };
  MINIM_TRY(step_, build(StepPart::kUpdate));
  MINIM_TRY(update_, Compile(step_));
  if (config_.accumulate > 1) {
    MINIM_TRY(const StepGraph accumulate, build(StepPart::kAccumulate));
    MINIM_TRY(accumulate_, Compile(accumulate));
  }
  for (const Tensor& state : step_.initial_states) states_.push_back(state.Clone());
  update_->Ready(context_);
  if (accumulate_) accumulate_->Ready(context_);
  return {};
}

template <typename F>
Status StepRunner::WithArgs(const Batch& batch, float rate, float scale, int64_t draw,
                            const Executable& executable, Outputs& out, F&& run) {
  const float loss_scale = scale / static_cast<float>(config_.accumulate);
  const auto inverse = static_cast<float>(1 / static_cast<double>(scale));
  std::vector<Tensor> samples = {batch.samples};
  samples.insert(samples.end(), batch.others.begin(), batch.others.end());
  for (size_t i = 0; i < samples.size(); ++i) {
    const DType wanted = forward_.type(forward_.inputs[i]).dtype;
    if (samples[i].dtype() != wanted) samples[i] = Converted(samples[i].view(), wanted);
  }
  std::vector<const void*> inputs(kStepInputs);
  for (size_t i = 1; i < samples.size(); ++i) inputs.push_back(samples[i].data());
  inputs[kSamples] = samples[0].data();
  inputs[kLabels] = batch.labels.data();
  inputs[kRate] = &rate;
  inputs[kLossScale] = &loss_scale;
  inputs[kInverseScale] = &inverse;
  inputs[kDraw] = &draw;
  void* outputs[] = {&out.loss, &out.finite, &out.norm, out.exponents.counts.data()};
  std::vector<void*> states;
  for (Tensor& state : states_) states.push_back(state.data());
  return run(RunArgs{.inputs = inputs,
                     .outputs = {outputs, executable.graph().outputs.size()},
                     .states = states,
                     .threads = {&runtime_->pool(), config_.threads}});
}

Result<StepRunner::Outputs> StepRunner::RunBatch(const Batch& batch, bool last, float rate,
                                                 float scale, int64_t draw,
                                                 const Observer* observer) {
  const Executable& executable = last ? *update_ : *accumulate_;
  Outputs out;
  MINIM_TRY(WithArgs(batch, rate, scale, draw, executable, out, [&](RunArgs args) {
    args.observer = observer;
    return executable.Run(context_, args);
  }));
  return out;
}

Result<std::string> StepRunner::Profile(const Batch& batch, int runs) {
  Outputs out;
  std::string text;
  MINIM_TRY(
      WithArgs(batch, 0, scaler_.scale(), 0, *update_, out, [&](const RunArgs& args) -> Status {
        MINIM_TRY(text, update_->Profile(context_, args, runs));
        return {};
      }));
  return text;
}

Result<StepOutcome> StepRunner::Run(std::span<const Batch> batches, double rate, int64_t draw) {
  MINIM_CHECK(batches.size() == static_cast<size_t>(config_.accumulate));
  const std::vector<Tensor> statistics = accumulate_ ? CopyStatistics() : std::vector<Tensor>();
  StepOutcome outcome{.scale = scaler_.scale()};
  Outputs out;
  for (size_t i = 0; i < batches.size(); ++i) {
    MINIM_TRY(out, RunBatch(batches[i], i + 1 == batches.size(), static_cast<float>(rate),
                            scaler_.scale(), draw + static_cast<int64_t>(i), nullptr));
    outcome.loss += out.loss / static_cast<double>(batches.size());
  }
  outcome.norm = out.norm;
  outcome.stepped = out.finite;
  if (!out.finite) Undo(statistics);
  if (accumulate_) ClearGradients();
  constexpr int kOptimizer = 0;
  MINIM_TRY(scaler_.adaptive() ? scaler_.Record(kOptimizer, out.exponents, out.finite)
                               : scaler_.Record(kOptimizer, out.finite));
  MINIM_TRY(scaler_.Update());
  return outcome;
}

Result<std::string> StepRunner::Diagnose(std::span<const Batch> batches, int64_t draw,
                                         double scale) {
  for (const Batch& batch : batches) {
    const Found found = Inspect(batch.samples.view());
    if (found.any())
      return "the samples of this step hold values that are not finite: " +
             Describe(found, batch.samples.size());
  }
  for (size_t i = 0; i < states_.size(); ++i) {
    const Found found = Inspect(states_[i].view());
    if (found.any())
      return fmt::format("state '{}' is not finite: {}", step_.graph.states[i].name,
                         Describe(found, states_[i].size()));
  }
  const std::vector<Tensor> statistics = CopyStatistics();
  std::string text;
  for (size_t i = 0; text.empty() && i < batches.size(); ++i) {
    const bool last = i + 1 == batches.size();
    Watch watch((last ? *update_ : *accumulate_).graph());
    const Observer observer = [&](const Node& node, std::span<void* const> outputs) {
      watch.Look(node, outputs);
    };
    MINIM_TRY(RunBatch(batches[i], last, 0, static_cast<float>(scale),
                       draw + static_cast<int64_t>(i), &observer)
                  .status());
    text = watch.text();
  }
  Undo(statistics);
  ClearGradients();
  return text.empty() ? "run again, the step's values were all finite" : text;
}

std::vector<Tensor> StepRunner::CopyStatistics() const {
  std::vector<Tensor> copies(states_.size());
  for (size_t i = 0; i < states_.size(); ++i)
    if (step_.kinds[i] == StateKind::kStatistic) copies[i] = states_[i].Clone();
  return copies;
}

void StepRunner::Undo(const std::vector<Tensor>& statistics) {
  for (size_t i = 0; i < statistics.size(); ++i)
    if (statistics[i].defined())
      std::memcpy(states_[i].data(), statistics[i].data(), statistics[i].bytes());
}

void StepRunner::ClearGradients() {
  for (size_t i = 0; i < states_.size(); ++i)
    if (step_.kinds[i] == StateKind::kGradient)
      std::memset(states_[i].data(), 0, states_[i].bytes());
}

size_t StepRunner::arena_bytes() const {
  return std::max(update_->plan().arena_bytes, accumulate_ ? accumulate_->plan().arena_bytes : 0);
}

size_t StepRunner::state_bytes() const {
  size_t bytes = 0;
  for (const Tensor& state : states_) bytes += state.bytes();
  return bytes;
}

}  // namespace minim
