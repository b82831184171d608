#include "compress/fine_tune.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "data/batch_loader.h"
#include "train/prepare.h"
#include "train/schedule.h"
#include "train/step_runner.h"

namespace minim {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kMostBadSteps = 8;    // in a row
constexpr int64_t kMostMeasured = 8;    // batches, before and after, ...
constexpr int64_t kMeasuredShare = 16;  // ... for so many steps one
constexpr int64_t kWarmupShare = 10;    // one step in so many, ...
constexpr int64_t kMostWarmup = 100;    // ... but no more than this

class FineTuning {
 public:
  FineTuning(const Graph& graph, DataSource& train, const FineTuneOptions& options,
         const FineTuneHooks& hooks)
      : graph_(graph), train_(train), options_(options), hooks_(hooks), start_(Clock::now()) {}

  Result<FineTuned> Run() {
    MINIM_TRY(Prepare());
    const TunedParameters parameters(runner_->step(), runner_->states());
    if (hooks_.after_step) hooks_.after_step(parameters);
    FineTuned result;
    MINIM_TRY(result.first_loss, MeasureLoss());
    for (uint64_t epoch = 0; done_ < steps_ && !timed_out_; ++epoch)
      MINIM_TRY(Epoch(epoch, parameters));
    MINIM_TRY(result.last_loss, MeasureLoss());
    result.graph = runner_->Trained();
    result.steps = done_;
    result.skipped_steps = done_ - taken_;
    result.timed_out = timed_out_;
    return result;
  }

 private:
  Status Prepare() {
    if (!(options_.epochs > 0) || options_.batch < 1 || options_.threads < 1)
      return InvalidArgument(
          "fine-tuning: epochs ({}), batch ({}) and threads ({}) must be above 0", options_.epochs,
          options_.batch, options_.threads);
    if (train_.size() < 1) return InvalidArgument("fine-tuning: there are no training samples");
    config_.batch = std::min(options_.batch, train_.size());
    config_.loss = options_.loss;
    config_.seed = options_.seed;
    config_.threads = options_.threads;
    config_.optimizer.learning_rate = options_.learning_rate;
    steps_per_epoch_ = train_.size() / config_.batch;
    const double steps = options_.epochs * static_cast<double>(steps_per_epoch_);
    steps_ = std::max<int64_t>(1, std::llround(std::min(steps, 1e15)));
    config_.schedule = {.kind = ScheduleKind::kCosine,
                        .warmup_steps = std::min(steps_ / kWarmupShare, kMostWarmup)};
    MINIM_TRY(CheckConfig(config_));
    MINIM_TRY(const Batch like, train_.Gather(InOrder(config_.batch)));
    MINIM_TRY(runner_, StepRunner::Make(graph_, config_, TrainPrecision::kFp32, like, hooks_.loss));
    return {};
  }

  // The mean loss of the same batches each time, in training. No state changes.
  Result<double> MeasureLoss() {
    std::vector<Tensor>& states = runner_->states();
    std::vector<Tensor> before;
    for (const Tensor& state : states) before.push_back(state.Clone());
    const int64_t measured =
        std::min(steps_per_epoch_, std::clamp<int64_t>(steps_ / kMeasuredShare, 1, kMostMeasured));
    BatchLoader loader(
        train_, {.batch_size = config_.batch, .seed = config_.seed, .batch_count = measured});
    double sum = 0;
    int64_t count = 0;
    while (true) {
      MINIM_TRY(std::optional<Batch> batch, loader.Next());
      if (!batch) break;
      const Batch batches[] = {*std::move(batch)};
      MINIM_TRY(CheckLabels(batches[0]));
      MINIM_TRY(const StepOutcome outcome, runner_->Run(batches, 0, count++));
      sum += outcome.loss;
    }
    for (size_t i = 0; i < states.size(); ++i)
      std::memcpy(states[i].data(), before[i].data(), before[i].bytes());
    return sum / static_cast<double>(count);
  }

  Status CheckLabels(const Batch& batch) const {
    if (hooks_.loss) return {};
    return CheckClasses(graph_, config_, ClassCount(batch.labels.view()));
  }

  Status Epoch(uint64_t epoch, const TunedParameters& parameters) {
    BatchLoader loader(train_, {.batch_size = config_.batch,
                                .seed = config_.seed,
                                .epoch = epoch,
                                .batch_count = std::min(steps_per_epoch_, steps_ - done_)});
    while (true) {
      timed_out_ = done_ > 0 && options_.time_limit.count() > 0 &&
                   Clock::now() - start_ > options_.time_limit;
      if (timed_out_) return {};
      MINIM_TRY(std::optional<Batch> batch, loader.Next());
      if (!batch) return {};
      MINIM_TRY(CheckLabels(*batch));
      MINIM_TRY(Step({*std::move(batch)}));
      if (hooks_.after_step) hooks_.after_step(parameters);
      const double share = static_cast<double>(done_) / static_cast<double>(steps_);
      if (options_.progress && !options_.progress(share, last_loss_))
        return Cancelled("fine-tuning was stopped after step {} of {}", done_, steps_);
    }
  }

  Status Step(const std::vector<Batch>& batch) {
    const LearningRate rate(config_.schedule, options_.learning_rate, steps_, steps_per_epoch_);
    const int64_t draw = done_++;
    MINIM_TRY(const StepOutcome outcome, runner_->Run(batch, rate.At(taken_), draw));
    last_loss_ = outcome.loss;
    taken_ += outcome.stepped;
    bad_steps_ = outcome.stepped ? 0 : bad_steps_ + 1;
    if (bad_steps_ < kMostBadSteps) return {};
    MINIM_TRY(const std::string reason, runner_->Diagnose(batch, draw, outcome.scale));
    return Unsupported(
        "fine-tuning diverged: gradients were not finite in {} steps in a row (the loss became "
        "{}); {}; "
        "lower learning_rate ({}) or check the data",
        bad_steps_, outcome.loss, reason, options_.learning_rate);
  }

  const Graph& graph_;
  DataSource& train_;
  const FineTuneOptions& options_;
  const FineTuneHooks& hooks_;
  const Clock::time_point start_;
  TrainConfig config_;  // the runner reads it
  std::unique_ptr<StepRunner> runner_;
  int64_t steps_per_epoch_ = 0, steps_ = 0;
  int64_t done_ = 0, taken_ = 0, bad_steps_ = 0;
  bool timed_out_ = false;
  double last_loss_ = 0;  // of a step
};

}  // namespace

TunedParameters::TunedParameters(const StepGraph& step, std::vector<Tensor>& states) {
  for (size_t i = 0; i < states.size(); ++i)
    if (step.kinds[i] == StateKind::kParameter)
      by_name_.emplace(step.graph.states[i].name, &states[i]);
}

Tensor* TunedParameters::Find(const std::string& name) const {
  const auto it = by_name_.find(name);
  return it == by_name_.end() ? nullptr : it->second;
}

Result<FineTuned> FineTune(const Graph& graph, DataSource& train, const FineTuneOptions& options,
                           const FineTuneHooks& hooks) {
  return FineTuning(graph, train, options, hooks).Run();
}

Result<FineTuned> FineTune(const Graph& graph, const Dataset& train, const FineTuneOptions& options,
                           const FineTuneHooks& hooks) {
  ArraySource source(train);
  return FineTune(graph, source, options, hooks);
}

}  // namespace minim
