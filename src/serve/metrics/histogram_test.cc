#include "serve/metrics/histogram.h"

#include <gtest/gtest.h>

#include <cmath>
#include <thread>

#include "core/philox.h"
#include "core/stats.h"

namespace minim::serve {
namespace {

Duration Seconds(double seconds) {
  return std::chrono::round<Duration>(std::chrono::duration<double>(seconds));
}

TEST(LatencyHistogram, QuantilesAreWithinOnePercent) {
  const Philox rng(7);
  LatencyHistogram histogram;
  std::vector<double> all;
  for (int i = 0; i < 50000; ++i) {  // from 1 us to 10 s, evenly in the logarithm
    all.push_back(std::pow(10.0, -6 + 7 * rng.Uniform(i)));
    histogram.Add(Seconds(all.back()));
  }
  for (const double fraction : {0.01, 0.5, 0.9, 0.95, 0.99, 0.999}) {
    const double exact = Percentile(all, fraction);
    const double found = std::chrono::duration<double>(histogram.Quantile(fraction)).count();
    EXPECT_NEAR(found / exact, 1, 0.0125) << fraction;  // 1 % and the gap between neighbours
  }
  double sum = 0;
  for (const double seconds : all) sum += seconds;
  EXPECT_NEAR(histogram.sum_seconds() / sum, 1, 1e-6);
  EXPECT_EQ(histogram.count(), all.size());
}

TEST(LatencyHistogram, TakesAnything) {
  LatencyHistogram histogram;
  EXPECT_EQ(histogram.Quantile(0.5), Duration{});
  for (const double seconds : {-1.0, 0.0, 1e-9, 1e5}) histogram.Add(Seconds(seconds));
  EXPECT_EQ(histogram.count(), 4u);
  EXPECT_GT(histogram.Quantile(1), std::chrono::seconds(300));
}

TEST(LatencyHistogram, MergesAndCountsUpToBounds) {
  LatencyHistogram a, b;
  for (int i = 0; i < 10; ++i) a.Add(std::chrono::milliseconds(2));
  for (int i = 0; i < 5; ++i) b.Add(std::chrono::milliseconds(30));
  a.Merge(b);
  const double bounds[] = {0.001, 0.01, 0.1};
  EXPECT_EQ(a.CountsUpTo(bounds), (std::vector<uint64_t>{0, 10, 15}));
  EXPECT_EQ(a.count(), 15u);
}

TEST(LatencyHistogram, ThreadsLoseNothing) {
  LatencyHistogram histogram;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (int i = 0; i < 5000; ++i) histogram.Add(std::chrono::microseconds(i));
    });
  for (std::thread& thread : threads) thread.join();
  const double all[] = {1.0};
  EXPECT_EQ(histogram.CountsUpTo(all)[0], 20000u);
}

}  // namespace
}  // namespace minim::serve
