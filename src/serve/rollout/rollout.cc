#include "serve/rollout/rollout.h"

#include <algorithm>
#include <cmath>

namespace minim::serve {

void Rollout::SetVersions(const std::vector<int64_t>& versions) {
  std::lock_guard lock(mutex_);
  for (const int64_t version : versions) records_.try_emplace(version);
  std::erase_if(records_, [&](const auto& item) {
    return std::find(versions.begin(), versions.end(), item.first) == versions.end();
  });
  const int64_t newest = records_.empty() ? 0 : records_.rbegin()->first;
  baseline_ = records_.size() < 2 ? 0 : std::next(records_.rbegin())->first;
  if (newest == candidate_) return;
  candidate_ = newest;
  stage_ = 0;
  reason_.clear();
  state_ = baseline_ > 0 ? State::kRunning : State::kCompleted;
}

void Rollout::Configure(const RolloutConfig& config) {
  std::lock_guard lock(mutex_);
  config_ = config;
  stage_ = std::min(stage_, config_.stages.size() - 1);
}

double Rollout::ShareOf(int64_t version) const {
  if (config_.mode == RolloutMode::kSplit) {
    double total = 0, own = 0;
    for (const auto& [other, weight] : config_.weights) {
      if (!records_.contains(other)) continue;
      total += weight;
      if (other == version) own = weight;
    }
    if (total > 0) return own / total;
  }
  double share = 1;
  if (config_.mode == RolloutMode::kShadow && baseline_ > 0) share = 0;
  if (Gradual() && state_ == State::kRunning) share = config_.stages[stage_];
  if (Gradual() && state_ == State::kRolledBack) share = 0;
  if (version == candidate_) return share;
  return version == baseline_ ? 1 - share : 0;
}

int64_t Rollout::PickLocked(double draw) const {
  std::vector<std::pair<int64_t, double>> shares;
  for (auto it = records_.rbegin(); it != records_.rend(); ++it)
    shares.emplace_back(it->first, ShareOf(it->first));
  return PickByWeight(shares, draw);
}

int64_t Rollout::Pick(std::string_view sticky, double draw) const {
  std::lock_guard lock(mutex_);
  if (records_.size() < 2) return candidate_;
  return PickLocked(sticky.empty() ? draw : StickyDraw(model_, sticky));
}

std::optional<int64_t> Rollout::RunBeside(int64_t served, double draw) const {
  std::lock_guard lock(mutex_);
  if (baseline_ == 0 || draw >= config_.compare) return std::nullopt;
  if (config_.mode == RolloutMode::kShadow && served == baseline_) return candidate_;
  if (Gradual() && state_ == State::kRunning && served == candidate_) return baseline_;
  return std::nullopt;
}

std::string Rollout::BeginStageLocked(size_t stage) {
  stage_ = stage;
  for (auto& [version, record] : records_) {
    record.evidence = {};
    record.stage_times = std::make_unique<LatencyHistogram>();
  }
  return fmt::format("version {} takes {:.0f} % of the requests", candidate_,
                     100 * config_.stages[stage]);
}

std::string Rollout::RollBackLocked(std::string reason) {
  state_ = State::kRolledBack;
  reason_ = std::move(reason);
  return fmt::format("version {} rolled back to {}: {}", candidate_, baseline_, reason_);
}

std::string Rollout::JudgeLocked() {
  if (!Gradual() || state_ != State::kRunning) return "";
  Record &candidate = records_.at(candidate_), &baseline = records_.at(baseline_);
  candidate.evidence.p99 = candidate.stage_times->Quantile(0.99);
  baseline.evidence.p99 = baseline.stage_times->Quantile(0.99);
  RolloutDecision decision = JudgeStage(candidate.evidence, baseline.evidence, config_);
  if (decision.step == RolloutStep::kStay) return "";
  if (decision.step == RolloutStep::kRollBack) return RollBackLocked(std::move(decision.reason));
  if (stage_ + 1 < config_.stages.size()) return BeginStageLocked(stage_ + 1);
  state_ = State::kCompleted;
  return fmt::format("version {} is in full use: {}", candidate_, decision.reason);
}

void Rollout::Answered(int64_t version, bool ok, Duration time) {
  std::string event;
  {
    std::lock_guard lock(mutex_);
    const auto it = records_.find(version);
    if (it == records_.end()) return;
    Record& record = it->second;
    record.requests += 1;
    record.failures += !ok;
    record.evidence.requests += 1;
    record.evidence.failures += !ok;
    record.evidence.failures_in_a_row = ok ? 0 : record.evidence.failures_in_a_row + 1;
    record.times->Add(time);
    record.stage_times->Add(time);
    // Quantiles walk a thousand counters: at a failure or the end of a stage, not every time.
    const bool due = !ok || record.evidence.requests >= config_.stage_requests;
    if (version == candidate_ && due) event = JudgeLocked();
  }
  if (!event.empty() && listener_) listener_(event);
}

void Rollout::Compared(int64_t version, Agreement agreement, double score_difference) {
  std::string event;
  {
    std::lock_guard lock(mutex_);
    const auto it = records_.find(version);
    if (it == records_.end()) return;
    Record& record = it->second;
    record.compared += agreement.rows;
    record.differing += agreement.differing;
    record.evidence.compared_rows += agreement.rows;
    record.evidence.differing_rows += agreement.differing;
    for (int64_t row = 0; row < agreement.rows; ++row)
      record.evidence.drift =
          Drift(record.evidence.drift, row < agreement.differing, config_.max_disagreement);
    record.score_count += 1;
    const double step = score_difference - record.score_mean;
    record.score_mean += step / record.score_count;
    record.score_squares += step * (score_difference - record.score_mean);
    if (version == candidate_ && agreement.differing > 0) event = JudgeLocked();
  }
  if (!event.empty() && listener_) listener_(event);
}

void Rollout::Promote() {
  std::lock_guard lock(mutex_);
  state_ = State::kCompleted;
  reason_ = "promoted by hand";
}

void Rollout::RollBack(std::string reason) {
  std::lock_guard lock(mutex_);
  if (baseline_ > 0) (void)RollBackLocked(std::move(reason));
}

void Rollout::Restart() {
  std::lock_guard lock(mutex_);
  state_ = baseline_ > 0 ? State::kRunning : State::kCompleted;
  reason_.clear();
  (void)BeginStageLocked(0);
}

RolloutStatus Rollout::Describe() const {
  std::lock_guard lock(mutex_);
  RolloutStatus status{.mode = config_.mode,
                       .stage = stage_,
                       .stages = config_.stages.size(),
                       .state = state_ == State::kRunning     ? "running"
                                : state_ == State::kCompleted ? "completed"
                                                              : "rolled back",
                       .reason = reason_};
  for (const auto& [version, record] : records_) {
    const double deviation =
        record.score_count > 1 ? std::sqrt(record.score_squares / (record.score_count - 1)) : 0;
    const double half =
        record.score_count > 1 ? 1.96 * deviation / std::sqrt(record.score_count) : 0;
    status.versions.push_back(
        {version,
         ShareOf(version),
         record.requests,
         record.failures,
         record.times->Quantile(0.5),
         record.times->Quantile(0.99),
         record.compared,
         record.differing,
         {record.score_mean, record.score_mean - half, record.score_mean + half}});
  }
  return status;
}

}  // namespace minim::serve
