#include "core/thread_pool.h"

#include <gtest/gtest.h>

#include <numeric>

namespace minim {
namespace {

TEST(ThreadPoolTest, EachPieceRunsOnce) {
  ThreadPool pool(3);
  for (int pieces : {0, 1, 2, 7, 1000}) {
    std::vector<std::atomic<int>> counts(pieces);
    pool.ParallelFor(pieces, 4, [&](int i) { ++counts[i]; });
    for (auto& count : counts) EXPECT_EQ(count, 1);
  }
}

TEST(ThreadPoolTest, ManyCallersAndNesting) {
  ThreadPool pool(2);
  std::atomic<int> total{0};
  std::vector<std::thread> callers;
  for (int c = 0; c < 4; ++c) {
    callers.emplace_back([&] {
      for (int round = 0; round < 200; ++round) {
        pool.ParallelFor(3, 3, [&](int) { pool.ParallelFor(2, 2, [&](int) { ++total; }); });
      }
    });
  }
  for (auto& caller : callers) caller.join();
  EXPECT_EQ(total, 4 * 200 * 3 * 2);
}

TEST(ThreadPoolTest, SleepingWorkersWake) {
  ThreadPool pool(1);
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  std::atomic<int> inside{0};
  // Both pieces must be in flight at once, so a worker has to have woken.
  pool.ParallelFor(2, 2, [&](int) {
    ++inside;
    while (inside < 2) std::this_thread::yield();
  });
  EXPECT_EQ(inside, 2);
}

TEST(ThreadBudgetTest, RangesCoverEverything) {
  ThreadPool pool(3);
  const ThreadBudget budget{&pool, 4};
  std::vector<int> seen(101, 0);
  budget.ParallelRange(101, 10, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) ++seen[i];
  });
  EXPECT_EQ(std::accumulate(seen.begin(), seen.end(), 0), 101);
}

}  // namespace
}  // namespace minim
