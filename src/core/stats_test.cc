#include "core/stats.h"

#include <gtest/gtest.h>

#include <cmath>

namespace minim {
namespace {

TEST(StatsTest, PercentilesInterpolate) {
  EXPECT_DOUBLE_EQ(Percentile({4, 1, 3, 2}, 0.5), 2.5);
  EXPECT_DOUBLE_EQ(Percentile({7}, 0.99), 7);
  EXPECT_DOUBLE_EQ(Percentile({1, 2, 3}, 1.0), 3);
}

TEST(StatsTest, MedianIntervalIsBetweenOrderStatistics) {
  std::vector<double> sample;
  for (int i = 99; i >= 0; --i) sample.push_back(i);
  const Interval interval = MedianInterval(sample);
  EXPECT_DOUBLE_EQ(interval.mean, 49.5);
  EXPECT_EQ(interval.low, 40);
  EXPECT_EQ(interval.high, 60);
  EXPECT_EQ(MedianInterval({3}).high, 3);
}

TEST(StatsTest, PairedIntervalHasTheTextbookWidth) {
  const std::vector<double> a = {1, 1, 0, 1}, b = {1, 0, 0, 0};
  const Interval interval = PairedDifference(a, b);
  EXPECT_DOUBLE_EQ(interval.mean, 0.5);
  const double s = std::sqrt((4 * 0.25) / 3.0);
  EXPECT_NEAR(interval.high - interval.mean, 1.96 * s / 2, 1e-12);
}

TEST(StatsTest, ProportionsThatNeverDifferStillHaveAWidth) {
  const std::vector<double> ones(98, 1);
  const Interval interval = PairedProportions(ones, ones);
  EXPECT_EQ(interval.mean, 0);
  EXPECT_NEAR(interval.high, 1.96 * std::sqrt(0.01 / 100), 1e-12);
  EXPECT_NEAR(interval.low, -interval.high, 1e-12);
  std::vector<double> some = ones;
  for (int i = 0; i < 9; ++i) some[i] = 0;
  EXPECT_NEAR(PairedProportions(ones, some).mean, 9.0 / 98, 1e-12);
  EXPECT_GT(PairedProportions(ones, some).low, 0);
  EXPECT_LT(PairedProportions(some, ones).high, 0);
}

TEST(StatsTest, PlacementsAverageToTheAreaUnderTheCurve) {
  const std::vector<double> placements =
      RankPlacements(std::vector<float>{1, 2, 2, 3}, {false, true, false, true});
  EXPECT_EQ(placements, (std::vector<double>{1, 0.75, 0.75, 1}));
  EXPECT_TRUE(RankPlacements(std::vector<float>{1, 2}, {true, true}).empty());
  EXPECT_TRUE(RankPlacements(std::vector<float>{1, NAN}, {true, false}).empty());
}

}  // namespace
}  // namespace minim
