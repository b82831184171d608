// When a tier loses its place, and when it may have it back: decided from counts alone. No clock,
// thread, lock or I/O; the chain around it (tier_chain.h) owns those.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "serve/model.h"

namespace minim::serve {

struct TierLimits {
  /// Failed runs in a row.
  int failures = 3;
  /// Share of rows that may answer otherwise than FP32.
  double disagreement = 0.02;
  /// The median of so many ratios of run times, this tier's over FP32's for the same request.
  size_t slow_pairs = 32;
  double slow_ratio = 1.25;
  /// Rows that must agree before a demoted tier serves again.
  int64_t probation_rows = 50;
};

/// What is known of one tier since it last began to serve.
struct TierEvidence {
  int failures_in_a_row = 0;
  std::string last_failure;
  /// Answers with NaN or infinity where FP32's were finite.
  int64_t non_finite = 0;
  /// Drift(...) over all compared rows.
  double drift = 0;
  int64_t compared_rows = 0;
  int64_t differing_rows = 0;
  /// Recent ratios of run times, in runs of equally many rows.
  std::vector<double> time_ratios;
};

/// The cumulative sum of Page (1954) for a share of differing rows: grows by the log likelihood
/// ratio of "too many differ" to "as many as allowed", never below zero. Beyond kDriftLimit the
/// first is the case; under a share of exactly `allowed` that takes e^9, about 8,000, rows on
/// average, when every row differs it takes 8 (allowed = 0.02).
double Drift(double sum, bool differs, double allowed);
inline constexpr double kDriftLimit = 9;

/// Why the tier must not serve any longer; nothing if it may.
std::optional<std::string> WhyDemote(const TierEvidence& evidence, const TierLimits& limits);

enum class ProbationVerdict { kGoOn, kPassed, kFailed };
/// A demoted tier runs beside FP32, its answers unseen.
ProbationVerdict JudgeProbation(const TierEvidence& evidence, const TierLimits& limits);

/// base, 2 base, 4 base, ... up to a hundred times.
Duration ProbationWait(Duration base, int demotions);

}  // namespace minim::serve
