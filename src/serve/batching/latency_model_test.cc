#include "serve/batching/latency_model.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace minim::serve {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;

double Ms(Duration time) { return ToSeconds(time) * 1e3; }

LatencyModel Learned(double a_ms, double b_ms, std::initializer_list<int64_t> sizes) {
  LatencyModel latency;
  for (int i = 0; i < 20; ++i)
    for (const int64_t rows : sizes)
      latency.Observe(rows, FromSeconds((a_ms + b_ms * static_cast<double>(rows)) / 1e3));
  return latency;
}

TEST(LatencyModelTest, ColdItKnowsNothing) {
  const LatencyModel latency;
  EXPECT_TRUE(latency.empty());
  EXPECT_EQ(latency.Estimate(8), Duration::zero());
  EXPECT_EQ(latency.MostPerSecond(50), 50);
  EXPECT_EQ(latency.LargestWithin(milliseconds(1), 50), 50);
}

TEST(LatencyModelTest, OneRunIsEnoughForAGuess) {
  LatencyModel latency;
  latency.Observe(4, milliseconds(10));
  EXPECT_NEAR(Ms(latency.Estimate(4)), 10, 1e-3);
  EXPECT_NEAR(Ms(latency.Estimate(8)), 20, 1e-3) << "at most proportional";
  EXPECT_NEAR(Ms(latency.Estimate(1)), 10, 1e-3) << "at least all of it is fixed cost";
  EXPECT_EQ(latency.LargestWithin(milliseconds(25), 50), 10);
  EXPECT_EQ(latency.LargestWithin(milliseconds(9), 50), 0);
}

TEST(LatencyModelTest, SizesBetweenAndBeyondLieOnTheLine) {
  const LatencyModel latency = Learned(5, 0.5, {1, 8, 32});
  for (const int64_t rows : {1, 2, 5, 8, 20, 32, 50, 100})
    EXPECT_NEAR(Ms(latency.Estimate(rows)), 5 + 0.5 * static_cast<double>(rows), 1e-3) << rows;
  EXPECT_EQ(latency.spread(), 1);
  EXPECT_EQ(latency.LargestWithin(FromSeconds(15e-3), 50), 20);
}

TEST(LatencyModelTest, AHiccupMovesLittleAndASlowerMachineIsFollowed) {
  LatencyModel latency = Learned(5, 0.5, {1, 8, 32});
  const double before = Ms(latency.Estimate(8));
  latency.Observe(8, milliseconds(900));
  EXPECT_LT(Ms(latency.Estimate(8)), 1.05 * before);
  for (int i = 0; i < 60; ++i) latency.Observe(8, milliseconds(45));
  EXPECT_NEAR(Ms(latency.Estimate(8)), 45, 2);
  for (int i = 0; i < 60; ++i) latency.Observe(8, milliseconds(9));
  EXPECT_NEAR(Ms(latency.Estimate(8)), 9, 1) << "and a faster one";
}

TEST(LatencyModelTest, HighCoversNineteenOfTwenty) {
  LatencyModel latency;
  std::mt19937_64 random(3);
  const auto draw = [&] {
    const double u = static_cast<double>(random() % 1000) / 1000;
    return FromSeconds(10e-3 * (0.8 + 0.4 * u));
  };
  for (int i = 0; i < 2000; ++i) latency.Observe(4, draw());
  int above = 0;
  for (int i = 0; i < 2000; ++i) above += draw() > latency.High(4);
  EXPECT_GT(above, 20);
  EXPECT_LT(above, 250);
}

// A size that was unlucky once must not be avoided for ever.
TEST(LatencyModelTest, OldObservationsAreForgotten) {
  LatencyModel latency;
  latency.Observe(1, milliseconds(1));
  latency.Observe(32, milliseconds(10));
  for (int i = 0; i < 3; ++i) latency.Observe(32, milliseconds(90));
  const double unlucky = Ms(latency.Estimate(32));
  for (int i = 0; i < 300; ++i) {
    latency.Observe(1, milliseconds(1));
    latency.Observe(2, microseconds(1200));
  }
  EXPECT_LT(Ms(latency.Estimate(32)), unlucky);
}

TEST(LatencyModelTest, FewerRowsOnlyWhenClearlyBetter) {
  const LatencyModel line = Learned(2, 0.2, {1, 2, 4, 8, 16, 32, 50});
  EXPECT_EQ(line.MostPerSecond(50), 50);
  EXPECT_EQ(line.MostWorth(50, 1000), 50);
  // Twice the time above 32 rows.
  LatencyModel step;
  for (int i = 0; i < 20; ++i)
    for (const int64_t rows : {1, 4, 16, 32, 48})
      step.Observe(rows, milliseconds(rows > 32 ? 20 : 10));
  EXPECT_EQ(step.MostPerSecond(48), 32);
  EXPECT_EQ(step.MostWorth(48, 3200), 32);
  EXPECT_EQ(step.MostWorth(48, 1), 48) << "time is worth nothing: take them all";
}

TEST(LatencyModelTest, AnySizeAndTime) {
  LatencyModel latency;
  for (int64_t rows : {int64_t{1}, int64_t{3}, int64_t{1} << 20, int64_t{1} << 40})
    for (const Duration time : {Duration(0), Duration(1), Duration(std::chrono::hours(2))}) {
      latency.Observe(rows, time);
      EXPECT_TRUE(std::isfinite(ToSeconds(latency.Estimate(rows))));
      EXPECT_GE(latency.Estimate(rows), Duration::zero());
    }
}

}  // namespace
}  // namespace minim::serve
