// TierChain: which tier of a version answers requests that name none, what stands behind it, and
// which tiers lost their place.
// Threads: every method may be called concurrently.
#pragma once

#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "serve/fallback/agreement.h"
#include "serve/fallback/tier_policy.h"
#include "serve/repository/serving_config.h"

namespace minim::serve {

inline constexpr const char* kFp32Tier = "fp32";
/// FP32 by kernels without vector instructions: the last resort.
inline constexpr const char* kReferenceTier = "reference";

struct TierCandidate {
  std::string name;
  /// May answer requests that name no tier; if not, `reason` says why.
  bool eligible = true;
  std::string reason;
  /// Share of rows that the gate saw differ from FP32.
  double disagreement = 0;
  /// FP32's time over this tier's, measured when it was loaded; zero if it was not.
  double speedup = 0;
};

struct TierStatus {
  TierCandidate candidate;
  std::string state;  // "serving", "standby", "demoted", "not offered"
  std::string reason;
  int demotions = 0;
  int64_t compared_rows = 0;
  int64_t differing_rows = 0;
};

class TierChain {
 public:
  /// Called outside the chain's lock when a tier loses its place (`reason` says why) or has it back
  /// (`reason` is empty).
  using Listener = std::function<void(const std::string& tier, const std::string& reason)>;

  /// `candidates` in the order of preference; what is eligible there is tried in turn.
  TierChain(std::vector<TierCandidate> candidates, TierConfig config, Listener listener);

  void Configure(const TierConfig& config);

  /// The tier for a request that names none.
  std::string First() const;
  /// What to try when `tier` failed; nothing if it was the last.
  std::optional<std::string> After(const std::string& tier) const;
  /// The tier that should run the request too, for comparison with what `served` answered: FP32 for
  /// a share of what other tiers serve, or a demoted tier whose wait is over. `draw` is uniform in
  /// [0, 1).
  std::optional<std::string> RunBeside(const std::string& served, double draw, TimePoint now);

  void Answered(const std::string& tier);
  void Failed(const std::string& tier, const std::string& why, TimePoint now);
  /// It gave NaN or infinity where FP32 is finite.
  void GaveNonFinite(const std::string& tier, TimePoint now);
  /// The tier's answer beside FP32's; `time_ratio` is zero where the runs were not alike.
  void Compared(const std::string& tier, Agreement agreement, double time_ratio, TimePoint now);

  std::vector<TierStatus> Describe() const;

 private:
  struct Tier {
    TierCandidate candidate;
    TierEvidence evidence;
    bool demoted = false;
    std::string reason;
    int demotions = 0;
    TimePoint retry_at;
    int64_t total_compared = 0, total_differing = 0;
  };

  Tier* Find(const std::string& name);
  TierLimits LimitsOf(const Tier& tier) const;
  bool Serves(const Tier& tier) const { return tier.candidate.eligible && !tier.demoted; }
  /// Returns the listener's call, to be made without the lock.
  std::function<void()> Judge(Tier& tier, TimePoint now);

  const Listener listener_;
  mutable std::mutex mutex_;
  TierConfig config_;        // guarded by mutex_
  std::vector<Tier> tiers_;  // guarded by mutex_; their number and names are fixed
};

}  // namespace minim::serve
