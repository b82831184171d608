#include <fmt/format.h>
#include <toml++/toml.h>

#include <filesystem>
#include <set>

#include "core/file.h"
#include "minim/train.h"

namespace minim {
namespace {

// Reads keys from one table and remembers which were known, so that a misspelt key is an error.
class Section {
 public:
  Section(const toml::table& root, std::string name) : name_(std::move(name)) {
    if (const toml::table* table = root[name_].as_table()) table_ = *table;
  }

  template <typename T>
  Status Read(std::string_view key, T& value) {
    known_.insert(std::string(key));
    const toml::node* node = table_.get(key);
    if (node == nullptr) return {};
    if constexpr (std::is_same_v<T, double>) {
      if (const auto number = node->value<double>()) return value = *number, Status();
    } else if constexpr (std::is_same_v<T, bool>) {
      if (node->is_boolean()) return value = *node->value<bool>(), Status();
    } else if constexpr (std::is_integral_v<T>) {
      if (node->is_integer()) return value = static_cast<T>(*node->value<int64_t>()), Status();
    } else {
      if (node->is_string()) return value = *node->value<std::string>(), Status();
    }
    constexpr std::string_view kind = std::is_same_v<T, double> ? "a number"
                                      : std::is_same_v<T, bool> ? "true or false"
                                      : std::is_integral_v<T>   ? "a whole number"
                                                                : "a string";
    return InvalidArgument("[{}] {}: expected {}", name_, key, kind);
  }

  template <typename Enum>
  Status Choose(std::string_view key, Enum& value,
                const std::vector<std::pair<std::string_view, Enum>>& choices) {
    std::string text;
    MINIM_TRY(Read(key, text));
    if (text.empty()) return {};
    std::string names;
    for (const auto& [name, choice] : choices) {
      if (name == text) return value = choice, Status();
      names += (names.empty() ? "" : ", ") + std::string(name);
    }
    return InvalidArgument("[{}] {}: '{}' is unknown; expected one of {}", name_, key, text, names);
  }

  const toml::node* Node(std::string_view key) {
    known_.insert(std::string(key));
    return table_.get(key);
  }

  Status NoOthers() const {
    for (const auto& [key, node] : table_)
      if (!known_.contains(std::string(key.str())))
        return InvalidArgument("[{}] {}: unknown key; known are {}", name_, key.str(),
                               fmt::join(known_, ", "));
    return {};
  }

 private:
  std::string name_;
  toml::table table_;
  std::set<std::string> known_;
};

Result<LayerSpec> ParseLayer(const toml::node& node) {
  LayerSpec layer;
  if (const auto name = node.value<std::string>()) {
    layer.kind = *name;
    return layer;
  }
  const toml::table* table = node.as_table();
  if (table == nullptr) return InvalidArgument("[model] layers: a layer is a name or a table");
  const std::set<std::string_view> sized = {"conv", "linear", "max_pool", "average_pool"};
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
  return section.NoOthers();
}

Status ReadData(Section section, TrainConfig& config) {
  MINIM_TRY(section.Read("train_samples", config.train_samples));
  MINIM_TRY(section.Read("train_labels", config.train_labels));
  MINIM_TRY(section.Read("test_samples", config.test_samples));
  MINIM_TRY(section.Read("test_labels", config.test_labels));
  if (config.train_samples.empty() || config.train_labels.empty())
    return InvalidArgument("[data]: train_samples and train_labels are needed");
  if (config.test_samples.empty() != config.test_labels.empty())
    return InvalidArgument("[data]: test_samples and test_labels go together");
  return section.NoOthers();
}

Status ReadRecipe(Section section, TrainConfig& config) {
  MINIM_TRY(section.Choose(
      "loss", config.loss,
      {{"cross_entropy", LossKind::kCrossEntropy}, {"mse", LossKind::kMeanSquaredError}}));
  MINIM_TRY(section.Choose("optimizer", config.optimizer,
                           {{"sgd", OptimizerKind::kSgd}, {"adam", OptimizerKind::kAdam}}));
  MINIM_TRY(section.Choose("schedule", config.schedule,
                           {{"constant", Schedule::kConstant}, {"cosine", Schedule::kCosine}}));
  MINIM_TRY(section.Read("learning_rate", config.learning_rate));
  MINIM_TRY(section.Read("momentum", config.momentum));
  MINIM_TRY(section.Read("weight_decay", config.weight_decay));
  MINIM_TRY(section.Read("epochs", config.epochs));
  MINIM_TRY(section.Read("batch", config.batch));
  MINIM_TRY(section.Read("seed", config.seed));
  MINIM_TRY(section.Read("threads", config.threads));
  return section.NoOthers();
}

Status ReadOutput(Section section, TrainConfig& config) {
  MINIM_TRY(section.Read("onnx", config.onnx_out));
  MINIM_TRY(section.Read("log", config.log_out));
  MINIM_TRY(section.Read("checkpoint", config.checkpoint));
  MINIM_TRY(section.Read("resume", config.resume));
  return section.NoOthers();
}

Status CheckSections(const toml::table& root) {
  const std::set<std::string_view> sections = {"data", "model", "train", "output"};
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
        &config->model.onnx, &config->onnx_out, &config->log_out, &config->checkpoint})
    if (!file->empty()) *file = (folder / *file).string();
  return config;
}

}  // namespace minim
