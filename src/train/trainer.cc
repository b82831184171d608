#include <algorithm>
#include <filesystem>
#include <chrono>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>

#include "core/memory_limit.h"
#include "data/batch_loader.h"
#include "minim/train.h"
#include "onnx/onnx.h"
#include "session/session_impl.h"
#include "train/checkpoint.h"
#include "train/metrics.h"
#include "train/prepare.h"
#include "train/schedule.h"
#include "train/step_runner.h"
#include "train/tune.h"

namespace minim {
namespace {

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// The position of a run: what a checkpoint keeps besides states, scaler and schedule.
struct Position {
  int64_t epoch = 0;
  int64_t step = 0;   // of the epoch
  int64_t taken = 0;  // steps of the optimizer that were not skipped
  int64_t skipped = 0;
  int64_t worse_epochs = 0;  // since the best one
  double best = std::numeric_limits<double>::infinity();
  double loss_sum = 0;     // of this epoch's finite losses ...
  int64_t loss_count = 0;  // ... so many

  void Save(SavedValues& to) const {
    Put(to, "epoch", epoch);
    Put(to, "step", step);
    Put(to, "taken", taken);
    Put(to, "skipped", skipped);
    Put(to, "worse_epochs", worse_epochs);
    Put(to, "best", best);
    Put(to, "loss_sum", loss_sum);
    Put(to, "loss_count", loss_count);
  }
  Status Restore(const SavedValues& saved) {
    MINIM_TRY(Get(saved, "epoch", epoch));
    MINIM_TRY(Get(saved, "step", step));
    MINIM_TRY(Get(saved, "taken", taken));
    MINIM_TRY(Get(saved, "skipped", skipped));
    MINIM_TRY(Get(saved, "worse_epochs", worse_epochs));
    MINIM_TRY(Get(saved, "best", best));
    MINIM_TRY(Get(saved, "loss_sum", loss_sum));
    return Get(saved, "loss_count", loss_count);
  }
};

class TrainingRun {
 public:
  TrainingRun(const TrainConfig& config, std::function<bool(const TrainProgress&)> progress)
      : config_(config), progress_(std::move(progress)) {}

  Result<TrainReport> Run(const std::function<void(const TrainReport&)>& started) {
    MINIM_TRY(Prepare());
    if (started) started(report_);
    start_ = Clock::now();
    while (position_.epoch < config_.epochs && !report_.stopped_early) MINIM_TRY(Epoch());
    MINIM_TRY(Export());
    report_.seconds = SecondsSince(start_);
    report_.skipped_steps = position_.skipped;
    report_.scaler = runner_->scaler().statistics();
    return report_;
  }

  Result<std::string> Profile(int runs) {
    MINIM_TRY(CheckConfig(config_));
    MINIM_TRY(PrepareModel());
    MINIM_TRY(const Batch first, FirstBatch());
    MINIM_TRY(BuildRunner(first));
    return runner_->Profile(first, runs);
  }

  // The config with what was chosen and nothing else.
  Result<TrainConfig> Tune(const std::function<bool(const TuneTrial&)>& tried) {
    TrainConfig tuned = config_;
    MINIM_TRY(CheckConfig(config_));
    MINIM_TRY(PrepareModel());
    MINIM_TRY(const TrainConfig best,
              TuneSteps(forward_, config_, *data_.train, PhysicalMemory() / 2, tried));
    tuned.precision = best.precision;
    tuned.threads = best.threads;
    tuned.batch = best.batch;
    tuned.memory = best.memory;
    return tuned;
  }

 private:
  Status Prepare() {
    MINIM_TRY(CheckConfig(config_));
    MINIM_TRY(CheckWritable(config_));
    MINIM_TRY(PrepareModel());
    MINIM_TRY(const Batch first, FirstBatch());
    MINIM_TRY(BuildRunner(first));
    MINIM_TRY(CheckMetric());
    rate_.emplace(config_.schedule, config_.optimizer.learning_rate,
                  config_.epochs * steps_per_epoch_, steps_per_epoch_);
    if (config_.resume && std::filesystem::exists(config_.checkpoint)) MINIM_TRY(Restore());
    return OpenLog();
  }

  Status PrepareModel() {
    MINIM_TRY(data_, OpenTrainData(config_));
    const int64_t samples = data_.train->size();
    steps_per_epoch_ = samples / (config_.batch * config_.accumulate);
    if (steps_per_epoch_ == 0)
      return InvalidArgument("{} training samples do not fill {} batches of {}", samples,
                             config_.accumulate, config_.batch);
    MINIM_TRY(const Batch first, FirstBatch());
    MINIM_TRY(forward_, BuildForward(config_, data_, first.samples.dims()));
    MINIM_TRY(CheckClasses(forward_, config_, data_.classes));
    return SetClassWeights(config_, data_, forward_);
  }

