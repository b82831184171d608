#include <fmt/format.h>
#include <toml++/toml.h>

#include <filesystem>
#include <set>

#include "core/file.h"
#include "minim/train.h"
#include "train/toml_section.h"

namespace minim {
namespace {

Result<LayerSpec> ParseLayer(const toml::node& node) {
  LayerSpec layer;
  if (const auto name = node.value<std::string>()) {
    layer.kind = *name;
    return layer;
  }
  const toml::table* table = node.as_table();
  if (table == nullptr) return InvalidArgument("[model] layers: a layer is a name or a table");
  const std::set<std::string_view> sized = {"conv", "linear", "max_pool", "average_pool"};
  if (const toml::node* ratio = table->get("dropout")) {
    const auto number = ratio->value<double>();
    if (!number || table->size() != 1)
      return InvalidArgument("[model] layers: dropout takes a number, as in {{dropout = 0.1}}");
    return LayerSpec{.kind = "dropout", .ratio = *number};
  }
  for (const auto& [key, value] : *table) {
    const std::string name(key.str());
    if (name == "bias" && value.is_boolean()) {
      layer.bias = *value.value<bool>();
      continue;
    }
    const auto number = value.value<int64_t>();
    if (!number || *number < 0)
      return InvalidArgument("[model] layers: '{}' needs a whole number of at least 0", name);
    if (name == "kernel")
      layer.kernel = *number;
    else if (name == "stride")
      layer.stride = *number;
    else if (name == "padding")
      layer.padding = *number;
    else if (sized.contains(name) && layer.kind.empty()) {
      layer.kind = name;
      (name.ends_with("pool") ? layer.kernel : layer.units) = *number;
    } else {
      return InvalidArgument("[model] layers: unexpected key '{}'", name);
    }
  }
  if (layer.kind.empty())
    return InvalidArgument("[model] layers: a table needs one of {}", fmt::join(sized, ", "));
  return layer;
}

Status ReadModel(Section section, ModelSpec& model) {
  MINIM_TRY(section.Read("onnx", model.onnx));
  MINIM_TRY(section.Read("input_scale", model.input_scale));
  MINIM_TRY(section.Read("standardize", model.standardize));
  MINIM_TRY(section.Read("round_up_channels", model.round_up_channels));
  if (model.round_up_channels < 0)
    return InvalidArgument("[model] round_up_channels is {}, expected at least 0",
                           model.round_up_channels);
  if (const toml::node* input = section.Node("input")) {
    if (!input->is_array()) return InvalidArgument("[model] input: expected a list of sizes");
    for (const toml::node& size : *input->as_array()) {
      if (!size.is_integer() || *size.value<int64_t>() < 1)
        return InvalidArgument("[model] input: sizes are whole numbers of at least 1");
      model.input.push_back(*size.value<int64_t>());
    }
  }
  if (const toml::node* layers = section.Node("layers")) {
    if (!layers->is_array()) return InvalidArgument("[model] layers: expected a list");
    for (const toml::node& node : *layers->as_array()) {
      MINIM_TRY(LayerSpec layer, ParseLayer(node));
      model.layers.push_back(std::move(layer));
    }
  }
  if (model.onnx.empty() == model.layers.empty())
    return InvalidArgument("[model]: give either onnx or layers");
  if (model.round_up_channels > 0 && model.layers.empty())
    return InvalidArgument("[model] round_up_channels is for layers; a file's sizes are fixed");
  return section.NoOthers();
}

Status ReadNames(Section& section, std::string_view key, std::vector<std::string>& names) {
  const toml::node* node = section.Node(key);
  if (node == nullptr) return {};
  const auto error = [&] { return InvalidArgument("{}: expected a list of strings", key); };
  if (!node->is_array()) return error();
  for (const toml::node& name : *node->as_array()) {
    if (!name.is_string()) return error();
    names.push_back(*name.value<std::string>());
  }
  return {};
}

Status ReadData(Section section, TrainConfig& config) {
  MINIM_TRY(section.Read("train_samples", config.train_samples));
  MINIM_TRY(section.Read("train_labels", config.train_labels));
  MINIM_TRY(section.Read("test_samples", config.test_samples));
  MINIM_TRY(section.Read("test_labels", config.test_labels));
  MINIM_TRY(section.Read("csv", config.csv.file));
  MINIM_TRY(section.Read("test_csv", config.csv.test_file));
  MINIM_TRY(section.Read("target", config.csv.target));
  MINIM_TRY(ReadNames(section, "drop", config.csv.drop));
  MINIM_TRY(ReadNames(section, "categorical", config.csv.categorical));
  MINIM_TRY(section.Read("test_fraction", config.split.test_fraction));
  MINIM_TRY(section.Choose(
      "split", config.split.kind,
      {{"random", SplitKind::kRandom}, {"chronological", SplitKind::kChronological}}));
  MINIM_TRY(section.Read("split_seed", config.split.seed));
  MINIM_TRY(section.Read("split_gap", config.split.gap));
  MINIM_TRY(section.Read("shuffle", config.shuffle));
  return section.NoOthers();
}

// "balanced" or a list of numbers.
Status ReadClassWeights(Section& section, TrainConfig& config) {
  const toml::node* node = section.Node("class_weights");
  if (node == nullptr) return {};
  config.balance_classes = node->value<std::string>() == "balanced";
  if (config.balance_classes) return {};
  const auto error = [] {
    return InvalidArgument("[train] class_weights: expected \"balanced\" or a list of numbers");
  };
  if (!node->is_array()) return error();
  for (const toml::node& weight : *node->as_array()) {
    const auto number = weight.value<double>();
    if (!number) return error();
    config.class_weights.push_back(*number);
  }
  return {};
}

Status ReadRecipe(Section section, TrainConfig& config) {
  MINIM_TRY(section.Choose("loss", config.loss,
                           {{"cross_entropy", LossKind::kCrossEntropy},
                            {"binary_cross_entropy", LossKind::kBinaryCrossEntropy},
                            {"mse", LossKind::kMeanSquaredError}}));
  MINIM_TRY(ReadClassWeights(section, config));
  MINIM_TRY(section.Choose("precision", config.precision,
                           {{"fp32", TrainPrecision::kFp32},
                            {"bf16", TrainPrecision::kBf16},
                            {"fp16", TrainPrecision::kFp16},
                            {"auto", TrainPrecision::kAuto}}));
  MINIM_TRY(ReadNames(section, "lower_ops", config.lower_ops));
  MINIM_TRY(ReadNames(section, "fp32_ops", config.fp32_ops));
  MINIM_TRY(section.Read("epochs", config.epochs));
  MINIM_TRY(section.Read("batch", config.batch));
  MINIM_TRY(section.Read("accumulate", config.accumulate));
  MINIM_TRY(section.Read("ema_decay", config.ema_decay));
  MINIM_TRY(section.Choose("metric", config.metric,
                           {{"loss", MetricKind::kLoss},
                            {"accuracy", MetricKind::kAccuracy},
                            {"auc", MetricKind::kAuc}}));
  MINIM_TRY(section.Read("stop_after", config.stop_after));
  MINIM_TRY(section.Read("bad_steps", config.bad_steps));
  MINIM_TRY(section.Read("seed", config.seed));
  MINIM_TRY(section.Read("threads", config.threads));
  return section.NoOthers();
}

Result<ParameterGroup> ParseGroup(const toml::node& node) {
  ParameterGroup group;
  const toml::table* table = node.as_table();
  if (table == nullptr || !(*table)["match"].is_string())
    return InvalidArgument("[optimizer] groups: a group is a table with a string 'match'");
  for (const auto& [key, value] : *table) {
    if (key.str() == "match") {
      group.match = *value.value<std::string>();
      continue;
    }
    const bool decay = key.str() == "weight_decay", factor = key.str() == "rate_factor";
    const auto number = value.value<double>();
    if ((!decay && !factor) || !number)
      return InvalidArgument(
          "[optimizer] groups: unexpected '{}'; expected match and the numbers weight_decay and "
          "rate_factor",
          key.str());
    (decay ? group.weight_decay : group.rate_factor) = *number;
  }
  return group;
}

Status ReadOptimizer(Section section, OptimizerSpec& spec) {
  MINIM_TRY(section.Choose("name", spec.kind,
                           {{"sgd", OptimizerKind::kSgd},
                            {"adam", OptimizerKind::kAdam},
                            {"adamw", OptimizerKind::kAdamW},
                            {"adagrad", OptimizerKind::kAdagrad},
                            {"rmsprop", OptimizerKind::kRmsprop},
                            {"lamb", OptimizerKind::kLamb}}));
  MINIM_TRY(section.Read("learning_rate", spec.learning_rate));
  MINIM_TRY(section.Read("weight_decay", spec.weight_decay));
  MINIM_TRY(section.Read("momentum", spec.momentum));
  MINIM_TRY(section.Read("nesterov", spec.nesterov));
  MINIM_TRY(section.Read("beta1", spec.beta1));
  MINIM_TRY(section.Read("beta2", spec.beta2));
  MINIM_TRY(section.Read("epsilon", spec.epsilon));
  MINIM_TRY(section.Read("alpha", spec.alpha));
  MINIM_TRY(section.Read("rate_decay", spec.rate_decay));
  MINIM_TRY(section.Read("clip_norm", spec.clip_norm));
  MINIM_TRY(section.Read("clip_value", spec.clip_value));
  if (const toml::node* groups = section.Node("groups")) {
    if (!groups->is_array()) return InvalidArgument("[optimizer] groups: expected a list");
    for (const toml::node& node : *groups->as_array()) {
      MINIM_TRY(ParameterGroup group, ParseGroup(node));
      spec.groups.push_back(std::move(group));
    }
  }
  return section.NoOthers();
}

Status ReadSchedule(Section section, ScheduleSpec& spec) {
  MINIM_TRY(section.Choose("name", spec.kind,
                           {{"constant", ScheduleKind::kConstant},
                            {"step", ScheduleKind::kStep},
                            {"cosine", ScheduleKind::kCosine},
                            {"one_cycle", ScheduleKind::kOneCycle},
                            {"plateau", ScheduleKind::kPlateau}}));
  MINIM_TRY(section.Read("warmup_steps", spec.warmup_steps));
  MINIM_TRY(section.Read("min_rate", spec.min_rate));
  MINIM_TRY(section.Read("step_epochs", spec.step_epochs));
  MINIM_TRY(section.Read("factor", spec.factor));
  MINIM_TRY(section.Read("rise", spec.rise));
  MINIM_TRY(section.Read("first_divisor", spec.first_divisor));
  MINIM_TRY(section.Read("last_divisor", spec.last_divisor));
  MINIM_TRY(section.Read("patience", spec.patience));
  MINIM_TRY(section.Read("threshold", spec.threshold));
  return section.NoOthers();
}

Status ReadScaler(Section section, GradScalerOptions& options) {
  MINIM_TRY(section.Read("enabled", options.enabled));
  MINIM_TRY(section.Read("initial_scale", options.initial_scale));
  MINIM_TRY(section.Read("growth_factor", options.growth_factor));
  MINIM_TRY(section.Read("backoff_factor", options.backoff_factor));
  MINIM_TRY(section.Read("growth_interval", options.growth_interval));
  MINIM_TRY(section.Read("min_scale", options.min_scale));
  MINIM_TRY(section.Read("max_scale", options.max_scale));
  MINIM_TRY(section.Read("adaptive", options.adaptive));
  return section.NoOthers();
}

Status ReadMemory(Section section, MemorySpec& memory) {
  double mebibytes = 0;
  MINIM_TRY(section.Read("sqrt_checkpoints", memory.sqrt_checkpoints));
  MINIM_TRY(section.Read("budget_mib", mebibytes));
  MINIM_TRY(section.Choose("storage", memory.storage,
                           {{"whole", ActivationStorage::kWhole},
                            {"half", ActivationStorage::kHalf},
                            {"int8", ActivationStorage::kInt8},
                            {"int4", ActivationStorage::kInt4}}));
  if (!(mebibytes >= 0 && mebibytes < 1e9))
    return InvalidArgument("[memory] budget_mib: {} is no size", mebibytes);
  memory.budget_bytes = static_cast<size_t>(mebibytes * (1 << 20));
  return section.NoOthers();
}

Status ReadOutput(Section section, TrainConfig& config) {
  MINIM_TRY(section.Read("onnx", config.onnx_out));
  MINIM_TRY(section.Read("log", config.log_out));
  MINIM_TRY(section.Read("checkpoint", config.checkpoint));
  MINIM_TRY(section.Read("checkpoint_steps", config.checkpoint_steps));
  MINIM_TRY(section.Read("keep", config.keep_checkpoints));
  MINIM_TRY(section.Read("resume", config.resume));
  return section.NoOthers();
}

Status CheckSections(const toml::table& root) {
  const std::set<std::string_view> sections = {"data",     "model",  "train",  "optimizer",
                                               "schedule", "scaler", "memory", "output"};
  for (const auto& [key, node] : root) {
    if (!sections.contains(key.str()) || !node.is_table())
      return InvalidArgument("'{}': unknown section; known are [{}]", key.str(),
                             fmt::join(sections, "], ["));
  }
  return {};
}

Result<TrainConfig> FromToml(const toml::table& root) {
  TrainConfig config;
  MINIM_TRY(CheckSections(root));
  MINIM_TRY(ReadData(Section(root, "data"), config));
  MINIM_TRY(ReadModel(Section(root, "model"), config.model));
  MINIM_TRY(ReadRecipe(Section(root, "train"), config));
  MINIM_TRY(ReadOptimizer(Section(root, "optimizer"), config.optimizer));
  MINIM_TRY(ReadSchedule(Section(root, "schedule"), config.schedule));
  MINIM_TRY(ReadScaler(Section(root, "scaler"), config.scaler));
  MINIM_TRY(ReadMemory(Section(root, "memory"), config.memory));
  MINIM_TRY(ReadOutput(Section(root, "output"), config));
  return config;
}

}  // namespace

Result<TrainConfig> ReadTrainConfig(const std::string& path) {
  MINIM_TRY(const std::string text, ReadFile(path, 1 << 20));
  toml::table root;
  try {
    root = toml::parse(std::string_view(text), std::string_view(path));
  } catch (const toml::parse_error& error) {
    return InvalidArgument("{}: line {}: {}", path, error.source().begin.line, error.description());
  }
  auto config = FromToml(root);
  if (!config.ok()) return Annotate(config.status(), path);
  const Path folder = Path(path).parent_path();
  for (std::string* file :
       {&config->train_samples, &config->train_labels, &config->test_samples, &config->test_labels,
        &config->csv.file, &config->csv.test_file, &config->model.onnx, &config->onnx_out,
        &config->log_out, &config->checkpoint})
    if (!file->empty()) *file = (folder / *file).string();
  return config;
}

}  // namespace minim
