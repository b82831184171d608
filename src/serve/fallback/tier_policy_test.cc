#include "serve/fallback/tier_policy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/philox.h"

namespace minim::serve {
namespace {

using std::chrono::seconds;
using testing::HasSubstr;

double DriftOf(double share, int rows, double allowed, uint64_t seed) {
  const Philox rng(seed);
  double sum = 0, most = 0;
  for (int i = 0; i < rows; ++i) {
    sum = Drift(sum, rng.Uniform(i) < share, allowed);
    most = std::max(most, sum);
  }
  return most;
}

TEST(TierPolicy, DriftSeesManyAndForgivesFew) {
  double sum = 0;
  int rows = 0;
  while (sum <= kDriftLimit) sum = Drift(sum, true, 0.02), ++rows;
  EXPECT_EQ(rows, 8);
  for (uint64_t seed = 0; seed < 100; ++seed) {
    EXPECT_LE(DriftOf(0.01, 20000, 0.02, seed), kDriftLimit) << seed;
    EXPECT_GT(DriftOf(0.1, 1000, 0.02, seed), kDriftLimit) << seed;
    EXPECT_LE(DriftOf(0.005, 5000, 0.02, seed), kDriftLimit);
    EXPECT_LE(DriftOf(0.5, 3000, 0.7, seed), kDriftLimit);
  }
  EXPECT_EQ(Drift(0, false, 0.02), 0);
  EXPECT_GT(Drift(0, true, 0), 0);
}

TEST(TierPolicy, EachReasonIsSaid) {
  const TierLimits limits;
  EXPECT_FALSE(WhyDemote({}, limits));
  EXPECT_FALSE(WhyDemote({.failures_in_a_row = 2}, limits));
  EXPECT_THAT(*WhyDemote({.failures_in_a_row = 3, .last_failure = "boom"}, limits),
              HasSubstr("3 runs in a row failed: boom"));
  EXPECT_THAT(*WhyDemote({.non_finite = 1}, limits), HasSubstr("NaN"));
  EXPECT_THAT(*WhyDemote({.drift = 9.5, .compared_rows = 50, .differing_rows = 20}, limits),
              HasSubstr("20 of 50"));
  TierEvidence slow;
  slow.time_ratios.assign(31, 3.0);
  EXPECT_FALSE(WhyDemote(slow, limits));
  slow.time_ratios.push_back(3.0);
  EXPECT_THAT(*WhyDemote(slow, limits), HasSubstr("3.00 times"));
  slow.time_ratios.assign(64, 1.2);
  EXPECT_FALSE(WhyDemote(slow, limits));
}

TEST(TierPolicy, ProbationNeedsRowsThatAgree) {
  const TierLimits limits;
  EXPECT_EQ(JudgeProbation({.compared_rows = 49}, limits), ProbationVerdict::kGoOn);
  EXPECT_EQ(JudgeProbation({.compared_rows = 50}, limits), ProbationVerdict::kPassed);
  EXPECT_EQ(JudgeProbation({.drift = 10, .compared_rows = 60}, limits), ProbationVerdict::kFailed);
  EXPECT_EQ(JudgeProbation({.failures_in_a_row = 1}, limits), ProbationVerdict::kFailed);
  EXPECT_EQ(ProbationWait(seconds(30), 1), seconds(30));
  EXPECT_EQ(ProbationWait(seconds(30), 3), seconds(120));
  EXPECT_EQ(ProbationWait(seconds(30), 1000), seconds(3000));
}

}  // namespace
}  // namespace minim::serve
