#include "train/prepare.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "core/file.h"
#include "onnx/onnx.h"
#include "train/data_statistics.h"
#include "train/model_builder.h"
#include "train/schedule.h"
#include "train/update.h"

namespace minim {
namespace {

std::vector<double> BalancedWeights(const std::vector<int64_t>& counts, int64_t samples) {
  const auto occurring = static_cast<double>(
      std::count_if(counts.begin(), counts.end(), [](int64_t count) { return count > 0; }));
  std::vector<double> weights;
  for (int64_t count : counts)
    weights.push_back(count == 0 ? 1 : static_cast<double>(samples) / (occurring * count));
  return weights;
}

// Of the first output, [N, classes, ...]; 0 if it is not known.
int64_t ScoreCount(const Graph& forward) {
  if (forward.outputs.empty()) return 0;
  const TensorType& scores = forward.type(forward.outputs[0]);
  const bool known = scores.ranked() && scores.rank() > 1 && (*scores.shape)[1].known();
  return known ? (*scores.shape)[1].value() : 0;
}

Status CheckClassWeights(const TrainConfig& config) {
  const std::vector<double>& weights = config.class_weights;
  if (weights.empty() && !config.balance_classes) return {};
  if (config.loss == LossKind::kMeanSquaredError)
    return InvalidArgument("[train] class_weights: mse has no classes");
  if (!weights.empty() && config.balance_classes)
    return InvalidArgument("[train] class_weights: give either weights or balanced");
  for (double weight : weights)
    if (!(weight >= 0 && std::isfinite(weight)))
      return InvalidArgument("[train] class_weights: {} is not at least 0", weight);
  return {};
}

Status StandardizeInput(const TrainConfig& config, const TrainData& data, Graph& forward) {
  if (forward.inputs.size() != 1 || config.model.input_scale != 1)
    return InvalidArgument(
        "[model] standardize needs a model of one input, found {}, and no input_scale",
        forward.inputs.size());
  MINIM_TRY(FeatureStatistics features, MeasureFeatures(*data.train));
  for (size_t f = 0; f < data.one_hot.size(); ++f) {
    if (!data.one_hot[f]) continue;
    features.mean[f] = 0;
    features.deviation[f] = 1;
  }
  return Standardize(forward, features);
}

}  // namespace

Status CheckConfig(const TrainConfig& config) {
  if (config.epochs < 1 || config.batch < 1 || config.threads < 1 || config.accumulate < 1)
    return InvalidArgument(
        "epochs ({}), batch ({}), accumulate ({}) and threads ({}) must be at least 1",
        config.epochs, config.batch, config.accumulate, config.threads);
  if (!(config.ema_decay >= 0 && config.ema_decay < 1))
    return InvalidArgument("ema_decay is {}, expected at least 0 and below 1", config.ema_decay);
  if (config.bad_steps < 1 || config.stop_after < 0)
    return InvalidArgument("bad_steps is {} and stop_after {}, expected at least 1 and 0",
                           config.bad_steps, config.stop_after);
  if (config.checkpoint_steps < 0 || config.keep_checkpoints < 1)
    return InvalidArgument("[output] checkpoint_steps is {} and keep {}, expected at least 0 and 1",
                           config.checkpoint_steps, config.keep_checkpoints);
  if (config.checkpoint_steps > 0 && config.checkpoint.empty())
    return InvalidArgument("[output] checkpoint_steps needs checkpoint, the file to write");
  MINIM_TRY(CheckClassWeights(config));
  MINIM_TRY(CheckOptimizer(config.optimizer));
  return CheckSchedule(config.schedule);
}

Status CheckWritable(const TrainConfig& config) {
  for (const std::string& file : {config.onnx_out, config.log_out, config.checkpoint}) {
    if (file.empty()) continue;
    const std::string probe = file + ".probe";
    MINIM_TRY(Annotate(WriteFileAtomic(probe, "probe"), "output"));
    std::filesystem::remove(probe);
  }
  return {};
}

Result<Graph> BuildForward(TrainConfig& config, const TrainData& data, const Dims& batch) {
  ModelSpec& model = config.model;
  const std::vector<int64_t> sample(batch.begin() + 1, batch.end());
  if (model.input.empty()) model.input = sample;
  if (model.input != sample)
    return InvalidArgument("[model] input is [{}], but the data's samples are [{}]",
                           fmt::join(model.input, ", "), fmt::join(sample, ", "));
  Graph forward;
  if (!model.onnx.empty()) {
    MINIM_TRY(forward, ImportOnnx(model.onnx));
  } else {
    MINIM_TRY(forward, BuildModel(model, config.seed));
  }
  for (const auto& [key, value] : data.metadata) forward.metadata[key] = value;
  if (model.standardize) MINIM_TRY(StandardizeInput(config, data, forward));
  return forward;
}

Status CheckClasses(const Graph& forward, const TrainConfig& config, int64_t classes) {
  const int64_t scores = ScoreCount(forward);
  if (config.loss != LossKind::kCrossEntropy || scores == 0 || classes <= scores) return {};
  return InvalidArgument(
      "the training labels have classes up to {}, but the model scores {} classes", classes - 1,
      scores);
}

Status SetClassWeights(TrainConfig& config, const TrainData& data, const Graph& forward) {
  std::vector<double>& weights = config.class_weights;
  if (config.balance_classes) {
    MINIM_TRY(const std::vector<int64_t> counts, CountClasses(*data.train));
    weights = BalancedWeights(counts, data.train->size());
  }
  if (weights.empty()) return {};
  const bool binary = config.loss == LossKind::kBinaryCrossEntropy;
  const auto scores = static_cast<size_t>(ScoreCount(forward));
  const size_t classes = binary ? 2 : scores == 0 ? weights.size() : scores;
  if (config.balance_classes) weights.resize(std::max(weights.size(), classes), 1);
  if (weights.size() == classes) return {};
  return InvalidArgument("[train] class_weights has {} entries, the model {} classes",
                         weights.size(), classes);
}

}  // namespace minim
