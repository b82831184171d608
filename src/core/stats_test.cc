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

TEST(StatsTest, PairedIntervalHasTheTextbookWidth) {
  const std::vector<double> a = {1, 1, 0, 1}, b = {1, 0, 0, 0};
  const Interval interval = PairedDifference(a, b);
  EXPECT_DOUBLE_EQ(interval.mean, 0.5);
  const double s = std::sqrt((4 * 0.25) / 3.0);
  EXPECT_NEAR(interval.high - interval.mean, 1.96 * s / 2, 1e-12);
}

}  // namespace
}  // namespace minim
