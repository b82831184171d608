// Admission, lateness and settings, in a time that the tests own. simulator_test.cc has the rest.
#include "serve/batching/scheduler.h"

#include <gtest/gtest.h>

namespace minim::serve {
namespace {

using std::chrono::milliseconds;

const TimePoint kStart = TimePoint() + std::chrono::hours(1);
TimePoint At(double ms) { return kStart + FromSeconds(ms / 1e3); }

BatchSettings Adaptive50() {
  return {.policy = *FindBatchPolicy("adaptive"),
          .bounds = {.max_batch = 10, .latency_target = milliseconds(50)}};
}

struct Fixture {
  explicit Fixture(BatchSettings settings = Adaptive50(), int instances = 1)
      : scheduler(settings, instances) {}

  Status Submit(double at_ms, int64_t rows = 1, uint64_t priority = 0, double timeout_ms = 0) {
    auto job = std::make_unique<QueuedJob>();
    job->arrival = At(at_ms);
    job->rows = rows;
    job->id = next_id++;
    job->job.priority = priority;
    if (timeout_ms > 0) job->job.deadline = At(at_ms + timeout_ms);
    return scheduler.Submit(job, At(at_ms));
  }
  // Runs a batch for 20 ms from `at_ms` on; returns its rows.
  int64_t Run(double at_ms, double run_ms = 20) {
    const auto choice = scheduler.Next(At(at_ms));
    dropped += static_cast<int64_t>(choice.dropped.size());
    if (choice.batch.empty()) return 0;
    int64_t rows = 0;
    for (const JobPtr& job : choice.batch) rows += job->rows;
    const int instance = scheduler.Begin(choice.batch, At(at_ms));
    scheduler.End(instance, FromSeconds(run_ms / 1e3), true, At(at_ms + run_ms));
    return rows;
  }
  // It knows then that any batch takes 20 ms.
  void Learn() {
    for (int i = 0; i < 10; ++i) {
      for (int64_t rows : {1, 2, 5, 10}) {
        ASSERT_TRUE(Submit(0, rows).ok());
        ASSERT_EQ(Run(0), rows);
      }
    }
  }
  // A run that will end 20 ms after `at_ms`.
  int Occupy(double at_ms) {
    EXPECT_TRUE(Submit(at_ms).ok());
    const auto choice = scheduler.Next(At(at_ms));
    return scheduler.Begin(choice.batch, At(at_ms));
  }

