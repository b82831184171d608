#include "serve/preload/usage_history.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace minim::serve {
namespace {

using std::chrono::hours;
using std::chrono::minutes;
using testing::ElementsAre;

const WallTime kMidnight = WallTime(hours(24 * 20000));

TEST(UsageHistory, ASteadyRateIsFound) {
  UsageHistory history;
  for (int i = 0; i < 60 * 6; ++i) history.Record("m", kMidnight + minutes(i));
  const WallTime now = kMidnight + minutes(60 * 6);
  EXPECT_NEAR(history.PredictedRate("m", now), 60, 2);
  EXPECT_NEAR(history.PredictedRate("m", now + hours(1)), 15, 2) << "half every half hour";
  EXPECT_EQ(history.PredictedRate("absent", now), 0);
}

TEST(UsageHistory, HabitsAreKnownTheNextDay) {
  UsageHistory history;
  for (int day = 0; day < 3; ++day)
    for (int i = 0; i < 60; ++i) {
      history.Record("morning", kMidnight + hours(24 * day + 8) + minutes(i));
      history.Record("evening", kMidnight + hours(24 * day + 20) + minutes(i));
    }
  const WallTime next = kMidnight + hours(24 * 3);
  EXPECT_GT(history.PredictedRate("morning", next + hours(8)), 25);
  EXPECT_LT(history.PredictedRate("evening", next + hours(8)), 1);
  EXPECT_GT(history.PredictedRate("evening", next + hours(20)), 25);
  EXPECT_LT(history.PredictedRate("morning", next + hours(24 * 30 + 8)), 1) << "and forgotten";
}

TEST(UsageHistory, IsKeptOverARestart) {
  UsageHistory history;
  history.Record("a", kMidnight, 5);
  history.Record("b", kMidnight + hours(30), 9);
  UsageHistory again;
  ASSERT_TRUE(again.FromJson(history.ToJson()).ok());
  EXPECT_EQ(again.ToJson(), history.ToJson());
  EXPECT_THAT(again.ByUse(kMidnight + hours(31)), ElementsAre("b", "a"));
  EXPECT_EQ(again.total("b"), 9);
  EXPECT_EQ(again.last_use("b"), kMidnight + hours(30));
  EXPECT_EQ(again.last_use("c"), std::nullopt);
  std::string early = history.ToJson(), negative = early;
  early.replace(early.find("recent_at\":") + 11, 1, "99999999");
  negative.replace(negative.find("\"total\":") + 8, 0, "-");
  for (const std::string& text :
       {std::string(), std::string("[]"), std::string("{}"), early, negative,
        std::string(R"({"models":{"a":{}}})"), std::string(R"({"models":{"a":3}})")})
    EXPECT_EQ(again.FromJson(text).code(), StatusCode::kDataLoss) << text;
  EXPECT_EQ(again.total("b"), 9) << "nothing changed";
}

TEST(UsageHistory, AClockThatGoesBackDoesNoHarm) {
  UsageHistory history;
  history.Record("m", kMidnight + hours(48));
  history.Record("m", kMidnight);
  EXPECT_GE(history.PredictedRate("m", kMidnight - hours(5)), 0);
  EXPECT_EQ(history.total("m"), 2);
}

}  // namespace
}  // namespace minim::serve
