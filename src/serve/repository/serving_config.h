// ServingConfig: how one model is served. Defaults come from the command line, then config.pbtxt
// (triton_config.h), then minim.toml; some settings may change while the model runs.
// The table Settings() is the only list of keys: reading, changing, showing and documenting them
// all walk it.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "serve/batching/batcher.h"

namespace minim::serve {

/// Which versions of a model are served.
struct VersionPolicy {
  /// The newest `latest` ones; 0: all. Ignored if `numbers` names some.
  int64_t latest = 1;
  std::vector<int64_t> numbers;
};

/// How requests that name no version are split between versions.
enum class RolloutMode {
  kLatest,   // the newest version answers
  kSplit,    // by weight
  kGradual,  // the newest gets a growing share, as long as it is as good as the one before
  kShadow,   // the one before answers; the newest runs beside it for comparison
};

struct RolloutConfig {
  RolloutMode mode = RolloutMode::kLatest;
  /// kSplit: share of each version, any positive scale.
  std::vector<std::pair<int64_t, double>> weights;
  /// A request parameter or HTTP header: requests with the same value get the same version.
  std::string sticky = "rollout_key";
  /// kGradual: shares of the new version, ascending, the last is 1.
  std::vector<double> stages = {0.1, 0.5, 1};
  /// kGradual: answers of the new version a stage takes at least.
  int64_t stage_requests = 200;
  /// kShadow, and while a stage of kGradual runs: share of answers compared with the other version.
  double compare = 0.2;
  /// Rolled back when these are exceeded: errors beyond the old version's, p99 over the old one's,
  /// rows whose answer differs.
  double max_errors = 0.01;
  double max_p99_ratio = 2;
  double max_disagreement = 0.1;
};

struct TierConfig {
  /// Names of tiers that may answer requests that name none; empty: all that passed the gate.
  std::vector<std::string> allow;
  /// Share of rows whose answer may differ from FP32's, beyond what the gate measured.
  double max_disagreement = 0.02;
  /// Share of requests that also run in FP32, for comparison.
  double shadow = 0.01;
  /// First wait before a demoted tier is tried again; doubles with every demotion.
  Duration probation = std::chrono::seconds(30);
};

struct DeclaredTensor {
  std::string name;
  std::string datatype;  // "FP32"; empty: any
  std::vector<int64_t> dims;
};

struct ServingConfig {
  VersionPolicy versions;
  std::string policy = "work-conserving";
  BatchOptions bounds;
  /// False: every request runs alone.
  bool batching = true;
  int instances = 1;
  int64_t max_queue_rows = 4096;
  Duration default_timeout = std::chrono::seconds(60);
  /// Stays in memory, whatever the budget.
  bool pinned = false;
  bool cache = true;
  Duration cache_ttl = std::chrono::seconds(300);
  TierConfig tiers;
  RolloutConfig rollout;
  /// What config.pbtxt says of the signature; checked against the model.
  std::vector<DeclaredTensor> inputs, outputs;
  /// What was read and is not obeyed.
  std::vector<std::string> warnings;
};

using SettingValue = std::variant<bool, double, std::string>;

/// One key of minim.toml.
struct Setting {
  std::string_view section, key;
  /// "whole number", "milliseconds": what a value looks like.
  std::string_view kind;
  std::string_view summary;
  /// May change while the model runs.
  bool live = false;
  std::function<Status(ServingConfig&, const SettingValue&)> set;
  std::function<SettingValue(const ServingConfig&)> get;
};

std::span<const Setting> Settings();
/// A value as messages and the reference show it.
std::string ShowSetting(const SettingValue& value);

/// Sets [section] key. Errors: kInvalidArgument says what was found and what is expected.
Status SetSetting(ServingConfig& config, std::string_view section, std::string_view key,
                  const SettingValue& value);
/// minim.toml. Sections that are not in the table belong to others.
Status ReadServingToml(std::string_view text, ServingConfig& config);
/// {"batching":{"policy":"adaptive"}}; only settings that may change while the model runs.
Status ReadLiveSettings(std::string_view json_text, ServingConfig& config);
/// Every setting with its value, the same shape.
std::string SettingsJson(const ServingConfig& config);
/// The reference of minim.toml as Markdown, with the defaults.
std::string SettingsMarkdown();

/// The part of it that a batcher takes. Errors: kNotFound for a policy that is not there.
Result<BatchSettings> BatchSettingsOf(const ServingConfig& config);

std::string_view RolloutModeName(RolloutMode mode);

/// Checks what no single key can: min <= max and the like.
Status CheckServingConfig(const ServingConfig& config);

}  // namespace minim::serve
