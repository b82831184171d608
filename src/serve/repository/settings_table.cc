// The table of settings: one row a key of minim.toml.
#include "serve/repository/serving_config.h"

#include <fmt/ranges.h>

#include <charconv>
#include <cmath>
#include <optional>

#include "serve/http/message.h"

namespace minim::serve {
namespace {

Status Expected(const SettingValue& found, std::string_view what) {
  return InvalidArgument("found {}, expected {}", ShowSetting(found), what);
}

// Reading and writing one C++ type. Text forms are those of minim.toml.
Result<double> NumberIn(const SettingValue& value, double low, double high) {
  const double* number = std::get_if<double>(&value);
  if (number != nullptr && *number >= low && *number <= high) return *number;
  return Expected(value, fmt::format("a number from {} to {}", low, high));
}

// A field of the configuration: `at` returns a reference to it.
template <typename At>
Setting Number(std::string_view section, std::string_view key, double low, double high, bool live,
               std::string_view summary, At at) {
  using Field = std::remove_reference_t<decltype(at(std::declval<ServingConfig&>()))>;
  constexpr bool whole = std::is_integral_v<Field>;
  return {section,
          key,
          whole ? "whole number" : "number",
          summary,
          live,
          [=](ServingConfig& config, const SettingValue& value) -> Status {
            MINIM_TRY(const double number, NumberIn(value, low, high));
            if (whole && number != std::floor(number)) return Expected(value, "a whole number");
            at(config) = static_cast<Field>(number);
            return {};
          },
          [=](const ServingConfig& config) -> SettingValue {
            return static_cast<double>(at(const_cast<ServingConfig&>(config)));
          }};
}

template <typename At>
Setting Time(std::string_view section, std::string_view key, bool live, std::string_view summary,
             At at) {
  return {section,
          key,
          "milliseconds",
          summary,
          live,
          [=](ServingConfig& config, const SettingValue& value) -> Status {
            MINIM_TRY(const double ms, NumberIn(value, 0, 86400e3));
            at(config) =
                std::chrono::round<Duration>(std::chrono::duration<double, std::milli>(ms));
            return {};
          },
          [=](const ServingConfig& config) -> SettingValue {
            const Duration time = at(const_cast<ServingConfig&>(config));
            return std::chrono::duration<double, std::milli>(time).count();
          }};
}

template <typename At>
Setting Flag(std::string_view section, std::string_view key, std::string_view summary, At at) {
  return {section,
          key,
          "true or false",
          summary,
          false,
          [=](ServingConfig& config, const SettingValue& value) -> Status {
            const bool* flag = std::get_if<bool>(&value);
            if (flag == nullptr) return Expected(value, "true or false");
            at(config) = *flag;
            return {};
          },
          [=](const ServingConfig& config) -> SettingValue {
            return static_cast<bool>(at(const_cast<ServingConfig&>(config)));
          }};
}

// Text with a form of its own: `read` parses it into the configuration, `show` writes it.
template <typename Read, typename Show>
Setting Text(std::string_view section, std::string_view key, std::string_view kind, bool live,
             std::string_view summary, Read read, Show show) {
  return {section,
          key,
          kind,
          summary,
          live,
          [=](ServingConfig& config, const SettingValue& value) -> Status {
            const std::string* text = std::get_if<std::string>(&value);
            if (text == nullptr) return Expected(value, fmt::format("a string: {}", kind));
            Status status = read(config, *text);
            return status.ok() ? status : Expected(value, std::string(status.message()));
          },
          [=](const ServingConfig& config) -> SettingValue { return std::string(show(config)); }};
}

template <typename T>
std::optional<T> Parsed(std::string_view text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

Status ReadVersions(ServingConfig& config, std::string_view text) {
  VersionPolicy policy;
  if (text == "all") return config.versions = {.latest = 0}, Status();
  if (text.starts_with("latest:")) {
    const auto count = Parsed<int64_t>(text.substr(7));
    if (!count || *count < 1) return InvalidArgument("'latest:N' with N of at least 1");
    return config.versions = {.latest = *count}, Status();
  }
  for (const std::string_view item : SplitList(text)) {
    const auto number = Parsed<int64_t>(item);
    if (!number || *number < 1) return InvalidArgument("'all', 'latest:N' or numbers like '1, 3'");
    policy.numbers.push_back(*number);
  }
  if (policy.numbers.empty()) return InvalidArgument("'all', 'latest:N' or numbers like '1, 3'");
  return config.versions = std::move(policy), Status();
}

std::string ShowVersions(const ServingConfig& config) {
  const VersionPolicy& policy = config.versions;
  if (!policy.numbers.empty()) return fmt::format("{}", fmt::join(policy.numbers, ", "));
  return policy.latest == 0 ? "all" : fmt::format("latest:{}", policy.latest);
}

Status ReadWeights(ServingConfig& config, std::string_view text) {
  std::vector<std::pair<int64_t, double>> weights;
  for (const std::string_view item : SplitList(text)) {
    const size_t colon = std::min(item.find(':'), item.size());
    const auto version = Parsed<int64_t>(item.substr(0, colon));
    const auto weight = Parsed<double>(item.substr(std::min(colon + 1, item.size())));
    if (!version || !weight || *version < 1 || !(*weight >= 0 && *weight <= 1e9))
      return InvalidArgument("'VERSION:WEIGHT, ...' like '1:90, 2:10'");
    weights.emplace_back(*version, *weight);
  }
  return config.rollout.weights = std::move(weights), Status();
}

std::string ShowWeights(const ServingConfig& config) {
  std::vector<std::string> items;
  for (const auto& [version, weight] : config.rollout.weights)
    items.push_back(fmt::format("{}:{}", version, weight));
  return fmt::format("{}", fmt::join(items, ", "));
}

Status ReadStages(ServingConfig& config, std::string_view text) {
  std::vector<double> stages;
  for (const std::string_view item : SplitList(text)) {
    const auto share = Parsed<double>(item);
    if (!share || !(*share > (stages.empty() ? 0 : stages.back()) && *share <= 1))
      return InvalidArgument("ascending shares above 0 that end in 1, like '0.1, 0.5, 1'");
    stages.push_back(*share);
  }
  if (stages.empty() || stages.back() != 1)
    return InvalidArgument("ascending shares above 0 that end in 1, like '0.1, 0.5, 1'");
  return config.rollout.stages = std::move(stages), Status();
}

constexpr std::pair<std::string_view, RolloutMode> kModes[] = {{"latest", RolloutMode::kLatest},
                                                               {"split", RolloutMode::kSplit},
                                                               {"gradual", RolloutMode::kGradual},
                                                               {"shadow", RolloutMode::kShadow}};

Status ReadMode(ServingConfig& config, std::string_view text) {
  for (const auto& [name, mode] : kModes)
    if (name == text) return config.rollout.mode = mode, Status();
  return InvalidArgument("'latest', 'split', 'gradual' or 'shadow'");
}

std::string_view ShowMode(const ServingConfig& config) {
  return RolloutModeName(config.rollout.mode);
}

Status ReadTiers(ServingConfig& config, std::string_view text) {
  config.tiers.allow.clear();
  for (const std::string_view item : SplitList(text)) config.tiers.allow.emplace_back(item);
  return {};
}

Status ReadPolicy(ServingConfig& config, const std::string& text) {
  MINIM_TRY(FindBatchPolicy(text).status());
  config.policy = text;
  return {};
}

std::vector<Setting> ServingSettings() {
  return {
      Text("serving", "versions", "all, latest:N or 1, 3", false, "Versions that are served",
           ReadVersions, ShowVersions),
      Number("serving", "instances", 1, 256, false, "Runs at a time, per tier, one thread each",
             [](ServingConfig& c) -> int& { return c.instances; }),
      Time("serving", "timeout_ms", true, "Longest stay of a request that asks for no less",
           [](ServingConfig& c) -> Duration& { return c.default_timeout; }),
      Flag("serving", "pinned", "Under a memory budget: loaded at start-up and never unloaded",
           [](ServingConfig& c) -> bool& { return c.pinned; }),
      Flag("serving", "cache", "Whether answers are remembered",
           [](ServingConfig& c) -> bool& { return c.cache; }),
      Time("serving", "cache_ttl_ms", true, "How long an answer is remembered",
           [](ServingConfig& c) -> Duration& { return c.cache_ttl; }),
  };
}

std::vector<Setting> BatchingSettings() {
  return {
      Text("batching", "policy", "name of a policy", true, "When to run", ReadPolicy,
           [](const ServingConfig& c) { return c.policy; }),
      Flag("batching", "enabled", "Whether requests may run together",
           [](ServingConfig& c) -> bool& { return c.batching; }),
      Number("batching", "max_batch", 1, 65536, true, "Rows per run at most",
             [](ServingConfig& c) -> int64_t& { return c.bounds.max_batch; }),
      Number("batching", "min_batch", 1, 65536, true,
             "Rows a window waits for, up to the longest wait",
             [](ServingConfig& c) -> int64_t& { return c.bounds.min_batch; }),
      Time("batching", "window_ms", true, "time-window: counted from the oldest request",
           [](ServingConfig& c) -> Duration& { return c.bounds.window; }),
      Time("batching", "max_wait_ms", true, "Longest wait for a batch to fill",
           [](ServingConfig& c) -> Duration& { return c.bounds.max_wait; }),
      Time("batching", "latency_target_ms", true, "adaptive: answer within this",
           [](ServingConfig& c) -> Duration& { return c.bounds.latency_target; }),
      Number("batching", "max_queue_rows", 1, 1e9, true, "Rows that may wait; more is refused",
             [](ServingConfig& c) -> int64_t& { return c.max_queue_rows; }),
  };
}

std::vector<Setting> TierSettings() {
  return {
      Text(
          "tiers", "allow", "names like int8, fp32", false,
          "Tiers that may answer when the request names none; empty: all that passed the gate",
          ReadTiers,
          [](const ServingConfig& c) { return fmt::format("{}", fmt::join(c.tiers.allow, ", ")); }),
      Number("tiers", "max_disagreement", 0, 1, true,
             "Share of rows that may answer otherwise than FP32, beyond what the gate measured",
             [](ServingConfig& c) -> double& { return c.tiers.max_disagreement; }),
      Number("tiers", "shadow", 0, 1, true, "Share of requests that run in FP32 too, to compare",
             [](ServingConfig& c) -> double& { return c.tiers.shadow; }),
      Time("tiers", "probation_ms", true,
           "Wait before a demoted tier is tried again; doubles with every demotion",
           [](ServingConfig& c) -> Duration& { return c.tiers.probation; }),
  };
}

std::vector<Setting> RolloutSettings() {
  return {
      Text("rollout", "mode", "latest, split, gradual or shadow", true,
           "Which version answers when the request names none", ReadMode, ShowMode),
      Text("rollout", "weights", "1:90, 2:10", true, "split: the versions' shares", ReadWeights,
           ShowWeights),
      Text(
          "rollout", "sticky", "name", true,
          "Request parameter or HTTP header; equal values get the same version",
          [](ServingConfig& c, const std::string& text) {
            c.rollout.sticky = text;
            return Status();
          },
          [](const ServingConfig& c) { return c.rollout.sticky; }),
      Text("rollout", "stages", "0.1, 0.5, 1", false, "gradual: shares of the new version",
           ReadStages,
           [](const ServingConfig& c) {
             return fmt::format("{}", fmt::join(c.rollout.stages, ", "));
           }),
      Number("rollout", "stage_requests", 1, 1e9, true,
             "gradual: answers of the new version that a stage takes",
             [](ServingConfig& c) -> int64_t& { return c.rollout.stage_requests; }),
      Number("rollout", "compare", 0, 1, true,
             "shadow and gradual: share of requests that both versions run",
             [](ServingConfig& c) -> double& { return c.rollout.compare; }),
      Number("rollout", "max_errors", 0, 1, true,
             "gradual: share of failures beyond the old version's before it is rolled back",
             [](ServingConfig& c) -> double& { return c.rollout.max_errors; }),
      Number("rollout", "max_p99_ratio", 1, 1e6, true, "gradual: p99 over the old version's",
             [](ServingConfig& c) -> double& { return c.rollout.max_p99_ratio; }),
      Number("rollout", "max_disagreement", 0, 1, true,
             "gradual: share of compared rows that differ",
             [](ServingConfig& c) -> double& { return c.rollout.max_disagreement; }),
  };
}

std::vector<Setting> AllSettings() {
  std::vector<Setting> all;
  for (auto part : {ServingSettings(), BatchingSettings(), TierSettings(), RolloutSettings()})
    all.insert(all.end(), part.begin(), part.end());
  return all;
}

}  // namespace

std::string ShowSetting(const SettingValue& value) {
  if (const bool* flag = std::get_if<bool>(&value)) return *flag ? "true" : "false";
  if (const double* number = std::get_if<double>(&value)) return fmt::format("{}", *number);
  return "'" + std::get<std::string>(value) + "'";
}

std::string_view RolloutModeName(RolloutMode mode) {
  return kModes[static_cast<size_t>(mode)].first;
}

std::span<const Setting> Settings() {
  static const std::vector<Setting> settings = AllSettings();
  return settings;
}

}  // namespace minim::serve
