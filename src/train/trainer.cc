#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>

#include "data/dataset.h"
#include "exec/cpu/executable.h"
#include "minim/train.h"
#include "onnx/onnx.h"
#include "passes/passes.h"
#include "session/session_impl.h"
#include "train/metrics.h"
#include "train/model_builder.h"
#include "train/safetensors.h"
#include "train/step.h"

namespace minim {
namespace {

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// The position of a run: what a checkpoint keeps besides the states.
struct Position {
  int64_t epoch = 0;
  int64_t batch = 0;
};

class TrainingRun {
 public:
  TrainingRun(const TrainConfig& config, const std::function<bool(const TrainProgress&)>& progress)
      : config_(config), progress_(progress) {}

  Result<TrainReport> Run() {
    MINIM_TRY(Prepare());
    start_ = Clock::now();
    for (; position_.epoch < config_.epochs; ++position_.epoch, position_.batch = 0)
      MINIM_TRY(Epoch());
    MINIM_TRY(ExportOnnx(WithStates(forward_, step_, states_), config_.onnx_out));
    report_.seconds = SecondsSince(start_);
    return report_;
  }

 private:
  Status Prepare() {
    MINIM_TRY(CheckConfig());
    MINIM_TRY(CheckWritable());
    MINIM_TRY(train_,
              ReadDataset(config_.train_samples, config_.train_labels, config_.model.input));
    if (!config_.test_samples.empty()) {
      MINIM_TRY(test_, ReadDataset(config_.test_samples, config_.test_labels, config_.model.input));
    }
    if (train_.size() < config_.batch)
      return InvalidArgument("{} training samples do not fill a batch of {}", train_.size(),
                             config_.batch);
    MINIM_TRY(CheckClasses());
    MINIM_TRY(BuildForward());
    return BuildExecutable();
  }

  Status CheckConfig() const {
    if (config_.epochs < 1 || config_.batch < 1 || config_.threads < 1)
      return InvalidArgument("epochs ({}), batch ({}) and threads ({}) must be at least 1",
                             config_.epochs, config_.batch, config_.threads);
    if (!(config_.learning_rate > 0) || !std::isfinite(config_.learning_rate))
      return InvalidArgument("learning_rate is {}, expected a positive number",
                             config_.learning_rate);
    return {};
  }

  // A full disk or an unwritable folder is an error before training starts, not after it.
  Status CheckWritable() const {
    for (const std::string& file : {config_.onnx_out, config_.log_out, config_.checkpoint}) {
      if (file.empty()) continue;
      const std::string probe = file + ".probe";
      MINIM_TRY(Annotate(WriteFileAtomic(probe, "probe"), "output"));
      std::filesystem::remove(probe);
    }
    return {};
  }

  Status CheckClasses() const {
    if (config_.loss != LossKind::kCrossEntropy || train_.labels.dtype() != DType::i64) return {};
    for (int64_t label : train_.labels.as<int64_t>())
      if (label < 0)
        return InvalidArgument("{}: class label {} is negative", config_.train_labels, label);
    return {};
  }

  Status BuildForward() {
    if (!config_.model.onnx.empty()) {
      MINIM_TRY(forward_, ImportOnnx(config_.model.onnx));
    } else {
      MINIM_TRY(forward_, BuildModel(config_.model, config_.seed));
    }
    return {};
  }

  Status BuildExecutable() {
    Dims sample_dims = train_.samples.dims(), label_dims = train_.labels.dims();
    sample_dims[0] = label_dims[0] = config_.batch;
    MINIM_TRY(step_,
              BuildStep(forward_, config_, sample_dims, Tensor(train_.labels.dtype(), label_dims)));
    MINIM_TRY(runtime_, Runtime::Default());
    PassContext context;
    context.has_kernel = HasCpuKernel;
    Graph graph = step_.graph;
    MINIM_TRY(RunPipeline(kTrainPipeline, graph, context));
    MINIM_TRY(executable_, Executable::Build(std::move(graph), runtime_, config_.threads));
    for (const Tensor& state : step_.initial_states) states_.push_back(state.Clone());
    report_.arena_bytes = executable_->plan().arena_bytes;
    report_.parameters = step_.parameter_count;
    return config_.resume ? Restore() : Status();
  }

  Status Epoch() {
    BatchLoader loader(train_, config_.batch, config_.seed, static_cast<uint64_t>(position_.epoch),
                       position_.batch);
    double loss_sum = 0;
    int64_t counted = 0;
    while (const std::optional<Batch> batch = loader.Next()) {
      const int64_t step = position_.epoch * loader.batch_count() + position_.batch;
      const int64_t steps = config_.epochs * loader.batch_count();
      MINIM_TRY(const double loss, Step(*batch, LearningRate(step, steps)));
      if (!std::isfinite(loss))
        return Internal("the loss became {} in epoch {}, step {}; lower learning_rate ({})", loss,
                        position_.epoch + 1, step, config_.learning_rate);
      loss_sum += loss;
      ++counted;
      ++position_.batch;
      const bool last = position_.batch == loader.batch_count();
      TrainProgress progress{.epoch = position_.epoch + 1,
                             .epochs = config_.epochs,
                             .step = step + 1,
                             .steps = steps,
                             .loss = loss_sum / static_cast<double>(counted)};
      if (last) MINIM_TRY(FinishEpoch(progress));
      MINIM_TRY(Tell(progress));
    }
    return {};
  }

