// Which version answers, when a new one has proved itself, and when it has to go: decided from
// counts alone. No clock, thread, lock or I/O; rollout.h owns those.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "serve/fallback/tier_policy.h"
#include "serve/repository/serving_config.h"

namespace minim::serve {

/// The version whose share holds `draw`, uniform in [0, 1). Needs a positive total weight.
int64_t PickByWeight(std::span<const std::pair<int64_t, double>> weights, double draw);

/// A draw that is the same for equal keys, and independent between models.
double StickyDraw(std::string_view model, std::string_view key);

/// What one version did since the stage began.
struct VersionEvidence {
  int64_t requests = 0;
  int64_t failures = 0;
  int failures_in_a_row = 0;
  Duration p99{};
  int64_t compared_rows = 0;
  int64_t differing_rows = 0;
  /// Drift(...) over the compared rows, allowing config.max_disagreement.
  double drift = 0;
};

enum class RolloutStep { kStay, kAdvance, kRollBack };

struct RolloutDecision {
  RolloutStep step = RolloutStep::kStay;
  std::string reason;
};

/// Rolls back at five failures in a row, at three failures or more if chance does not explain
/// them (one-sided 99 % bound of Wilson on the new version's share above the old one's plus
/// max_errors), at drift beyond kDriftLimit, and, when the stage is complete, at a p99 beyond
/// max_p99_ratio. Advances when the stage has its requests and none of that holds.
RolloutDecision JudgeStage(const VersionEvidence& candidate, const VersionEvidence& baseline,
                           const RolloutConfig& config);

}  // namespace minim::serve
