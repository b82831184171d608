#include "serve/fallback/tier_chain.h"

#include <algorithm>

namespace minim::serve {
namespace {

// A tier that begins to serve is compared at every request at first: what is wrong with it shows
// in the first answers, and its speed is measured on real requests.
constexpr int64_t kFirstCompared = 40;
constexpr size_t kMaxRatios = 64;

}  // namespace

TierChain::TierChain(std::vector<TierCandidate> candidates, TierConfig config, Listener listener)
    : listener_(std::move(listener)), config_(std::move(config)) {
  for (TierCandidate& candidate : candidates) tiers_.push_back({.candidate = std::move(candidate)});
}

void TierChain::Configure(const TierConfig& config) {
  std::lock_guard lock(mutex_);
  config_ = config;
}

TierChain::Tier* TierChain::Find(const std::string& name) {
  const auto it = std::find_if(tiers_.begin(), tiers_.end(),
                               [&](const Tier& tier) { return tier.candidate.name == name; });
  return it == tiers_.end() ? nullptr : &*it;
}

TierLimits TierChain::LimitsOf(const Tier& tier) const {
  return {.disagreement = config_.max_disagreement + tier.candidate.disagreement};
}

std::string TierChain::First() const {
  std::lock_guard lock(mutex_);
  for (const Tier& tier : tiers_)
    if (Serves(tier)) return tier.candidate.name;
  return kFp32Tier;  // all were demoted, FP32 too: it is still the best there is
}

std::optional<std::string> TierChain::After(const std::string& name) const {
  std::lock_guard lock(mutex_);
  const auto at = std::find_if(tiers_.begin(), tiers_.end(),
                               [&](const Tier& tier) { return tier.candidate.name == name; });
  if (at == tiers_.end()) return std::nullopt;
  for (auto it = at + 1; it != tiers_.end(); ++it)
    if (Serves(*it)) return it->candidate.name;
  return std::nullopt;
}

std::optional<std::string> TierChain::RunBeside(const std::string& served, double draw,
                                                TimePoint now) {
  std::lock_guard lock(mutex_);
  const Tier* tier = Find(served);
  if (tier == nullptr || served == kReferenceTier) return std::nullopt;
  if (served != kFp32Tier) {
    const bool first = tier->evidence.compared_rows < kFirstCompared && config_.shadow > 0;
    if (first || draw < config_.shadow) return kFp32Tier;
    return std::nullopt;
  }
  for (const Tier& other : tiers_)
    if (other.demoted && now >= other.retry_at && other.candidate.name != kReferenceTier &&
        other.candidate.name != kFp32Tier)
      return other.candidate.name;
  return std::nullopt;
}

std::function<void()> TierChain::Judge(Tier& tier, TimePoint now) {
  const auto tell = [this, name = tier.candidate.name](std::string reason) {
    return [this, name, reason = std::move(reason)] {
      if (listener_) listener_(name, reason);
    };
  };
  const TierLimits limits = LimitsOf(tier);
  if (tier.demoted) {
    const ProbationVerdict verdict = JudgeProbation(tier.evidence, limits);
    if (verdict == ProbationVerdict::kGoOn) return [] {};
    tier.demoted = verdict == ProbationVerdict::kFailed;
    if (tier.demoted) tier.retry_at = now + ProbationWait(config_.probation, ++tier.demotions);
    tier.evidence = {};
    if (tier.demoted) return [] {};
    tier.reason.clear();
    return tell("");
  }
  const auto reason = WhyDemote(tier.evidence, limits);
  if (!reason) return [] {};
  tier.demoted = true;
  tier.reason = *reason;
  tier.retry_at = now + ProbationWait(config_.probation, ++tier.demotions);
  tier.evidence = {};
  return tell(*reason);
}

void TierChain::Answered(const std::string& name) {
  std::lock_guard lock(mutex_);
  if (Tier* tier = Find(name)) tier->evidence.failures_in_a_row = 0;
}

void TierChain::Failed(const std::string& name, const std::string& why, TimePoint now) {
  std::function<void()> tell;
  {
    std::lock_guard lock(mutex_);
    Tier* tier = Find(name);
    // FP32 and the reference behind it are never taken away: there is nothing better to turn to.
    if (tier == nullptr || name == kFp32Tier || name == kReferenceTier) return;
    tier->evidence.failures_in_a_row += 1;
    tier->evidence.last_failure = why;
    tell = Judge(*tier, now);
  }
  tell();
}

void TierChain::GaveNonFinite(const std::string& name, TimePoint now) {
  std::function<void()> tell;
  {
    std::lock_guard lock(mutex_);
    Tier* tier = Find(name);
    if (tier == nullptr || name == kFp32Tier) return;
    tier->evidence.non_finite += 1;
    tell = Judge(*tier, now);
  }
  tell();
}

void TierChain::Compared(const std::string& name, Agreement agreement, double time_ratio,
                         TimePoint now) {
  std::function<void()> tell;
  {
    std::lock_guard lock(mutex_);
    Tier* tier = Find(name);
    if (tier == nullptr) return;
    TierEvidence& evidence = tier->evidence;
    const double allowed = LimitsOf(*tier).disagreement;
    for (int64_t row = 0; row < agreement.rows; ++row)
      evidence.drift = Drift(evidence.drift, row < agreement.differing, allowed);
    evidence.compared_rows += agreement.rows;
    evidence.differing_rows += agreement.differing;
    tier->total_compared += agreement.rows;
    tier->total_differing += agreement.differing;
    if (time_ratio > 0) {
      if (evidence.time_ratios.size() == kMaxRatios)
        evidence.time_ratios.erase(evidence.time_ratios.begin());
      evidence.time_ratios.push_back(time_ratio);
    }
    tell = Judge(*tier, now);
  }
  tell();
}

std::vector<TierStatus> TierChain::Describe() const {
  std::lock_guard lock(mutex_);
  std::vector<TierStatus> all;
  bool found = false;
  for (const Tier& tier : tiers_) {
    TierStatus status{.candidate = tier.candidate,
                      .state = "standby",
                      .reason = tier.demoted ? tier.reason : tier.candidate.reason,
                      .demotions = tier.demotions,
                      .compared_rows = tier.total_compared,
                      .differing_rows = tier.total_differing};
    if (!tier.candidate.eligible) {
      status.state = "not offered";
    } else if (tier.demoted) {
      status.state = "demoted";
    } else if (!found) {
      status.state = "serving";
      found = true;
    }
    all.push_back(std::move(status));
  }
  return all;
}

}  // namespace minim::serve
