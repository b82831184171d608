#include "serve/fallback/tier_policy.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/stats.h"

namespace minim::serve {
double Drift(double sum, bool differs, double allowed) {
  const double usual = std::clamp(allowed, 0.001, 0.9);
  const double too_many = std::min(0.99, std::max(3.5 * usual, usual + 0.05));
  const double step = differs ? std::log(too_many / usual) : std::log((1 - too_many) / (1 - usual));
  return std::max(0.0, sum + step);
}

std::optional<std::string> WhyDemote(const TierEvidence& evidence, const TierLimits& limits) {
  if (evidence.failures_in_a_row >= limits.failures)
    return fmt::format("{} runs in a row failed: {}", evidence.failures_in_a_row,
                       evidence.last_failure);
  if (evidence.non_finite > 0) return "NaN or infinity where fp32 is finite";
  if (evidence.drift > kDriftLimit)
    return fmt::format("{} of {} compared rows differ from fp32, {:.2f} % may",
                       evidence.differing_rows, evidence.compared_rows, 100 * limits.disagreement);
  if (evidence.time_ratios.size() >= limits.slow_pairs) {
    const double ratio = Percentile(evidence.time_ratios, 0.5);
    if (ratio > limits.slow_ratio)
      return fmt::format("a run takes {:.2f} times as long as in fp32", ratio);
  }
  return std::nullopt;
}

ProbationVerdict JudgeProbation(const TierEvidence& evidence, const TierLimits& limits) {
  if (evidence.failures_in_a_row > 0 || WhyDemote(evidence, limits))
    return ProbationVerdict::kFailed;
  return evidence.compared_rows >= limits.probation_rows ? ProbationVerdict::kPassed
                                                         : ProbationVerdict::kGoOn;
}

Duration ProbationWait(Duration base, int demotions) {
  const double factor = std::min(100.0, std::ldexp(1.0, std::clamp(demotions - 1, 0, 30)));
  return std::chrono::round<Duration>(base * factor);
}

}  // namespace minim::serve
