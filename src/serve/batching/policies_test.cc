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
  ReleaseReason reason = ReleaseReason::kIdle;
};

using enum ReleaseReason;

constexpr Row kTable[] = {
    {"work-conserving", "one row never waits", 1, 0, -1, 1, 0},
    {"work-conserving", "the cap counts rows", 70, 0, -1, 50, 0, kFull},
    {"fixed-size", "waits from the oldest request", 10, 30, -1, 0, 70},
    {"fixed-size", "sends when full", 50, 0, -1, 50, 0, kFull},
    {"fixed-size", "sends at most the cap", 99, 0, -1, 50, 0, kFull},
    {"fixed-size", "the wait is bounded", 3, 100, -1, 3, 0, kWindow},
    {"fixed-size", "a deadline shortens the wait", 3, 0, 20, 0, 20 - 8},
    {"fixed-size", "the deadline is now", 3, 0, 8, 3, 0, kDeadline},
    {"time-window", "collects for the window", 12, 4, -1, 0, 6},
    {"time-window", "sends when full", 50, 0, -1, 50, 0, kFull},
    {"time-window", "the window ends with enough rows", 12, 10, -1, 12, 0, kWindow},
    {"time-window", "too few rows wait on", 3, 10, -1, 0, 90},
    {"time-window", "not for ever", 3, 100, -1, 3, 0, kWindow},
    {"time-window", "a deadline shortens the wait", 3, 10, 30, 0, 22},
};

// 8 ms for up to 8 rows, then a millisecond for each.
LatencyModel Latency() {
  LatencyModel latency;
  for (int64_t rows : {1, 2, 4, 8}) latency.Observe(rows, milliseconds(8));
  for (int i = 0; i < 30; ++i)
    for (int64_t rows : {16, 32, 50}) latency.Observe(rows, milliseconds(rows));
  return latency;
}

TEST(BatchPoliciesTest, Table) {
  const TimePoint now = TimePoint() + std::chrono::hours(1);
  const LatencyModel latency = Latency();
  for (const Row& row : kTable) {
    QueueView queue{.rows = row.rows, .oldest_arrival = now - milliseconds(row.age_ms)};
    if (row.deadline_in_ms >= 0) queue.due = now + milliseconds(row.deadline_in_ms);
    queue.latency = &latency;
    const BatchDecision decision = FindBatchPolicy(row.policy)->next(kOptions, queue, now);
    EXPECT_EQ(decision.rows, row.expected_rows) << row.policy << ": " << row.what;
    if (row.expected_rows == 0) {
      EXPECT_EQ(decision.until - now, milliseconds(row.expected_wait_ms))
          << row.policy << ": " << row.what;
    } else {
      EXPECT_EQ(decision.reason, row.reason) << row.policy << ": " << row.what;
    }
  }
}

struct AdaptiveRow {
  const char* what;
  std::vector<int> due_in_ms;  // of each waiting row, in order
  double rate;
  int64_t late_rows;
  int64_t expected_rows, expected_skip;
  ReleaseReason reason;
};

