#include "compress/shrink_config.h"

#include <algorithm>

#include "train/toml_section.h"

namespace minim {
namespace {

// folder/data/NAME with the first suffix that is there; empty if none is.
std::string Find(const Path& folder, const std::string& name) {
  for (const char* suffix : {".npy", ".npz", ".csv", ".csv.gz"}) {
    const Path path = folder / "data" / (name + suffix);
    if (std::filesystem::exists(path)) return path.string();
  }
  return "";
}

std::vector<std::string> FindFiles(const Path& folder, const std::string& name) {
  const std::string found = Find(folder, name);
  return found.empty() ? std::vector<std::string>() : std::vector<std::string>{found};
}

std::string Inside(const Path& folder, const std::string& file) {
  return file.empty() || Path(file).is_absolute() ? file : (folder / file).string();
}

// key = { a = "b", ... }; empty if the key is not there.
Result<std::map<std::string, std::string>> ReadNames(const toml::node& node, std::string_view key,
                                                     const char* expected) {
  std::map<std::string, std::string> names;
  const toml::table* table = node.as_table();
  bool right = table != nullptr && !table->empty();
  if (right) {
    for (const auto& [name, value] : *table) {
      names[std::string(name.str())] = value.value_or(std::string());
      right = right && !names[std::string(name.str())].empty();
    }
  }
  if (right) return names;
  return InvalidArgument("[shrink] {}: expected {}", key, expected);
}

// key = "FILE", or key = { NAME = "FILE", ... } of a model with several inputs.
Status ReadFiles(Section& section, std::string_view key, const Path& folder,
                 std::vector<std::string>& files) {
  const toml::node* node = section.Node(key);
  if (node == nullptr) return {};
  files.clear();
  if (const auto file = node->value<std::string>()) {
    files.push_back(Inside(folder, *file));
    return {};
  }
  MINIM_TRY(const auto named, ReadNames(*node, key, "\"FILE\" or { INPUT = \"FILE\", ... }"));
  for (const auto& [name, file] : named) files.push_back(name + "=" + Inside(folder, file));
  return {};
}

Status ReadPaths(Section& section, const Path& folder, ShrinkOptions& options) {
  MINIM_TRY(ReadFiles(section, "data", folder, options.data));
  MINIM_TRY(ReadFiles(section, "calibration", folder, options.calibration));
  MINIM_TRY(ReadFiles(section, "train_data", folder, options.train_data));
  for (const auto& [key, value] :
       {std::pair{"labels", &options.labels}, {"train_labels", &options.train_labels}}) {
    MINIM_TRY(section.Read(key, *value));
    *value = Inside(folder, *value);
  }
  return {};
}

Status ReadStates(Section& section, ShrinkOptions& options) {
  MINIM_TRY(section.Read("sequence_length", options.sequence_length));
  const toml::node* node = section.Node("state");
  if (node == nullptr) return {};
  MINIM_TRY(options.states, ReadNames(*node, "state", "{ INPUT = \"OUTPUT\", ... }"));
  return {};
}

Status ReadSection(const toml::table& root, const Path& folder, ShrinkOptions& options) {
  Section section(root, "shrink");
  MINIM_TRY(ReadPaths(section, folder, options));
  MINIM_TRY(ReadStates(section, options));
  std::string goal, recipe, calibrator;
  MINIM_TRY(section.Read("metric", options.metric));
  MINIM_TRY(section.Read("output", options.output));
  MINIM_TRY(section.Read("max_loss", options.max_loss));
  MINIM_TRY(section.Read("calibration_count", options.calibration_count));
  MINIM_TRY(section.Read("prune_fraction", options.prune_fraction));
  MINIM_TRY(section.Read("epochs", options.epochs));
  MINIM_TRY(section.Read("shallower", options.shallower));
  MINIM_TRY(section.Read("percentile", options.static_int8.percentile));
  MINIM_TRY(section.Read("symmetric", options.static_int8.symmetric));
  MINIM_TRY(section.Read("goal", goal));
  MINIM_TRY(section.Read("recipe", recipe));
  MINIM_TRY(section.Read("calibrator", calibrator));
  MINIM_TRY(section.NoOthers());
  if (!goal.empty()) {
    MINIM_TRY(options.goal, ParseShrinkGoal(goal));
  }
  if (!recipe.empty()) {
    MINIM_TRY(options.recipe, ParseRecipe(recipe));
  }
  if (!calibrator.empty()) {
    MINIM_TRY(options.calibrator, ParseCalibrator(calibrator));
  }
  return {};
}

}  // namespace

Result<ShrinkOptions> FolderShrinkOptions(const Path& folder, const ShrinkOptions& defaults) {
  ShrinkOptions options = defaults;
  const Path config = folder / "minim.toml";
  if (std::filesystem::exists(config)) {
    MINIM_TRY(const std::string text, ReadFile(config, 1 << 20));
    try {
      const toml::table root = toml::parse(text);
      if (root.contains("shrink"))
        MINIM_TRY(Annotate(ReadSection(root, folder, options), config.string()));
    } catch (const toml::parse_error& error) {
      return InvalidArgument("{}: line {}: {}", config.string(), error.source().begin.line,
                             error.description());
    }
  }
  if (options.data.empty()) {
    options.data = FindFiles(folder, "samples");
    options.labels = Find(folder, "labels");
    options.calibration = FindFiles(folder, "calibration");
    options.train_data = FindFiles(folder, "train_samples");
    options.train_labels = Find(folder, "train_labels");
  }
  if (options.data.empty())
    return NotFound("no data: expected {} or [shrink] data = \"...\" in {}",
                    (folder / "data/samples.npy").string(), config.string());
  return options;
}

Result<ShrinkGoal> ParseShrinkGoal(std::string_view name) {
  if (name == "latency") return ShrinkGoal::kLatency;
  if (name == "bytes") return ShrinkGoal::kBytes;
  return InvalidArgument("goal '{}' is unknown; expected latency or bytes", name);
}

Result<std::vector<std::string>> ParseRecipe(std::string_view text) {
  std::vector<std::string> steps;
  while (!text.empty()) {
    const size_t end = std::min(text.find(','), text.size());
    const std::string step(text.substr(0, end));
    if (step != "prune" && step != "magnitude" && step != "distill" && step != "quantize")
      return InvalidArgument(
          "recipe step '{}' is unknown; there are prune, magnitude, distill, quantize", step);
    steps.push_back(step);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return steps;
}

}  // namespace minim
