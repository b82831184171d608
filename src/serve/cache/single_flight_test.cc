#include "serve/cache/single_flight.h"

#include <gtest/gtest.h>

namespace minim::serve {
namespace {

TEST(SingleFlightTest, FollowersGetTheLeadersAnswer) {
  SingleFlight<int> flights;
  int sum = 0;
  const auto add = [&](int answer) { sum += answer; };
  EXPECT_TRUE(flights.Join({1, 1}, add));
  EXPECT_FALSE(flights.Join({1, 1}, add));
  EXPECT_FALSE(flights.Join({1, 1}, add));
  EXPECT_TRUE(flights.Join({2, 2}, add)) << "another request";
  flights.Land({1, 1}, 5);
  EXPECT_EQ(sum, 10);
  EXPECT_TRUE(flights.Join({1, 1}, add)) << "landed: the next one leads again";
}

TEST(SingleFlightTest, AWaiterMayStartTheNextFlight) {
  SingleFlight<int> flights;
  bool led = false;
  EXPECT_TRUE(flights.Join({1, 1}, [](int) {}));
  EXPECT_FALSE(flights.Join({1, 1}, [&](int) { led = flights.Join({1, 1}, [](int) {}); }));
  flights.Land({1, 1}, 0);
  EXPECT_TRUE(led);
  flights.Land({3, 3}, 0);  // nobody there
}

}  // namespace
}  // namespace minim::serve
