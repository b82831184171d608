#include "apps/arrivals.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

namespace minim {
namespace {

TEST(ArrivalsTest, EveryKindRisesAndKeepsItsRate) {
  for (const ArrivalKind& kind : ArrivalKinds()) {
    const Arrivals arrivals = kind.make({.per_second = 2000, .count = 40000, .scale_seconds = .02});
    ASSERT_EQ(arrivals.size(), 40000u) << kind.name;
    EXPECT_TRUE(std::is_sorted(arrivals.begin(), arrivals.end())) << kind.name;
    EXPECT_NEAR(40000 / arrivals.back(), 2000, 300) << kind.name;
    EXPECT_EQ(kind.make({.per_second = 2000, .count = 40000, .scale_seconds = .02}), arrivals)
        << kind.name << ": the same seed gives the same list";
    EXPECT_NE(kind.make({.per_second = 2000, .count = 40000, .scale_seconds = .02, .seed = 2}),
              arrivals);
  }
}

// Variance over mean of the counts in slices: 1 for independent arrivals.
double Dispersion(const Arrivals& arrivals, double slice) {
  std::vector<double> counts(static_cast<size_t>(arrivals.back() / slice) + 1);
  for (const double at : arrivals) ++counts[static_cast<size_t>(at / slice)];
  double mean = 0, variance = 0;
  for (const double count : counts) mean += count / static_cast<double>(counts.size());
  for (const double count : counts)
    variance += (count - mean) * (count - mean) / static_cast<double>(counts.size());
  return variance / mean;
}

TEST(ArrivalsTest, KindsDifferInHowTheyBunch) {
  const ArrivalOptions options{.per_second = 2000, .count = 20000, .scale_seconds = .05};
  EXPECT_NEAR(Dispersion(PoissonArrivals(options), 0.05), 1, 0.3);
  EXPECT_GT(Dispersion(BurstArrivals(options), 0.05), 20);
  EXPECT_GT(Dispersion(DiurnalArrivals(options), 0.05), 10);
}

}  // namespace
}  // namespace minim