  Result<Batch> FirstBatch() const { return data_.train->Gather(InOrder(config_.batch)); }

  Status BuildRunner(const Batch& like) {
    report_.precision = config_.precision;
    if (config_.precision == TrainPrecision::kAuto) {
      MINIM_TRY(MeasurePrecisions(like));
    } else {
      MINIM_TRY(runner_, StepRunner::Make(forward_, config_, config_.precision, like));
    }
    report_.arena_bytes = runner_->arena_bytes();
    report_.state_bytes = runner_->state_bytes();
    report_.kept_arena_bytes = std::max(runner_->recomputed().kept_bytes, report_.arena_bytes);
    report_.repeated_ops = runner_->recomputed().nodes;
    report_.encoded_values = runner_->recomputed().encoded;
    report_.storage = runner_->recomputed().storage;
    report_.added_work = runner_->recomputed().work;
    report_.parameters = runner_->step().parameter_count;
    return {};
  }

  // The faster of FP32 and BF16, by the median of some real steps.
  Status MeasurePrecisions(const Batch& like) {
    constexpr TrainPrecision kChoices[] = {TrainPrecision::kFp32, TrainPrecision::kBf16};
    double seconds[2] = {};
    for (int k = 0; k < 2; ++k) {
      MINIM_TRY(const TuneTrial trial, TimeStep(forward_, config_, kChoices[k], like));
      seconds[k] = trial.step_seconds;
    }
    report_.precision = kChoices[seconds[1] < seconds[0]];
    report_.precision_reason =
        fmt::format("{}: a step took {:.2f} ms in fp32 and {:.2f} ms in bf16",
                    Name(report_.precision), seconds[0] * 1e3, seconds[1] * 1e3);
    MINIM_TRY(runner_, StepRunner::Make(forward_, config_, report_.precision, like));
    return {};
  }

  Status Epoch() {
    BatchLoader loader(*data_.train, {.batch_size = config_.batch,
                                      .seed = config_.seed,
                                      .epoch = static_cast<uint64_t>(position_.epoch),
                                      .first_batch = position_.step * config_.accumulate,
                                      .batch_count = steps_per_epoch_ * config_.accumulate,
                                      .shuffle = config_.shuffle});
    for (bool last = position_.step >= steps_per_epoch_; !last;) {
      const int64_t step = position_.epoch * steps_per_epoch_ + position_.step;
      TrainProgress progress{.epoch = position_.epoch + 1,
                             .epochs = config_.epochs,
                             .step = step + 1,
                             .steps = config_.epochs * steps_per_epoch_};
      MINIM_TRY(Step(loader, step, progress));
      if (std::isfinite(progress.loss)) {
        position_.loss_sum += progress.loss;
        ++position_.loss_count;
      }
      progress.loss =
          position_.loss_sum / static_cast<double>(std::max<int64_t>(1, position_.loss_count));
      last = ++position_.step == steps_per_epoch_;
      if (last) MINIM_TRY(FinishEpoch(progress));
      if (last || EndsInterval(step)) MINIM_TRY(Checkpoint());
      MINIM_TRY(Tell(progress));
    }
    return {};
  }

  Status Step(BatchLoader& loader, int64_t step, TrainProgress& progress) {
    std::vector<Batch> batches;
    for (int64_t i = 0; i < config_.accumulate; ++i) {
      MINIM_TRY(std::optional<Batch> batch, loader.Next());
      if (data_.classes == 0)  // nobody looked at the labels before
        MINIM_TRY(CheckClasses(forward_, config_, ClassCount(batch->labels.view())));
      batches.push_back(*std::move(batch));
    }
    const int64_t draw = step * config_.accumulate;
    progress.learning_rate = rate_->At(position_.taken);
    MINIM_TRY(const StepOutcome outcome, runner_->Run(batches, progress.learning_rate, draw));
    progress.loss = progress.step_loss = outcome.loss;
    progress.gradient_norm = outcome.norm;
    progress.scale = outcome.scale;
    position_.taken += outcome.stepped;
    position_.skipped += !outcome.stepped;
    progress.skipped_steps = position_.skipped;
    const bool hopeless =
        !outcome.stepped && (!runner_->scaler().enabled() || runner_->scaler().stuck());
    bad_steps_ = hopeless ? bad_steps_ + 1 : outcome.stepped ? 0 : bad_steps_;
    if (bad_steps_ < config_.bad_steps) return {};
    MINIM_TRY(const std::string reason, runner_->Diagnose(batches, draw, outcome.scale));
    MINIM_TRY(const std::string kept, KeepLastGood());
    return Internal(
        "epoch {}, step {}: gradients were not finite in {} steps in a row at a loss scale of {} "
        "(the loss became {}); {}. {}; lower learning_rate ({}), clip gradients or check the data",
        position_.epoch + 1, step + 1, bad_steps_, outcome.scale, outcome.loss, reason, kept,
        config_.optimizer.learning_rate);
  }

