// Every policy as a table: what waits, and what the policy decides.
#include <gtest/gtest.h>

#include "serve/batching/policy.h"

namespace minim::serve {
namespace {

using std::chrono::milliseconds;

constexpr BatchOptions kOptions = {.min_batch = 10,
                                   .max_batch = 50,
                                   .window = milliseconds(10),
                                   .max_wait = milliseconds(100),
                                   .latency_target = milliseconds(40)};

struct Row {
  std::string_view policy;
  const char* what;
  int64_t rows;
  int age_ms;             // of the oldest request
  int deadline_in_ms;     // -1: none
  int64_t expected_rows;  // 0: waits
  int expected_wait_ms;   // from now
  double rate = 0;
};

constexpr Row kTable[] = {
    {"work-conserving", "one row never waits", 1, 0, -1, 1, 0},
    {"work-conserving", "the cap counts rows", 70, 0, -1, 50, 0},
    {"fixed-size", "waits from the oldest request", 10, 30, -1, 0, 70},
    {"fixed-size", "sends when full", 50, 0, -1, 50, 0},
    {"fixed-size", "sends at most the cap", 99, 0, -1, 50, 0},
    {"fixed-size", "the wait is bounded", 3, 100, -1, 3, 0},
    {"fixed-size", "a deadline shortens the wait", 3, 0, 20, 0, 20 - 8},
    {"fixed-size", "the deadline is now", 3, 0, 8, 3, 0},
    {"time-window", "collects for the window", 12, 4, -1, 0, 6},
    {"time-window", "sends when full", 50, 0, -1, 50, 0},
    {"time-window", "the window ends with enough rows", 12, 10, -1, 12, 0},
    {"time-window", "too few rows wait on", 3, 10, -1, 0, 90},
    {"time-window", "not for ever", 3, 100, -1, 3, 0},
    {"time-window", "a deadline shortens the wait", 3, 10, 30, 0, 22},
    {"adaptive", "nothing comes: no wait", 1, 0, -1, 1, 0, 0.0},
    {"adaptive", "rows come: waits for them", 4, 0, -1, 0, 8, 1000.0},
    {"adaptive", "never a batch that would be late", 30, 20, -1, 8, 0, 1000.0},
    {"adaptive", "late already: everything at once", 30, 60, -1, 30, 0, 1000.0},
};

// 8 ms for up to 8 rows, then linear: 16 rows take 32 ms, because they were observed to.
LatencyModel Latency() {
  LatencyModel latency;
  for (int64_t rows : {1, 2, 4, 8}) latency.Observe(rows, milliseconds(8));
  for (int64_t rows : {16, 32, 50}) latency.Observe(rows, milliseconds(2 * rows));
  return latency;
}

TEST(BatchPoliciesTest, Table) {
  const TimePoint now = TimePoint() + std::chrono::hours(1);
  for (const Row& row : kTable) {
    QueueView queue{.rows = row.rows, .oldest_arrival = now - milliseconds(row.age_ms)};
    if (row.deadline_in_ms >= 0) queue.oldest_deadline = now + milliseconds(row.deadline_in_ms);
    queue.rows_per_second = row.rate;
    queue.latency = Latency();
    const BatchDecision decision = FindBatchPolicy(row.policy)->next(kOptions, queue, now);
    EXPECT_EQ(decision.rows, row.expected_rows) << row.policy << ": " << row.what;
    if (row.expected_rows == 0) {
      EXPECT_EQ(decision.until - now, milliseconds(row.expected_wait_ms))
          << row.policy << ": " << row.what;
    }
  }
}

TEST(BatchPoliciesTest, EveryPolicyKeepsTheCapAndEndsItsWait) {
  const TimePoint now = TimePoint() + std::chrono::hours(1);
  for (const BatchPolicy& policy : BatchPolicies()) {
    for (int64_t rows : {1, 9, 49, 50, 51, 1000}) {
      for (int age : {0, 9, 10, 99, 100, 5000}) {
        const QueueView queue{.rows = rows,
                              .oldest_arrival = now - milliseconds(age),
                              .rows_per_second = 500,
                              .latency = Latency()};
        const BatchDecision decision = policy.next(kOptions, queue, now);
        EXPECT_LE(decision.rows, std::min<int64_t>(rows, 50)) << policy.name;
        if (decision.rows == 0) {
          EXPECT_GT(decision.until, now) << policy.name;
        }
        if (age >= 100) {
          EXPECT_GT(decision.rows, 0) << policy.name;
        }
      }
    }
  }
}

TEST(BatchPoliciesTest, UnknownNamesListTheKnown) {
  EXPECT_NE(FindBatchPolicy("magic").status().message().find("time-window"), std::string::npos);
}

TEST(LatencyModelTest, LearnsAndExtrapolates) {
  LatencyModel latency;
  EXPECT_EQ(latency.Estimate(8), Duration::zero());
  for (int i = 0; i < 50; ++i) latency.Observe(4, milliseconds(10));
  EXPECT_NEAR(std::chrono::duration<double>(latency.Estimate(4)).count(), 0.010, 1e-4);
  EXPECT_NEAR(std::chrono::duration<double>(latency.Estimate(8)).count(), 0.020, 1e-4);
  EXPECT_EQ(latency.Estimate(1), Duration::zero());
}

}  // namespace
}  // namespace minim::serve
