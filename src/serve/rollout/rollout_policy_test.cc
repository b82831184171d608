#include "serve/rollout/rollout_policy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "core/philox.h"

namespace minim::serve {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;

TEST(RolloutPolicy, WeightsAreShares) {
  const std::pair<int64_t, double> weights[] = {{1, 90}, {2, 0}, {3, 10}};
  std::map<int64_t, int> counts;
  for (int i = 0; i < 1000; ++i) ++counts[PickByWeight(weights, i / 1000.0)];
  EXPECT_EQ(counts[1], 900);
  EXPECT_EQ(counts[2], 0);
  EXPECT_EQ(counts[3], 100);
}

TEST(RolloutPolicy, StickyDrawsAreEvenAndStay) {
  int low = 0, both = 0;
  for (int i = 0; i < 4000; ++i) {
    const std::string key = "user-" + std::to_string(i);
    const double draw = StickyDraw("m", key);
    EXPECT_EQ(draw, StickyDraw("m", key));
    EXPECT_TRUE(draw >= 0 && draw < 1);
    low += draw < 0.1;
    both += draw < 0.1 && StickyDraw("other", key) < 0.1;
  }
  EXPECT_NEAR(low, 400, 80);
  EXPECT_NEAR(both, 40, 30) << "the same users must not try every model's new version";
}

struct Case {
  const char* what;
  VersionEvidence candidate, baseline;
  RolloutStep step;
  const char* reason;
};

TEST(RolloutPolicy, Table) {
  const RolloutConfig config;
  const Case cases[] = {
      {"too early", {.requests = 199}, {.requests = 2000}, RolloutStep::kStay, ""},
      {"well", {.requests = 200}, {.requests = 2000}, RolloutStep::kAdvance, "200 requests"},
      {"few failures",
       {.requests = 200, .failures = 2},
       {.requests = 2000},
       RolloutStep::kAdvance,
       ""},
      {"one failure at first",
       {.requests = 1, .failures = 1, .failures_in_a_row = 1},
       {},
       RolloutStep::kStay,
       ""},
      {"in a row",
       {.requests = 60, .failures = 5, .failures_in_a_row = 5},
       {},
       RolloutStep::kRollBack,
       "5 requests in a row"},
      {"many failures",
       {.requests = 50, .failures = 8},
       {.requests = 500},
       RolloutStep::kRollBack,
       "8 of 50"},
      {"as many as before",
       {.requests = 200, .failures = 30},
       {.requests = 2000, .failures = 300},
       RolloutStep::kAdvance,
       ""},
      {"drift",
       {.requests = 20, .compared_rows = 20, .differing_rows = 15, .drift = 9.1},
       {},
       RolloutStep::kRollBack,
       "15 of 20"},
      {"slow",
       {.requests = 200, .p99 = milliseconds(9)},
       {.requests = 2000, .p99 = milliseconds(4)},
       RolloutStep::kRollBack,
       "p99 9.00 ms"},
      {"slow beside few",
       {.requests = 200, .p99 = milliseconds(9)},
       {.requests = 20, .p99 = milliseconds(4)},
       RolloutStep::kAdvance,
       ""},
  };
  for (const Case& c : cases) {
    const RolloutDecision decision = JudgeStage(c.candidate, c.baseline, config);
    EXPECT_EQ(decision.step, c.step) << c.what << ": " << decision.reason;
    EXPECT_THAT(decision.reason, HasSubstr(c.reason)) << c.what;
  }
}

}  // namespace
}  // namespace minim::serve
