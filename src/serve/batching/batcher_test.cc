#include "serve/batching/batcher.h"

#include <gtest/gtest.h>

#include <future>
#include <map>
#include <mutex>
#include <thread>

#include "serve/testing/fake_model.h"

namespace minim::serve {
namespace {

using std::chrono::milliseconds;

Tensor Rows(int64_t rows, float value) {
  Tensor tensor(DType::f32, {rows, 2});
  for (float& x : tensor.as<float>()) x = value;
  return tensor;
}

struct Fixture {
  // Tests hold runs up, and must not be held up themselves.
  Fixture() { options.on_callers_thread = Duration::zero(); }

  std::shared_ptr<FakeModel> model = std::make_shared<FakeModel>();
  BatcherOptions options;
  std::unique_ptr<Batcher> batcher;

  Batcher& Open() {
    batcher = std::make_unique<Batcher>(model, options);
    return *batcher;
  }
  std::future<BatchResult> Send(BatchJob job) {
    auto promise = std::make_shared<std::promise<BatchResult>>();
    job.done = [promise](BatchResult result) { promise->set_value(std::move(result)); };
    const Status status = batcher->Submit(std::move(job));
    if (!status.ok()) promise->set_value({status, {}});
    return promise->get_future();
  }
  std::future<BatchResult> Send(int64_t rows, float value) { return Send({{Rows(rows, value)}}); }
  // Occupies the only instance until Release().
  std::future<BatchResult> Occupy() {
    model->Block(true);
    auto busy = Send(1, 0);
    model->WaitUntilEntered(1);
    return busy;
  }
  void Release() { model->Block(false); }
};

void ExpectRows(const BatchResult& result, int64_t rows, float value) {
  ASSERT_TRUE(result.outputs.ok()) << result.outputs.status().message();
  const Tensor& y = (*result.outputs)[0];
  EXPECT_EQ(y.dims(), (Dims{rows, 2}));
  for (const float v : y.as<float>()) EXPECT_EQ(v, 2 * value);
}

TEST(BatcherTest, EachCallerGetsExactlyItsRows) {
  Fixture f;
  f.Open();
  auto busy = f.Occupy();
  std::vector<std::future<BatchResult>> answers;
  for (int i = 1; i <= 5; ++i) answers.push_back(f.Send(i, static_cast<float>(i)));
  EXPECT_EQ(f.batcher->queued_rows(), 15);
  f.Release();
  for (int i = 1; i <= 5; ++i) {
    const BatchResult result = answers[i - 1].get();
    ExpectRows(result, i, static_cast<float>(i));
    EXPECT_EQ(result.times.batch_rows, 15);
  }
  EXPECT_EQ(f.model->runs_, 2) << "one for the busy one, one for all the others";
}

TEST(BatcherTest, OneBadRequestFailsAlone) {
  Fixture f;
  f.Open();
  auto busy = f.Occupy();
  auto good = f.Send(1, 1), bad = f.Send(2, FakeModel::kPoison), also_good = f.Send(3, 3);
  f.Release();
  ExpectRows(good.get(), 1, 1);
  EXPECT_EQ(bad.get().outputs.status().code(), StatusCode::kInvalidArgument);
  ExpectRows(also_good.get(), 3, 3);
}

TEST(BatcherTest, ARequestAboveTheCapIsSplit) {
  Fixture f;
  f.options.bounds.max_batch = 4;
  f.Open();
  ExpectRows(f.Send(11, 5).get(), 11, 5);
  EXPECT_EQ(f.model->runs_, 3);
  ExpectRows(f.Send({.inputs = {Rows(9, 6)}, .may_batch = false}).get(), 9, 6);
  EXPECT_EQ(f.model->largest_, 4) << "also when it wants no company";
}

TEST(BatcherTest, DeadlinesFireWhileTheInstanceIsBusy) {
  Fixture f;
  f.Open();
  auto busy = f.Occupy();
  auto late = f.Send({.inputs = {Rows(1, 1)}, .deadline = Clock::now() + milliseconds(20)});
  EXPECT_EQ(late.get().outputs.status().code(), StatusCode::kDeadlineExceeded);
  f.Release();
  ExpectRows(busy.get(), 1, 0);
}

TEST(BatcherTest, ACancelledRequestLeavesTheQueue) {
  Fixture f;
  f.Open();
  auto busy = f.Occupy();
  const auto cancelled = std::make_shared<std::atomic<bool>>(false);
  auto gone = f.Send({.inputs = {Rows(1, 1)}, .cancelled = cancelled});
  auto kept = f.Send(1, 2);
  *cancelled = true;
  f.Release();
  EXPECT_EQ(gone.get().outputs.status().code(), StatusCode::kCancelled);
  const BatchResult result = kept.get();
  ExpectRows(result, 1, 2);
  EXPECT_EQ(result.times.batch_rows, 1);
}

TEST(BatcherTest, AFullQueueIsRefusedAtOnce) {
  Fixture f;
  f.options.max_queue_rows = 8;
  f.Open();
  auto busy = f.Occupy();
  auto waiting = f.Send(8, 1);
  EXPECT_EQ(f.Send(1, 1).get().outputs.status().code(), StatusCode::kResourceExhausted);
  f.Release();
  ExpectRows(waiting.get(), 8, 1);
}

TEST(BatcherTest, TheWindowCollectsFromTheOldest) {
  Fixture f;
  f.options.policy = *FindBatchPolicy("time-window");
  f.options.bounds = {.min_batch = 1, .max_batch = 50, .window = milliseconds(50)};
  f.Open();
  const TimePoint start = Clock::now();
  auto a = f.Send(1, 1), b = f.Send(1, 2);
  EXPECT_EQ(a.get().times.batch_rows, 2);
  ExpectRows(b.get(), 1, 2);
  EXPECT_GE(Clock::now() - start, milliseconds(50));
  EXPECT_EQ(f.model->runs_, 1);
}

TEST(BatcherTest, BatchingCanBeSwitchedOffPerRequest) {
  Fixture f;
  f.options.policy = *FindBatchPolicy("fixed-size");
  f.options.bounds.max_wait = std::chrono::seconds(60);
  f.Open();
  ExpectRows(f.Send({.inputs = {Rows(1, 7)}, .may_batch = false}).get(), 1, 7);
}

TEST(BatcherTest, WhatWouldBeTooLateIsRefusedWithATimeToTryAgain) {
  Fixture f;
  f.Open();
  // The first is unprepared and says nothing about others; the second is learned from by the time
  // the third has run.
  for (int i = 0; i < 3; ++i) f.Send(1, 0).get();
  ASSERT_GT(f.batcher->ExpectedLatency(1), Duration::zero());
  auto busy = f.Occupy();
  const BatchResult late =
      f.Send({.inputs = {Rows(1, 1)}, .deadline = Clock::now() + Duration(1)}).get();
  EXPECT_EQ(late.outputs.status().code(), StatusCode::kResourceExhausted);
  EXPECT_GT(late.outputs.status().retry_after().count(), 0);
  f.Release();
}

TEST(BatcherTest, SettingsChangeWhileItServes) {
  Fixture f;
  f.options.policy = *FindBatchPolicy("fixed-size");
  f.options.bounds.max_wait = std::chrono::seconds(3600);
  f.Open();
  auto waiting = f.Send(1, 7);
  BatchSettings settings = f.batcher->settings();
  EXPECT_EQ(settings.policy.name, "fixed-size");
  settings.bounds.min_batch = 0;
  EXPECT_EQ(f.batcher->Configure(settings).code(), StatusCode::kInvalidArgument);
  settings.bounds.min_batch = 1;
  settings.policy = *FindBatchPolicy("adaptive");
  ASSERT_TRUE(f.batcher->Configure(settings).ok());
  ExpectRows(waiting.get(), 1, 7);
  EXPECT_EQ(f.batcher->settings().policy.name, "adaptive");
}

TEST(BatcherTest, HighPriorityOvertakes) {
  Fixture f;
  f.options.bounds.max_batch = 1;
  f.Open();
  auto busy = f.Occupy();
  std::mutex mutex;
  std::vector<int> order;
  std::vector<std::future<void>> done;
  for (const int priority : {8, 0, 1}) {
    auto promise = std::make_shared<std::promise<void>>();
    done.push_back(promise->get_future());
    BatchJob job{.inputs = {Rows(1, 1)}, .priority = static_cast<uint64_t>(priority)};
    job.done = [&, priority, promise](BatchResult) {
      {
        std::lock_guard lock(mutex);
        order.push_back(priority);
      }
      promise->set_value();
    };
    ASSERT_TRUE(f.batcher->Submit(std::move(job)).ok());
  }
  f.Release();
  for (auto& one : done) one.get();
  EXPECT_EQ(order, (std::vector<int>{1, 0, 8}));
}

TEST(BatcherTest, EveryRunSaysWhyItBegan) {
  Fixture f;
  std::mutex mutex;
  std::vector<RunReport> reports;
  f.options.bounds.max_batch = 4;
  f.options.on_run = [&](const RunReport& report) {
    std::lock_guard lock(mutex);
    reports.push_back(report);
  };
  f.Open();
  auto busy = f.Occupy();
  auto full = f.Send(4, 1), alone = f.Send({.inputs = {Rows(1, 2)}, .may_batch = false});
  f.Release();
  busy.get();
  full.get();
  alone.get();
  f.batcher.reset();
  ASSERT_EQ(reports.size(), 3u);
  EXPECT_EQ(reports[0].reason, ReleaseReason::kIdle);
  EXPECT_EQ(reports[1].reason, ReleaseReason::kFull);
  EXPECT_EQ(reports[2].reason, ReleaseReason::kAlone);
  EXPECT_EQ(reports[1].rows, 4);
  EXPECT_EQ(reports[1].max_rows, 4);
}

TEST(BatcherTest, NoRowsAreRefused) {
  Fixture f;
  f.Open();
  EXPECT_EQ(f.Send(0, 1).get().outputs.status().code(), StatusCode::kInvalidArgument);
}

TEST(BatcherTest, WarmPreparesEverySizeAndCountsColdRuns) {
  Fixture f;
  f.options.bounds.max_batch = 12;
  ASSERT_TRUE(f.Open().Warm().ok());
  EXPECT_EQ(f.model->warmed_, 12);
  std::atomic<int> cold{0};
  f.options.warm_budget = Duration::zero();
  f.options.on_run = [&](const RunReport& report) { cold += report.cold; };
  ASSERT_TRUE(f.Open().Warm().ok());
  EXPECT_EQ(f.model->warmed_, 12 + 7) << "1, 2, 3, 4, 6, 8 and the largest";
  f.Send(8, 1).get();
  EXPECT_EQ(cold, 0);
  f.Send(7, 1).get();
  f.Send(7, 1).get();
  EXPECT_EQ(cold, 1);
}

TEST(BatcherTest, BatchesHaveSizesThatArePrepared) {
  Fixture f;
  std::atomic<int> cold{0};
  f.options.on_run = [&](const RunReport& report) { cold += report.cold; };
  f.options.warm_budget = Duration::zero();
  f.options.bounds.max_batch = 32;
  ASSERT_TRUE(f.Open().Warm().ok());
  auto busy = f.Occupy();
  std::vector<std::future<BatchResult>> answers;
  for (int i = 0; i < 23; ++i) answers.push_back(f.Send(1, 1));
  f.Release();
  std::map<int64_t, int> runs;
  for (auto& answer : answers) ++runs[answer.get().times.batch_rows];
  EXPECT_EQ(runs, (std::map<int64_t, int>{{16, 16}, {6, 6}, {1, 1}}));
  EXPECT_EQ(cold, 0);
}

TEST(BatcherTest, ClosingAnswersWhatWaits) {
  Fixture f;
  f.Open();
  auto busy = f.Occupy();
  auto waiting = f.Send(1, 1);
  std::thread closer([&] { f.batcher.reset(); });
  EXPECT_EQ(waiting.get().outputs.status().code(), StatusCode::kUnavailable);
  f.Release();
  closer.join();
  ExpectRows(busy.get(), 1, 0);
}

TEST(BatcherTest, TheLastOwnerMayBeACallback) {
  const auto model = std::make_shared<FakeModel>();
  std::promise<void> done;
  auto batcher = std::make_shared<Batcher>(model, BatcherOptions{});
  BatchJob job{.inputs = {Rows(1, 1)}};
  job.done = [owner = batcher, &done](BatchResult) mutable {
    owner.reset();
    done.set_value();
  };
  model->Block(true);
  ASSERT_TRUE(batcher->Submit(std::move(job)).ok());
  batcher.reset();
  model->Block(false);
  done.get_future().get();
}

TEST(BatcherTest, ManyCallersManyInstances) {
  Fixture f;
  f.options.instances = 3;
  f.options.max_queue_rows = 1 << 20;
  f.Open();
  std::vector<std::thread> callers;
  for (int c = 0; c < 4; ++c) {
    callers.emplace_back([&, c] {
      for (int i = 0; i < 200; ++i)
        ExpectRows(f.Send(1 + i % 3, static_cast<float>(c * 1000 + i)).get(), 1 + i % 3,
                   static_cast<float>(c * 1000 + i));
    });
  }
  for (auto& caller : callers) caller.join();
}

TEST(BatcherTest, AQuickRunIsMadeOnTheCallersThread) {
  for (const bool quick : {false, true}) {
    Fixture f;
    if (quick) f.options.on_callers_thread = std::chrono::hours(1);
    f.Open();
    int here = 0;
    for (int i = 0; i < (quick ? 5000 : 50) && here == 0; ++i) {
      std::promise<std::thread::id> ran;
      BatchJob job{{Rows(1, 1)}};
      job.done = [&](const BatchResult& result) {
        EXPECT_TRUE(result.outputs.ok());
        ran.set_value(std::this_thread::get_id());
      };
      ASSERT_TRUE(f.batcher->Submit(std::move(job)).ok());
      here += ran.get_future().get() == std::this_thread::get_id();
      // What it answered, the batcher's thread has not always ended.
      std::this_thread::sleep_for(milliseconds(1));
    }
    // Not the first, which teaches what a run takes.
    EXPECT_EQ(here > 0, quick) << here;
  }
}

TEST(BatcherTest, WhatCameMeanwhileRunsAfterAQuickRun) {
  Fixture f;
  f.options.on_callers_thread = std::chrono::hours(1);
  f.options.bounds.max_batch = 4;
  f.Open();
  std::vector<std::thread> threads;
  std::atomic<int> answers = 0;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (int i = 0; i < 200; ++i) {
        const auto result = f.Send(1, 3).get();
        answers += result.outputs.ok() && result.outputs->at(0).as<float>()[0] == 6;
      }
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(answers, 800);
}

}  // namespace
}  // namespace minim::serve