  Result<double> Step(const Batch& batch, float rate) {
    float loss = 0;
    const TensorType& type = executable_->graph().type(executable_->graph().outputs[1]);
    if (!predictions_.defined()) predictions_ = Tensor(type.dtype, type.dims());
    const void* inputs[] = {batch.samples.data(), batch.labels.data(), &rate};
    void* outputs[] = {&loss, predictions_.data()};
    std::vector<void*> states;
    for (Tensor& state : states_) states.push_back(state.data());
    MINIM_TRY(executable_->Run(context_,
                               {inputs, outputs, states, {&runtime_->pool(), config_.threads}}));
    return loss;
  }

  float LearningRate(int64_t step, int64_t steps) const {
    if (config_.schedule == Schedule::kConstant) return static_cast<float>(config_.learning_rate);
    const double progress = static_cast<double>(step) / static_cast<double>(steps);
    return static_cast<float>(config_.learning_rate * 0.5 * (1 + std::cos(M_PI * progress)));
  }

  Status FinishEpoch(TrainProgress& progress) {
    report_.epoch_loss.push_back(progress.loss);
    if (test_.size() > 0 && test_.labels.dtype() == DType::i64) {
      MINIM_TRY(const std::shared_ptr<Session> session,
                MakeSession(WithStates(forward_, step_, states_), {.threads = config_.threads}));
      MINIM_TRY(progress.test_accuracy, Accuracy(*session, test_));
      report_.epoch_accuracy.push_back(progress.test_accuracy);
    }
    return config_.checkpoint.empty() ? Status() : Save({position_.epoch + 1, 0});
  }

  Status Tell(TrainProgress progress) {
    progress.seconds = SecondsSince(start_);
    ++steps_done_;
    progress.samples_per_second =
        static_cast<double>(steps_done_ * config_.batch) / progress.seconds;
    if (!config_.log_out.empty()) MINIM_TRY(Log(progress));
    if (!progress_ || progress_(progress)) return {};
    if (!config_.checkpoint.empty()) MINIM_TRY(Save(position_));
    return Cancelled(
        "stopped in epoch {} after step {}{}", progress.epoch, progress.step,
        config_.checkpoint.empty() ? "" : "; the checkpoint is saved, run again with --resume");
  }

  Status Log(const TrainProgress& progress) {
    nlohmann::json line = {{"epoch", progress.epoch},
                           {"step", progress.step},
                           {"loss", progress.loss},
                           {"seconds", progress.seconds}};
    if (progress.test_accuracy >= 0) line["test_accuracy"] = progress.test_accuracy;
    log_ += line.dump() + "\n";
    const bool due =
        progress.test_accuracy >= 0 || progress.step == progress.steps || log_lines_++ % 100 == 0;
    return due ? WriteFileAtomic(config_.log_out, log_) : Status();
  }

  Status Save(const Position& position) const {
    SafeTensors file;
    for (size_t i = 0; i < states_.size(); ++i)
      file.tensors[step_.graph.states[i].name] = states_[i];
    file.metadata = {{"format", "minim-checkpoint"},
                     {"epoch", std::to_string(position.epoch)},
                     {"batch", std::to_string(position.batch)},
                     {"seed", std::to_string(config_.seed)},
                     {"batch_size", std::to_string(config_.batch)}};
    return WriteFileAtomic(config_.checkpoint, SerializeSafeTensors(file));
  }

  Status Restore() {
    if (!std::filesystem::exists(config_.checkpoint)) return {};
    MINIM_TRY(const std::string bytes, ReadFile(config_.checkpoint));
    auto parsed = ParseSafeTensors(bytes);
    if (!parsed.ok()) return Annotate(parsed.status(), config_.checkpoint);
    SafeTensors& file = *parsed;
    if (file.metadata["seed"] != std::to_string(config_.seed) ||
        file.metadata["batch_size"] != std::to_string(config_.batch))
      return InvalidArgument("{}: was made with seed {} and batch {}, the config has {} and {}",
                             config_.checkpoint, file.metadata["seed"], file.metadata["batch_size"],
                             config_.seed, config_.batch);
    for (size_t i = 0; i < states_.size(); ++i) {
      const std::string& name = step_.graph.states[i].name;
      const auto it = file.tensors.find(name);
      if (it == file.tensors.end() || !(it->second.dims() == states_[i].dims()) ||
          it->second.dtype() != states_[i].dtype())
        return InvalidArgument("{}: has no '{}' of shape {}; it belongs to another model",
                               config_.checkpoint, name, states_[i].dims().ToString());
      states_[i] = it->second.Clone();
    }
    position_.epoch = std::atoll(file.metadata["epoch"].c_str());
    position_.batch = std::atoll(file.metadata["batch"].c_str());
    return {};
  }

  const TrainConfig& config_;
  const std::function<bool(const TrainProgress&)>& progress_;
  Dataset train_, test_;
  Graph forward_;
  StepGraph step_;
  std::shared_ptr<Runtime> runtime_;
  std::unique_ptr<Executable> executable_;
  ExecContext context_;
  std::vector<Tensor> states_;
  Tensor predictions_;
  Position position_;
  TrainReport report_;
  Clock::time_point start_;
  int64_t steps_done_ = 0;
  int64_t log_lines_ = 0;
  std::string log_;
};

}  // namespace

Result<TrainReport> Train(const TrainConfig& config,
                          const std::function<bool(const TrainProgress&)>& progress) {
  return TrainingRun(config, progress).Run();
}

}  // namespace minim
