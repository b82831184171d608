#include "serve/repository/serving_config.h"

#include <toml++/toml.h>

#include <nlohmann/json.hpp>

namespace minim::serve {
namespace {

using nlohmann::json;

bool HasSection(std::string_view section) {
  for (const Setting& setting : Settings())
    if (setting.section == section) return true;
  return false;
}

const Setting* FindSetting(std::string_view section, std::string_view key) {
  for (const Setting& setting : Settings())
    if (setting.section == section && setting.key == key) return &setting;
  return nullptr;
}

Result<SettingValue> ValueOf(const toml::node& node) {
  if (node.is_boolean()) return SettingValue(*node.value<bool>());
  if (node.is_number()) return SettingValue(*node.value<double>());
  if (node.is_string()) return SettingValue(*node.value<std::string>());
  return InvalidArgument("expected true or false, a number or a string");
}

Result<SettingValue> ValueOf(const json& node) {
  if (node.is_boolean()) return SettingValue(node.get<bool>());
  if (node.is_number()) return SettingValue(node.get<double>());
  if (node.is_string()) return SettingValue(node.get<std::string>());
  return InvalidArgument("expected true or false, a number or a string");
}

}  // namespace

Status SetSetting(ServingConfig& config, std::string_view section, std::string_view key,
                  const SettingValue& value) {
  const Setting* setting = FindSetting(section, key);
  if (setting != nullptr)
    return Annotate(setting->set(config, value), fmt::format("[{}] {}", section, key));
  std::string known;
  for (const Setting& other : Settings())
    if (other.section == section) known += fmt::format(" {}", other.key);
  return InvalidArgument("[{}] {}: unknown key; known are{}", section, key, known);
}

Status ReadServingToml(std::string_view text, ServingConfig& config) {
  toml::table root;
  try {
    root = toml::parse(text);
  } catch (const toml::parse_error& error) {
    return InvalidArgument("line {}: {}", error.source().begin.line, error.description());
  }
  for (const auto& [section, node] : root) {
    const toml::table* table = node.as_table();
    if (!HasSection(section.str())) continue;
    if (table == nullptr) return InvalidArgument("'{}': expected a section", section.str());
    for (const auto& [key, value] : *table) {
      const std::string where = fmt::format("[{}] {}", section.str(), key.str());
      auto read = ValueOf(value);
      if (!read.ok()) return Annotate(read.status(), where);
      MINIM_TRY(SetSetting(config, section.str(), key.str(), *read));
    }
  }
  return CheckServingConfig(config);
}

Status ReadLiveSettings(std::string_view json_text, ServingConfig& config) {
  const json root = json::parse(json_text, nullptr, false);
  if (!root.is_object())
    return InvalidArgument("expected JSON like {{\"batching\":{{\"policy\":\"adaptive\"}}}}");
  ServingConfig changed = config;
  for (const auto& [section, table] : root.items()) {
    if (!table.is_object() || !HasSection(section))
      return InvalidArgument("'{}': expected an object named serving, batching, tiers or rollout",
                             section.substr(0, 64));
    for (const auto& [key, value] : table.items()) {
      const Setting* setting = FindSetting(section, key);
      if (setting != nullptr && !setting->live)
        return InvalidArgument(
            "[{}] {}: cannot change while the model is loaded; write it to "
            "minim.toml and load the model again",
            section, key);
      auto read = ValueOf(value);
      if (!read.ok())
        return Annotate(read.status(), fmt::format("[{}] {}", section, key.substr(0, 64)));
      MINIM_TRY(SetSetting(changed, section, key.substr(0, 64), *read));
    }
  }
  MINIM_TRY(CheckServingConfig(changed));
  config = std::move(changed);
  return {};
}

std::string SettingsJson(const ServingConfig& config) {
  json root = json::object();
  for (const Setting& setting : Settings())
    std::visit(
        [&](const auto& value) {
          root[std::string(setting.section)][std::string(setting.key)] = value;
        },
        setting.get(config));
  root["warnings"] = config.warnings;
  return root.dump(-1, ' ', false, json::error_handler_t::replace);
}

std::string SettingsMarkdown() {
  const ServingConfig defaults;
  std::string text =
      "| section | key | value | default | while running | |\n"
      "| --- | --- | --- | --- | --- | --- |\n";
  for (const Setting& setting : Settings())
    text += fmt::format("| `[{}]` | `{}` | {} | {} | {} | {} |\n", setting.section, setting.key,
                        setting.kind, ShowSetting(setting.get(defaults)), setting.live ? "yes" : "",
                        setting.summary);
  return text;
}

Result<BatchSettings> BatchSettingsOf(const ServingConfig& config) {
  BatchSettings settings{.bounds = config.bounds, .max_queue_rows = config.max_queue_rows};
  MINIM_TRY(settings.policy, FindBatchPolicy(config.policy));
  return settings;
}

Status CheckServingConfig(const ServingConfig& config) {
  MINIM_TRY(const BatchSettings settings, BatchSettingsOf(config));
  MINIM_TRY(CheckBatchSettings(settings));
  if (config.instances < 1 || config.instances > 256)
    return InvalidArgument("instances: found {}, expected 1 to 256", config.instances);
  const RolloutConfig& rollout = config.rollout;
  double total = 0;
  for (const auto& [version, weight] : rollout.weights) total += weight;
  if (rollout.mode == RolloutMode::kSplit && total <= 0)
    return InvalidArgument("[rollout] mode 'split' needs weights, like weights = \"1:90, 2:10\"");
  return {};
}

}  // namespace minim::serve