  // What a run that gives up leaves: the last epoch's checkpoint as it is and the parameters of the
  // last good step beside it.
  Result<std::string> KeepLastGood() const {
    if (config_.checkpoint.empty())
      return std::string("No checkpoint is configured, so this run's parameters are not kept");
    const std::string file = config_.checkpoint + ".diverged";
    MINIM_TRY(Save(file));
    return "The parameters of the last good step are in " + file;
  }

  Status FinishEpoch(TrainProgress& progress) {
    progress.ends_epoch = true;
    report_.epoch_loss.push_back(progress.loss);
    MINIM_TRY(Test(progress));
    rate_->EndEpoch(progress.loss);
    MINIM_TRY(const double score, Score(progress));
    position_.worse_epochs = score < position_.best ? 0 : position_.worse_epochs + 1;
    position_.best = std::min(position_.best, score);
    ++position_.epoch;
    if (config_.stop_after > 0 && position_.worse_epochs == 0)
      MINIM_TRY(ExportOnnx(runner_->Trained(), config_.onnx_out));
    position_.step = position_.loss_count = 0;
    position_.loss_sum = 0;
    report_.stopped_early = StopsEarly();
    return {};
  }

  // The last epoch's model, or the best one's, which was written when it was the last.
  Status Export() {
    report_.exported_epoch = position_.epoch;
    if (config_.stop_after > 0 && position_.worse_epochs > 0 && std::isfinite(position_.best) &&
        std::filesystem::exists(config_.onnx_out)) {
      report_.exported_epoch -= position_.worse_epochs;
      return {};
    }
    return ExportOnnx(runner_->Trained(), config_.onnx_out);
  }

  bool EndsInterval(int64_t step) const {
    return config_.checkpoint_steps > 0 && (step + 1) % config_.checkpoint_steps == 0;
  }

  Status Checkpoint() const {
    if (config_.checkpoint.empty()) return {};
    KeepOlder(config_.checkpoint, config_.keep_checkpoints);
    return Save(config_.checkpoint);
  }

  Status Test(TrainProgress& progress) {
    if (!data_.test) return {};
    MINIM_TRY(const std::shared_ptr<Session> session,
              MakeSession(runner_->Trained(), {.threads = config_.threads}));
    MINIM_TRY(const Metrics metrics, Evaluate(*session, *data_.test, config_.loss));
    progress.test_loss = metrics.loss;
    progress.test_accuracy = metrics.accuracy;
    progress.test_auc = metrics.auc;
    report_.epoch_test_loss.push_back(metrics.loss);
    if (metrics.accuracy >= 0) report_.epoch_accuracy.push_back(metrics.accuracy);
    if (metrics.auc >= 0) report_.epoch_auc.push_back(metrics.auc);
    return {};
  }

  // What early stopping goes by: lower is better.
  Result<double> Score(const TrainProgress& progress) const {
    const auto higher = [&](double value) -> Result<double> {
      if (value >= 0) return -value;
      return InvalidArgument("[train] metric: the test set has no {}; choose another metric",
                             config_.metric == MetricKind::kAuc
                                 ? "AUC, which takes two classes that both occur"
                                 : "accuracy, which takes classes");
    };
    switch (config_.metric) {
      case MetricKind::kAuc: return higher(progress.test_auc);
      case MetricKind::kAccuracy: return higher(progress.test_accuracy);
      case MetricKind::kLoss: break;
      case MetricKind::kDefault:
        if (progress.test_accuracy >= 0) return -progress.test_accuracy;
    }
    return data_.test ? progress.test_loss : progress.loss;
  }

  // A metric that the test set does not have is an error before training, not after an epoch.
  Status CheckMetric() const {
    if (config_.metric != MetricKind::kAuc && config_.metric != MetricKind::kAccuracy) return {};
    if (!data_.test) return InvalidArgument("[train] metric needs test data; add it to [data]");
    MINIM_TRY(const std::shared_ptr<Session> session,
              MakeSession(runner_->Trained(), {.threads = config_.threads}));
    MINIM_TRY(const Metrics metrics, Evaluate(*session, *data_.test, config_.loss));
    return Score({.test_accuracy = metrics.accuracy, .test_auc = metrics.auc}).status();
  }

  bool StopsEarly() const {
    return config_.stop_after > 0 && position_.worse_epochs >= config_.stop_after;
  }