// 5 ms and 1 ms a row, at most 10 rows: 667 rows a second.
TEST(BatchPoliciesTest, AdaptiveTable) {
  const AdaptiveRow kRows[] = {
      {"one row never waits", {50}, 0, 0, 1, 0, kIdle},
      {"nor when more are likely to come", {50}, 500, 0, 1, 0, kIdle},
      {"all that is there", {30, 40, 50}, 500, 0, 3, 0, kIdle},
      {"full", std::vector<int>(20, 50), 1000, 0, 10, 0, kFull},
      {"as many as the first allows", {10, 50, 50, 50, 50, 50, 50}, 10, 0, 5, 0, kDeadline},
      {"one that holds up many stands back",
       {6, 50, 50, 50, 50, 50, 50, 50, 50},
       600,
       0,
       8,
       1,
       kIdle},
      {"who cannot be in time stands back", {2, 3, 50, 50}, 100, 0, 2, 2, kIdle},
      {"nobody can: all stand back", {1, 2, 3}, 100, 0, 0, 3, kIdle},
      {"a later one with less time counts too", {50, 50, 50, 7, 50, 50}, 10, 0, 3, 0, kDeadline},
      {"room for the late", {50, 50}, 10, 3, 5, 0, kIdle},
      {"no more of them than are in time", {8}, 10, 7, 3, 0, kIdle},
      {"only late ones are left", {}, 10, 3, 3, 0, kLate},
      {"too many late ones for a run", {}, 10, 30, 10, 0, kLate},
  };
  const TimePoint now = TimePoint() + std::chrono::hours(1);
  LatencyModel latency;
  for (int64_t rows : {1, 2, 5, 10}) latency.Observe(rows, milliseconds(5 + rows));
  const BatchOptions options{.max_batch = 10, .latency_target = milliseconds(50)};
  for (const AdaptiveRow& row : kRows) {
    std::vector<Waiting> head;
    for (const int due : row.due_in_ms) head.push_back({1, now + milliseconds(due)});
    QueueView queue{.rows = static_cast<int64_t>(head.size()), .head = head};
    queue.late_rows = row.late_rows;
    queue.rows_per_second = row.rate;
    queue.latency = &latency;
    const BatchDecision decision = Adaptive(options, queue, now);
    EXPECT_EQ(decision.rows, row.expected_rows) << row.what;
    EXPECT_EQ(decision.skip, row.expected_skip) << row.what;
    if (decision.rows > 0) {
      EXPECT_EQ(ReleaseReasonName(decision.reason), ReleaseReasonName(row.reason)) << row.what;
    }
  }
}

// Above four rows this model takes five times as long, and there is more to do than time.
TEST(BatchPoliciesTest, AdaptiveTakesFewerRowsWhereMoreAreNotWorthTheirTime) {
  const TimePoint now = TimePoint() + std::chrono::hours(1);
  LatencyModel latency;
  for (int64_t rows : {1, 2, 4}) latency.Observe(rows, milliseconds(2));
  for (int i = 0; i < 30; ++i) latency.Observe(8, milliseconds(10));
  const std::vector<Waiting> head(8, {1, now + milliseconds(50)});
  const BatchDecision decision =
      Adaptive({.max_batch = 8},
               {.rows = 8, .head = head, .rows_per_second = 5000, .latency = &latency}, now);
  EXPECT_EQ(decision.rows, 4);
  EXPECT_EQ(decision.reason, kWorth);
}

TEST(BatchPoliciesTest, EveryPolicyKeepsTheCapAndEndsItsWait) {
  const TimePoint now = TimePoint() + std::chrono::hours(1);
  const LatencyModel latency = Latency();
  for (const BatchPolicy& policy : BatchPolicies()) {
    for (int64_t rows : {1, 9, 49, 50, 51, 1000}) {
      for (int age : {0, 9, 10, 99, 100, 5000}) {
        const std::vector<Waiting> head(static_cast<size_t>(std::min<int64_t>(rows, 100)),
                                        {1, now + milliseconds(40 - age)});
        const QueueView queue{.rows = rows,
                              .oldest_arrival = now - milliseconds(age),
                              .head = head,
                              .rows_per_second = 500,
                              .latency = &latency};
        const BatchDecision decision = policy.next(kOptions, queue, now);
        EXPECT_LE(decision.rows, std::min<int64_t>(rows, 50)) << policy.name;
        if (decision.rows == 0 && decision.skip == 0) {
          EXPECT_GT(decision.until, now) << policy.name;
        }
        if (age >= 100) {
          EXPECT_GT(decision.rows + decision.skip, 0) << policy.name;
        }
      }
    }
  }
}

TEST(BatchPoliciesTest, UnknownNamesListTheKnown) {
  EXPECT_NE(FindBatchPolicy("magic").status().message().find("time-window"), std::string::npos);
}

}  // namespace
}  // namespace minim::serve
