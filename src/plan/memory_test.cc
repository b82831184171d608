#include "plan/memory.h"

#include <gtest/gtest.h>

#include "core/philox.h"

namespace minim {
namespace {

TEST(PlanMemoryTest, DisjointLifetimesShare) {
  const MemoryPlan plan = PlanMemory({{100, 0, 1}, {100, 2, 3}});
  EXPECT_EQ(plan.offsets[0], plan.offsets[1]);
  EXPECT_EQ(plan.bytes, 128u);
}

TEST(PlanMemoryTest, NothingTakesNothing) {
  EXPECT_EQ(PlanMemory({}).bytes, 0u);
  const MemoryPlan plan = PlanMemory({{0, 0, 1}, {0, 1, 2}});
  EXPECT_EQ(plan.bytes, 0u);
  EXPECT_EQ(plan.offsets.size(), 2u);
}

TEST(PlanMemoryTest, LiveBuffersNeverOverlap) {
  for (uint64_t seed = 0; seed < 50; ++seed) {
    const Philox rng(seed);
    std::vector<BufferRequest> requests;
    for (int i = 0; i < 60; ++i) {
      const int first = static_cast<int>(rng.Below(3 * i, 40));
      requests.push_back(
          {rng.Below(3 * i + 1, 5000), first, first + static_cast<int>(rng.Below(3 * i + 2, 10))});
    }
    const MemoryPlan plan = PlanMemory(requests);
    EXPECT_GE(plan.bytes, plan.live_bytes);
    EXPECT_LE(plan.bytes, plan.live_bytes * 3 / 2);
    for (size_t a = 0; a < requests.size(); ++a) {
      EXPECT_EQ(plan.offsets[a] % 64, 0u);
      for (size_t b = 0; b < a; ++b) {
        const bool alive_together =
            requests[a].first <= requests[b].last && requests[b].first <= requests[a].last;
        const bool apart = plan.offsets[a] + requests[a].bytes <= plan.offsets[b] ||
                           plan.offsets[b] + requests[b].bytes <= plan.offsets[a];
        if (alive_together) {
          ASSERT_TRUE(apart) << seed;
        }
      }
    }
  }
}

}  // namespace
}  // namespace minim
