#include "serve/rollout/rollout_policy.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "serve/cache/siphash.h"

namespace minim::serve {
namespace {

constexpr int kFailuresInARow = 5;
constexpr int64_t kFewestFailures = 3;
constexpr int64_t kFewestForP99 = 100;

// The lower end of Wilson's interval for k of n, one-sided 99 %.
double WilsonLow(int64_t k, int64_t n) {
  if (n == 0) return 0;
  constexpr double z = 2.326;
  const double count = static_cast<double>(n), p = static_cast<double>(k) / count;
  const double middle = p + z * z / (2 * count);
  const double half = z * std::sqrt(p * (1 - p) / count + z * z / (4 * count * count));
  return (middle - half) / (1 + z * z / count);
}

double ShareOf(int64_t part, int64_t all) {
  return all == 0 ? 0 : static_cast<double>(part) / static_cast<double>(all);
}

double Milliseconds(Duration time) {
  return std::chrono::duration<double, std::milli>(time).count();
}

std::optional<std::string> WhyNow(const VersionEvidence& candidate, const VersionEvidence& baseline,
                                  const RolloutConfig& config) {
  if (candidate.failures_in_a_row >= kFailuresInARow)
    return fmt::format("{} requests in a row failed", candidate.failures_in_a_row);
  const double usual = ShareOf(baseline.failures, baseline.requests);
  if (candidate.failures >= kFewestFailures &&
      WilsonLow(candidate.failures, candidate.requests) > usual + config.max_errors)
    return fmt::format("{} of {} requests failed, {:.2f} % may", candidate.failures,
                       candidate.requests, 100 * (usual + config.max_errors));
  if (candidate.drift > kDriftLimit)
    return fmt::format("{} of {} compared rows differ, {:.2f} % may", candidate.differing_rows,
                       candidate.compared_rows, 100 * config.max_disagreement);
  return std::nullopt;
}

}  // namespace

int64_t PickByWeight(std::span<const std::pair<int64_t, double>> weights, double draw) {
  double total = 0;
  for (const auto& [version, weight] : weights) total += weight;
  double left = draw * total;
  for (const auto& [version, weight] : weights) {
    if (left < weight) return version;
    left -= weight;
  }
  return weights.back().first;
}

double StickyDraw(std::string_view model, std::string_view key) {
  SipHash128 hash(
      Digest128{});  // no secret: the same key must get the same version after a restart
  hash.UpdateFramed(model);
  hash.UpdateFramed(key);
  return std::ldexp(static_cast<double>(hash.Finish().low >> 11), -53);
}

RolloutDecision JudgeStage(const VersionEvidence& candidate, const VersionEvidence& baseline,
                           const RolloutConfig& config) {
  if (auto reason = WhyNow(candidate, baseline, config))
    return {RolloutStep::kRollBack, std::move(*reason)};
  if (candidate.requests < config.stage_requests) return {};
  const bool both = std::min(candidate.requests, baseline.requests) >= kFewestForP99;
  if (both && candidate.p99 > baseline.p99 * config.max_p99_ratio)
    return {RolloutStep::kRollBack,
            fmt::format("p99 {:.2f} ms, the old version's is {:.2f} ms",
                        Milliseconds(candidate.p99), Milliseconds(baseline.p99))};
  return {RolloutStep::kAdvance, fmt::format("{} requests went well", candidate.requests)};
}

}  // namespace minim::serve
