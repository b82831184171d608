#include "serve/cache/circuit_breaker.h"

#include <gtest/gtest.h>

namespace minim::serve {
namespace {

using std::chrono::milliseconds;

class CircuitBreakerTest : public testing::Test {
 protected:
  TimePoint At(int ms) const { return start_ + milliseconds(ms); }
  const TimePoint start_ = Clock::now();
  CircuitBreaker breaker_{BreakerOptions{
      .failures = 3, .least_backoff = milliseconds(100), .most_backoff = milliseconds(300)}};
};

TEST_F(CircuitBreakerTest, OpensAfterFailuresInARow) {
  EXPECT_TRUE(breaker_.MayTry(At(0)));
  breaker_.Failed(At(0));
  breaker_.Failed(At(1));
  EXPECT_TRUE(breaker_.MayTry(At(1)));
  breaker_.Failed(At(2));
  EXPECT_FALSE(breaker_.MayTry(At(101)));
  EXPECT_TRUE(breaker_.MayTry(At(102)));
}

TEST_F(CircuitBreakerTest, ASuccessBetweenStartsTheCountAgain) {
  for (int i = 0; i < 10; ++i) {
    breaker_.Failed(At(i));
    breaker_.Failed(At(i));
    breaker_.Succeeded();
  }
  EXPECT_TRUE(breaker_.MayTry(At(10)));
}

TEST_F(CircuitBreakerTest, EachFailedProbeWaitsTwiceAsLongUpToTheMost) {
  for (int i = 0; i < 3; ++i) breaker_.Failed(At(0));
  const std::pair<int, int> probes[] = {{100, 200}, {300, 300}, {600, 300}};
  for (const auto& [at, wait] : probes) {
    ASSERT_TRUE(breaker_.MayTry(At(at)));
    breaker_.Failed(At(at));
    EXPECT_FALSE(breaker_.MayTry(At(at + wait - 1)));
    EXPECT_TRUE(breaker_.MayTry(At(at + wait)));
  }
  breaker_.Succeeded();
  for (int i = 0; i < 3; ++i) breaker_.Failed(At(1000));
  EXPECT_TRUE(breaker_.MayTry(At(1100)));  // short again
}

}  // namespace
}  // namespace minim::serve
