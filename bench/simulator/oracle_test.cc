#include "bench/simulator/oracle.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace minim {
namespace {

TEST(OracleTest, ByHand) {
  const std::vector<double> run = {2, 3, 4};
  const auto in_time = [&](std::vector<double> arrivals, double target) {
    return OracleInTime(arrivals, target, run);
  };
  EXPECT_EQ(in_time({}, 1), 0);
  EXPECT_EQ(in_time({0}, 1), 0) << "one row takes two";
  EXPECT_EQ(in_time({0}, 2), 1);
  EXPECT_EQ(in_time({0, 1}, 4), 2) << "waits for the second";
  EXPECT_EQ(in_time({0, 0, 0, 0}, 4), 3) << "the largest batch is three";
  EXPECT_EQ(in_time({0, 0, 0, 0}, 6), 4);
  EXPECT_EQ(in_time({0, 1, 2}, 3), 2) << "drops the first: 2 + 3 - 1 = 4 is too late for it";
}

// Every schedule there is: at a time, some of those that wait run together, or the next arrival is
// awaited. Nothing is assumed about their order.
class BruteForce {
 public:
  BruteForce(const std::vector<double>& arrivals, double target, const std::vector<double>& run)
      : arrivals_(arrivals), target_(target), run_(run) {}

  int Best(double now, unsigned done) const {
    int best = 0;
    unsigned waiting = 0;
    double next = 1e9;
    for (size_t i = 0; i < arrivals_.size(); ++i) {
      if (done >> i & 1) continue;
      if (arrivals_[i] <= now) {
        waiting |= 1u << i;
      } else {
        next = std::min(next, arrivals_[i]);
      }
    }
    if (next < 1e9) best = Best(next, done);
    for (unsigned batch = waiting; batch != 0; batch = (batch - 1) & waiting) {
      const auto size = static_cast<size_t>(std::popcount(batch));
      if (size > run_.size()) continue;
      const double end = now + run_[size - 1];
      int in_time = 0;
      for (size_t i = 0; i < arrivals_.size(); ++i)
        in_time += (batch >> i & 1) && end <= arrivals_[i] + target_ + 1e-12;
      best = std::max(best, in_time + Best(end, done | batch));
    }
    return best;
  }

 private:
  const std::vector<double>& arrivals_;
  const double target_;
  const std::vector<double>& run_;
};

TEST(OracleTest, EqualsBruteForceOnSmallInstances) {
  std::mt19937_64 random(5);
  const auto draw = [&](int below) { return static_cast<int>(random() % below); };
  for (int instance = 0; instance < 600; ++instance) {
    std::vector<double> arrivals, run;
    for (int i = 1 + draw(6); i > 0; --i) arrivals.push_back(draw(12));
    std::sort(arrivals.begin(), arrivals.end());
    double time = 1 + draw(4);
    for (int n = 1 + draw(4); n > 0; --n, time += draw(4)) run.push_back(time);
    const double target = 1 + draw(12);
    ASSERT_EQ(OracleInTime(arrivals, target, run), BruteForce(arrivals, target, run).Best(0, 0))
        << "instance " << instance;
  }
}

}  // namespace
}  // namespace minim
