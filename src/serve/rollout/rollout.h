// Rollout: splits one model's requests between its versions, watches what they do, and moves the
// split on or back.
// Threads: every method may be called concurrently.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "core/stats.h"
#include "serve/fallback/agreement.h"
#include "serve/metrics/histogram.h"
#include "serve/rollout/rollout_policy.h"

namespace minim::serve {

/// One version beside the others, over its whole time.
struct VersionComparison {
  int64_t version = 0;
  double share = 0;
  int64_t requests = 0;
  int64_t failures = 0;
  Duration p50{}, p99{};
  /// Against the version it was compared with.
  int64_t compared_rows = 0;
  int64_t differing_rows = 0;
  /// Mean of the row means of the first floating-point output, this minus the other, with its 95 %
  /// interval.
  Interval score_difference;
};

struct RolloutStatus {
  RolloutMode mode = RolloutMode::kLatest;
  /// kGradual: which stage, of how many; "running", "completed", "rolled back".
  size_t stage = 0, stages = 0;
  std::string state;
  std::string reason;
  std::vector<VersionComparison> versions;
};

class Rollout {
 public:
  /// Called outside the lock when a stage begins or the candidate goes.
  using Listener = std::function<void(const std::string& event)>;

  Rollout(std::string model, RolloutConfig config, Listener listener)
      : model_(std::move(model)), listener_(std::move(listener)), config_(std::move(config)) {}

  /// The versions that are served now. A newest version that is new begins at the first stage; one
  /// that was rolled back stays so.
  void SetVersions(const std::vector<int64_t>& versions);
  void Configure(const RolloutConfig& config);

  /// The version for a request that names none. Equal non-empty keys get equal versions; else
  /// `draw`, uniform in [0, 1), decides.
  int64_t Pick(std::string_view sticky, double draw) const;
  /// Another version that should run the request too, its answer unseen.
  std::optional<int64_t> RunBeside(int64_t served, double draw) const;

  void Answered(int64_t version, bool ok, Duration time);
  void Compared(int64_t version, Agreement agreement, double score_difference);

  /// Ends a gradual rollout by hand.
  void Promote();
  void RollBack(std::string reason);
  void Restart();

  RolloutStatus Describe() const;

 private:
  enum class State { kRunning, kCompleted, kRolledBack };
  struct Record {
    VersionEvidence evidence;  // of this stage
    std::unique_ptr<LatencyHistogram> stage_times = std::make_unique<LatencyHistogram>();
    std::unique_ptr<LatencyHistogram> times = std::make_unique<LatencyHistogram>();
    int64_t requests = 0, failures = 0, compared = 0, differing = 0;
    double score_count = 0, score_mean = 0, score_squares = 0;  // Welford
  };

  bool Gradual() const { return config_.mode == RolloutMode::kGradual && baseline_ > 0; }
  double ShareOf(int64_t version) const;
  int64_t PickLocked(double draw) const;
  /// Returns what to tell the listener; empty for nothing.
  std::string JudgeLocked();
  std::string BeginStageLocked(size_t stage);
  std::string RollBackLocked(std::string reason);

  const std::string model_;
  const Listener listener_;
  mutable std::mutex mutex_;
  RolloutConfig config_;               // guarded by mutex_, as all below
  std::map<int64_t, Record> records_;  // of the versions served now
  int64_t candidate_ = 0;              // the newest; 0: none
  int64_t baseline_ = 0;               // the one before; 0: none
  size_t stage_ = 0;
  State state_ = State::kRunning;
  std::string reason_;
};

}  // namespace minim::serve