  Status Tell(TrainProgress progress) {
    progress.seconds = SecondsSince(start_);
    ++steps_done_;
    progress.samples_per_second =
        static_cast<double>(steps_done_ * config_.batch * config_.accumulate) / progress.seconds;
    if (log_.is_open()) MINIM_TRY(Log(progress));
    if (!progress_ || progress_(progress)) return {};
    MINIM_TRY(Checkpoint());
    return Cancelled(
        "stopped in epoch {} after step {}{}", progress.epoch, progress.step,
        config_.checkpoint.empty() ? "" : "; the checkpoint is saved, run again with --resume");
  }

  // A resumed run goes on in the same log.
  Status OpenLog() {
    if (config_.log_out.empty()) return {};
    const bool goes_on = position_.epoch > 0 || position_.step > 0;
    log_.open(config_.log_out, goes_on ? std::ios::app : std::ios::trunc);
    if (log_) return {};
    return InvalidArgument("{}: cannot be written", config_.log_out);
  }

  Status Log(const TrainProgress& progress) {
    nlohmann::json line = {{"epoch", progress.epoch},
                           {"step", progress.step},
                           {"loss", progress.loss},
                           {"step_loss", progress.step_loss},
                           {"learning_rate", progress.learning_rate},
                           {"gradient_norm", progress.gradient_norm},
                           {"scale", progress.scale},
                           {"skipped_steps", progress.skipped_steps},
                           {"seconds", progress.seconds}};
    const auto add = [&](const char* key, double value) {
      if (value >= 0) line[key] = value;
    };
    add("test_loss", progress.test_loss);
    add("test_accuracy", progress.test_accuracy);
    add("test_auc", progress.test_auc);
    log_ << line.dump() << std::endl;
    if (log_) return {};
    return ResourceExhausted("{}: cannot be written any more; is the disk full?", config_.log_out);
  }

  // The numbers that a checkpoint must share with the run that continues it.
  std::map<std::string, int64_t> Identity() const {
    return {{"seed", static_cast<int64_t>(config_.seed)},
            {"batch", config_.batch},
            {"accumulate", config_.accumulate}};
  }

  Status Save(const std::string& file) const {
    SavedValues values = runner_->scaler().Save();
    position_.Save(values);
    rate_->Save(values);
    for (const auto& [name, value] : Identity()) Put(values, name, value);
    return WriteCheckpoint(file, runner_->step(), runner_->states(), std::move(values));
  }

  Status Restore() {
    std::vector<Tensor> states = runner_->states();
    MINIM_TRY(const SavedValues values,
              ReadCheckpoint(config_.checkpoint, runner_->step(), states));
    MINIM_TRY(Annotate(RestoreValues(values), config_.checkpoint));
    runner_->states() = std::move(states);
    return {};
  }

  Status RestoreValues(const SavedValues& values) {
    for (const auto& [name, expected] : Identity()) {
      int64_t found = 0;
      MINIM_TRY(Get(values, name, found));
      if (found != expected)
        return InvalidArgument("was made with {} {}, the config has {}", name, found, expected);
    }
    MINIM_TRY(position_.Restore(values));
    MINIM_TRY(rate_->Restore(values));
    report_.stopped_early = StopsEarly();
    return runner_->scaler().Restore(values);
  }

  TrainConfig config_;  // with what follows from the data
  const std::function<bool(const TrainProgress&)> progress_;
  TrainData data_;
  Graph forward_;
  std::unique_ptr<StepRunner> runner_;
  std::optional<LearningRate> rate_;
  int64_t steps_per_epoch_ = 0;
  Position position_;
  TrainReport report_;
  Clock::time_point start_;
  int64_t steps_done_ = 0;
  int64_t bad_steps_ = 0;
  std::ofstream log_;
};

}  // namespace

std::string_view Name(TrainPrecision precision) {
  switch (precision) {
    case TrainPrecision::kFp32: return "fp32";
    case TrainPrecision::kBf16: return "bf16";
    case TrainPrecision::kFp16: return "fp16";
    case TrainPrecision::kAuto: break;
  }
  return "auto";
}

std::string_view Name(ActivationStorage storage) {
  switch (storage) {
    case ActivationStorage::kHalf: return "half";
    case ActivationStorage::kInt8: return "int8";
    case ActivationStorage::kInt4: return "int4";
    case ActivationStorage::kWhole: break;
  }
  return "whole";
}

Result<TrainReport> Train(const TrainConfig& config,
                          const std::function<bool(const TrainProgress&)>& progress,
                          const std::function<void(const TrainReport&)>& started) {
  return TrainingRun(config, progress).Run(started);
}

Result<TrainConfig> Tune(const TrainConfig& config,
                         const std::function<bool(const TuneTrial&)>& tried) {
  return TrainingRun(config, {}).Tune(tried);
}

Result<std::string> ProfileStep(const TrainConfig& config, int runs) {
  return TrainingRun(config, {}).Profile(runs);
}

}  // namespace minim