  BatchScheduler scheduler;
  uint64_t next_id = 0;
  int64_t dropped = 0;
};

TEST(BatchSchedulerTest, WhatCannotBeInTimeIsRefusedAtOnce) {
  Fixture f;
  f.Learn();
  f.Occupy(1000);
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(f.Submit(1000).ok()) << i;
  // Two runs of 20 ms stand before the eleventh: 60 ms are too many.
  const Status refused = f.Submit(1000);
  EXPECT_EQ(refused.code(), StatusCode::kResourceExhausted);
  EXPECT_NE(refused.message().find("60.0 ms"), std::string::npos) << refused.message();
  EXPECT_NE(refused.message().find("50.0 ms are allowed"), std::string::npos);
  EXPECT_EQ(refused.retry_after(), milliseconds(10));
  EXPECT_TRUE(f.Submit(1010).ok()) << "and later it was right to try again";
}

TEST(BatchSchedulerTest, WhatIsLateAlreadyIsLetInWhileFewAre) {
  Fixture f;
  f.Learn();
  const auto submit = [&](double since_ms, double at_ms) {
    auto job = std::make_unique<QueuedJob>();
    job->arrival = At(at_ms);
    job->job.since = At(since_ms);
    return f.scheduler.Submit(job, At(at_ms));
  };
  int answered = 0;
  double now = 1000;
  for (; f.scheduler.CheckInTime(At(now - 60), At(now)).ok() && answered < 100; now += 100) {
    ASSERT_TRUE(submit(now - 60, now).ok());
    ASSERT_EQ(f.Run(now), 1);
    ++answered;
  }
  EXPECT_GE(answered, 2);
  EXPECT_LE(answered, 10);
  const Status refused = submit(now - 60, now);
  EXPECT_EQ(refused.code(), StatusCode::kResourceExhausted);
  EXPECT_NE(refused.message().find("waited for 60.0 ms"), std::string::npos) << refused.message();
  EXPECT_NE(refused.message().find("50.0 ms are allowed"), std::string::npos);
  EXPECT_EQ(refused.retry_after(), milliseconds(10));
  EXPECT_TRUE(submit(now - 40, now).ok()) << "with nothing before it, the model's guess is no bar";
  EXPECT_EQ(f.Run(now), 1);
}

TEST(BatchSchedulerTest, AClientsTimeoutCountsUnderEveryPolicy) {
  for (const BatchPolicy& policy : BatchPolicies()) {
    BatchSettings settings = Adaptive50();
    settings.policy = FindBatchPolicy("work-conserving").value();
    Fixture f(settings);
    f.Learn();
    settings.policy = policy;
    f.scheduler.Configure(settings);
    f.Occupy(1000);
    EXPECT_EQ(f.Submit(1000, 1, 0, 39).code(), StatusCode::kResourceExhausted) << policy.name;
    EXPECT_TRUE(f.Submit(1000, 1, 0, 41).ok()) << policy.name;
  }
}

TEST(BatchSchedulerTest, WithNothingBeforeItEveryRequestIsTried) {
  Fixture f;
  // Far too slow, as far as it knows: it could never learn better if it refused.
  ASSERT_TRUE(f.Submit(0).ok());
  f.Run(0, 5000);
  EXPECT_TRUE(f.Submit(6000, 1, 0, 10).ok());
}

TEST(BatchSchedulerTest, AFullQueueIsRefusedWithATimeToTryAgain) {
  BatchSettings settings = Adaptive50();
  settings.policy = *FindBatchPolicy("work-conserving");
  settings.max_queue_rows = 20;
  Fixture f(settings);
  f.Learn();
  f.Occupy(1000);
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(f.Submit(1000).ok());
  const Status full = f.Submit(1000);
  EXPECT_EQ(full.code(), StatusCode::kResourceExhausted);
  EXPECT_NE(full.message().find("20 rows wait already, 20 at most"), std::string::npos);
  EXPECT_GT(full.retry_after(), milliseconds(0));
}

TEST(BatchSchedulerTest, AQueueTakesOneRequestOfAnySize) {
  BatchSettings settings = Adaptive50();
  settings.max_queue_rows = 20;
  Fixture f(settings);
  EXPECT_TRUE(f.Submit(0, 1000).ok());
}

// After a hiccup at low load those who are late are answered all the same, behind the others.
TEST(BatchSchedulerTest, AFewMayBeLate) {
  Fixture f;
  f.Learn();
  const int instance = f.Occupy(1000);
  ASSERT_TRUE(f.Submit(1000).ok());
  ASSERT_TRUE(f.Submit(1001).ok());
  f.scheduler.End(instance, milliseconds(500), true, At(1500));
  ASSERT_TRUE(f.Submit(1500).ok());
  const auto choice = f.scheduler.Next(At(1500));
  ASSERT_EQ(choice.batch.size(), 3u);
  EXPECT_EQ(choice.batch[0]->arrival, At(1500)) << "the one that can be in time comes first";
  EXPECT_TRUE(choice.dropped.empty());
}

TEST(BatchSchedulerTest, ManyMayNot) {
  Fixture f;
  f.Learn();
  const int instance = f.Occupy(1000);
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(f.Submit(1000).ok());
  for (int i = 0; i < 40; ++i) (void)f.Submit(1010);
  const int64_t waiting = f.scheduler.queued_rows();
  f.scheduler.End(instance, milliseconds(500), true, At(1500));
  const auto choice = f.scheduler.Next(At(1500));
  EXPECT_GT(choice.dropped.size(), 0u);
  EXPECT_EQ(
      static_cast<int64_t>(choice.dropped.size() + choice.batch.size()) + f.scheduler.queued_rows(),
      waiting);
}

TEST(BatchSchedulerTest, HigherLevelsGoFirstAndLowerOnesAreRefusedSooner) {
  Fixture f;
  f.Learn();
  f.Occupy(1000);
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(f.Submit(1000, 1, 4).ok());
  EXPECT_TRUE(f.Submit(1000, 1, 5).ok()) << "a tenth of the rows is for lower levels";
  EXPECT_FALSE(f.Submit(1000, 1, 5).ok()) << "but no more";
  EXPECT_TRUE(f.Submit(1000, 1, 1).ok()) << "before them";
}

TEST(BatchSchedulerTest, SettingsChangeWhileJobsWait) {
  BatchSettings settings = Adaptive50();
  settings.policy = *FindBatchPolicy("fixed-size");
  settings.bounds.max_wait = std::chrono::seconds(30);
  Fixture f(settings);
  ASSERT_TRUE(f.Submit(0).ok());
  EXPECT_EQ(f.Run(1), 0) << "waits";
  settings.policy = *FindBatchPolicy("work-conserving");
  f.scheduler.Configure(settings);
  EXPECT_EQ(f.scheduler.settings().policy.name, "work-conserving");
  EXPECT_EQ(f.Run(2), 1);
}

// Late jobs of a policy that has some must not be forgotten by one that has none.
TEST(BatchSchedulerTest, LateJobsOutliveTheirPolicy) {
  for (const char* policy : {"fixed-size", "time-window"}) {
    Fixture f;
    f.Learn();
    const int instance = f.Occupy(1000);
    for (int i = 0; i < 3; ++i) ASSERT_TRUE(f.Submit(1000).ok());
    f.scheduler.End(instance, milliseconds(500), true, At(1500));
    ASSERT_TRUE(f.Submit(1500, 10).ok());
    EXPECT_EQ(f.Run(1500), 10) << "the late ones have no room in this run";
    BatchSettings settings = Adaptive50();
    settings.policy = *FindBatchPolicy(policy);
    settings.bounds.min_batch = 5;
    f.scheduler.Configure(settings);
    EXPECT_EQ(f.Run(1600) + f.dropped, 3) << policy;
  }
}

TEST(BatchSchedulerTest, CheckedSettings) {
  EXPECT_TRUE(CheckBatchSettings({}).ok());
  BatchSettings settings;
  settings.bounds.min_batch = 51;
  EXPECT_NE(CheckBatchSettings(settings).message().find("min_batch: found 51, expected 1 to 50"),
            std::string::npos);
  settings = {};
  settings.bounds.latency_target = Duration::zero();
  EXPECT_NE(CheckBatchSettings(settings).message().find("latency_target_ms"), std::string::npos);
}

TEST(ArrivalRateTest, FollowsTheArrivals) {
  ArrivalRate rate;
  for (int i = 0; i < 3000; ++i) rate.Add(1, At(i));
  EXPECT_NEAR(rate.At(At(3000)), 1000, 20);
  EXPECT_LT(rate.At(At(6000)), 20);
}

TEST(BatchSchedulerTest, TheTargetLeavesTimeToSend) {
  for (const int sending_ms : {0, 15, 1000}) {
    Fixture f;
    f.Learn();
    f.scheduler.SetSending(milliseconds(sending_ms));
    f.Occupy(1000);
    int accepted = 0;
    while (accepted < 1000 && f.Submit(1000).ok()) ++accepted;
    // After the 20 ms of the run in progress there is time for one run of ten, or for none: a
    // second would end at 60 ms.
    EXPECT_EQ(accepted, sending_ms == 0 ? 10 : 0) << sending_ms;
  }
}

TEST(BatchSchedulerTest, TheTargetCountsFromWhenTheCallerBeganToWait) {
  Fixture f;
  f.Learn();
  f.Occupy(1000);
  auto job = std::make_unique<QueuedJob>();
  job->arrival = At(1000);
  job->job.since = At(989);
  EXPECT_FALSE(f.scheduler.Submit(job, At(1000)).ok());
  job->job.since = At(999);
  EXPECT_TRUE(f.scheduler.Submit(job, At(1000)).ok());
}

}  // namespace
}  // namespace minim::serve
