#include "serve/batching/job_queue.h"

#include <gtest/gtest.h>

namespace minim::serve {
namespace {

using std::chrono::milliseconds;
const TimePoint kStart = TimePoint() + std::chrono::hours(1);

JobPtr Job(int64_t rows, int at_ms, int64_t width = 2, uint64_t priority = 0) {
  auto queued = std::make_unique<QueuedJob>();
  queued->rows = rows;
  queued->arrival = kStart + milliseconds(at_ms);
  queued->due = queued->arrival + milliseconds(1000);
  queued->job.priority = priority;
  queued->job.inputs.push_back(Tensor(DType::f32, {rows, width}));
  return queued;
}

std::vector<int64_t> RowsOf(const std::vector<JobPtr>& jobs) {
  std::vector<int64_t> rows;
  for (const JobPtr& job : jobs) rows.push_back(job->rows);
  return rows;
}

JobQueue::Choice Take(JobQueue& queue, int64_t cap, std::string_view policy = "work-conserving",
                      TimePoint now = kStart + milliseconds(50)) {
  static const LatencyModel kCold;
  return queue.Take(*FindBatchPolicy(policy), {.max_batch = cap}, {.latency = &kCold}, now);
}

std::vector<int64_t> TakeNow(JobQueue& queue, int64_t cap) {
  return RowsOf(Take(queue, cap).batch);
}

TEST(JobQueueTest, CapsCountRowsAndKeepRequestsWhole) {
  JobQueue queue;
  for (int64_t rows : {3, 4, 2, 1}) queue.Push(Job(rows, 0));
  EXPECT_EQ(queue.rows(), 10);
  EXPECT_EQ(TakeNow(queue, 8), (std::vector<int64_t>{3, 4}));
  EXPECT_EQ(TakeNow(queue, 8), (std::vector<int64_t>{2, 1}));
  EXPECT_TRUE(queue.empty());
  EXPECT_EQ(queue.rows(), 0);
}

TEST(JobQueueTest, ARequestAboveTheCapIsTakenAlone) {
  JobQueue queue;
  queue.Push(Job(20, 0));
  queue.Push(Job(1, 1));
  EXPECT_EQ(TakeNow(queue, 8), (std::vector<int64_t>{20}));
}

TEST(JobQueueTest, OnlyEqualShapesMergeAndNoKindStarves) {
  JobQueue queue;
  queue.Push(Job(1, 0, 2));
  queue.Push(Job(5, 1, 3));
  queue.Push(Job(1, 2, 2));
  queue.Push(Job(8, 3, 2));
  EXPECT_EQ(TakeNow(queue, 8), (std::vector<int64_t>{1, 1}));
  EXPECT_EQ(TakeNow(queue, 8), (std::vector<int64_t>{5})) << "older than what is left of the first";
  EXPECT_EQ(TakeNow(queue, 8), (std::vector<int64_t>{8}));
}

TEST(JobQueueTest, JobsThatMustRunAloneDo) {
  JobQueue queue;
  JobPtr alone = Job(1, 0);
  alone->alone = true;
  queue.Push(std::move(alone));
  queue.Push(Job(1, 1));
  EXPECT_EQ(TakeNow(queue, 8), (std::vector<int64_t>{1}));
  EXPECT_EQ(queue.rows(), 1);
}

TEST(JobQueueTest, TheCancelledAndTheLateLeave) {
  JobQueue queue;
  JobPtr cancelled = Job(1, 0), late = Job(2, 0);
  cancelled->job.cancelled = std::make_shared<std::atomic<bool>>(true);
  late->job.deadline = kStart + milliseconds(5);
  queue.Push(std::move(cancelled));
  queue.Push(std::move(late));
  queue.Push(Job(4, 0));
  EXPECT_EQ(queue.NextDeadline(), kStart + milliseconds(5));
  EXPECT_EQ(RowsOf(queue.TakeDead(kStart)), (std::vector<int64_t>{1}));
  EXPECT_EQ(RowsOf(queue.TakeDead(kStart + milliseconds(5))), (std::vector<int64_t>{2}));
  EXPECT_EQ(queue.NextDeadline(), std::nullopt);
  EXPECT_EQ(RowsOf(queue.TakeAll()), (std::vector<int64_t>{4}));
}

TEST(JobQueueTest, WaitsUntilTheEarliestGroupIsDue) {
  JobQueue queue;
  queue.Push(Job(20, 45, 2));
  queue.Push(Job(1, 46, 3));
  const auto choice = Take(queue, 50, "time-window");
  EXPECT_TRUE(choice.batch.empty());
  EXPECT_EQ(choice.until, kStart + milliseconds(55));
}

TEST(JobQueueTest, TheCancelledAreMetOnTheWay) {
  JobQueue queue;
  const auto flag = std::make_shared<std::atomic<bool>>(false);
  for (int i = 1; i <= 3; ++i) {
    JobPtr job = Job(i, i);
    if (i < 3) job->job.cancelled = flag;
    queue.Push(std::move(job));
  }
  *flag = true;
  const auto choice = Take(queue, 8);
  EXPECT_EQ(RowsOf(choice.batch), (std::vector<int64_t>{3}));
  EXPECT_EQ(RowsOf(choice.dropped), (std::vector<int64_t>{1, 2}));
  EXPECT_EQ(queue.rows(), 0);
}

TEST(JobQueueTest, PriorityThenDueThenArrival) {
  JobQueue queue;
  queue.Push(Job(1, 0, 2, 8));
  queue.Push(Job(2, 1, 2, 0));
  queue.Push(Job(3, 2, 2, 4));
  JobPtr hurried = Job(4, 3, 2, 4);
  hurried->due = kStart + milliseconds(10);
  queue.Push(std::move(hurried));
  queue.Push(Job(5, 4, 2, 1));
  queue.Push(Job(6, 5, 2, 1000));
  EXPECT_EQ(TakeNow(queue, 100), (std::vector<int64_t>{5, 4, 2, 3, 1, 6}));
}

TEST(JobQueueTest, APriorityOfAnotherKindGoesFirst) {
  JobQueue queue;
  queue.Push(Job(1, 0, 2, 4));
  queue.Push(Job(2, 1, 3, 2));
  EXPECT_EQ(TakeNow(queue, 8), (std::vector<int64_t>{2}));
}

// High priority fills every run, and still a tenth is for the others.
TEST(JobQueueTest, LowPriorityDoesNotStarve) {
  for (const int64_t low_width : {2, 3}) {  // in the same group, and in another
    JobQueue queue;
    for (int i = 0; i < 50; ++i) queue.Push(Job(1, i, low_width, 8));
    int64_t low = 0, high = 0;
    for (int run = 0; run < 100; ++run) {
      for (int i = 0; i < 10; ++i) queue.Push(Job(1, 100 + run, 2, 1));
      for (const JobPtr& job : Take(queue, 10).batch) ++(job->level == 7 ? low : high);
    }
    EXPECT_GE(low, 45) << low_width;
    EXPECT_GE(high, 890) << low_width;
  }
}

TEST(JobQueueTest, LateJobsStandBehindAndLeaveAtTheirLimit) {
  LatencyModel latency;
  latency.Observe(1, milliseconds(8));
  latency.Observe(10, milliseconds(10));
  JobQueue queue;
  for (int i = 0; i < 3; ++i) {
    JobPtr job = Job(1 + i, i);
    job->due = kStart + milliseconds(i == 2 ? 70 : 40);
    queue.Push(std::move(job));
  }
  const JobQueue::Outlook outlook{.latency = &latency, .late_limit = milliseconds(100)};
  const auto choice = queue.Take(*FindBatchPolicy("adaptive"), {.max_batch = 3}, outlook,
                                 kStart + milliseconds(50));
  EXPECT_EQ(RowsOf(choice.batch), (std::vector<int64_t>{3}));
  EXPECT_EQ(queue.late_rows(), 3);
  EXPECT_EQ(queue.rows(), 3);
  EXPECT_EQ(queue.NextDeadline(), kStart + milliseconds(140));
  EXPECT_EQ(RowsOf(queue.TakeLate(1)), (std::vector<int64_t>{1}));
  EXPECT_EQ(RowsOf(queue.TakeDead(kStart + milliseconds(140))), (std::vector<int64_t>{2}));
  EXPECT_TRUE(queue.empty());
}

// Every way in and out, against a plain list.
TEST(JobQueueTest, NothingIsLostOrCountedTwice) {
  uint64_t state = 1;
  const auto draw = [&state](uint64_t below) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (state >> 33) % below;
  };
  JobQueue queue;
  std::vector<std::shared_ptr<std::atomic<bool>>> flags;
  int64_t in = 0, out = 0;
  const auto count_out = [&](const std::vector<JobPtr>& jobs) {
    for (const JobPtr& job : jobs) out += job->rows;
  };
  for (int step = 0; step < 20000; ++step) {
    const TimePoint now = kStart + milliseconds(step);
    if (draw(4) < 3) {
      JobPtr job = Job(1 + static_cast<int64_t>(draw(5)), step, 2 + static_cast<int64_t>(draw(20)),
                       draw(10));
      job->alone = draw(10) == 0;
      job->due = now + milliseconds(draw(400));
      if (draw(3) == 0) job->job.deadline = now + milliseconds(draw(2000));
      if (draw(3) == 0) flags.push_back(job->job.cancelled = std::make_shared<std::atomic<bool>>());
      in += job->rows;
      queue.Push(std::move(job));
    } else {
      auto choice = Take(queue, 16, BatchPolicies()[draw(4)].name, now);
      count_out(choice.batch);
      count_out(choice.dropped);
    }
    if (draw(10) == 0) count_out(queue.TakeDead(now));
    if (draw(50) == 0) count_out(queue.TakeLate(3));
    if (!flags.empty() && draw(5) == 0) *flags[draw(flags.size())] = true;
    ASSERT_EQ(queue.rows(), in - out);
    ASSERT_EQ(queue.empty(), in == out);
  }
  count_out(queue.TakeAll());
  EXPECT_EQ(in, out);
  EXPECT_EQ(queue.rows(), 0);
}

// With ten thousand waiting, a wake-up looks at a few of them only: what it finds cancelled in one
// look is bounded, and all are found in the end.
TEST(JobQueueTest, AWakeUpLooksAtFewOfMany) {
  JobQueue queue;
  const auto flag = std::make_shared<std::atomic<bool>>(false);
  constexpr size_t kJobs = 10000;
  for (size_t i = 0; i < kJobs; ++i) {
    JobPtr job = Job(1, static_cast<int>(i));
    job->job.cancelled = flag;
    queue.Push(std::move(job));
  }
  *flag = true;
  size_t found = 0, looks = 0;
  for (; !queue.empty(); ++looks) {
    const size_t dead = queue.TakeDead(kStart).size();
    ASSERT_LE(dead, 64u);
    ASSERT_GT(dead, 0u);
    found += dead;
  }
  EXPECT_EQ(found, kJobs);
}

TEST(SortedJobsTest, AgainstAPlainSort) {
  uint64_t state = 7;
  const auto draw = [&state](uint64_t below) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (state >> 33) % below;
  };
  std::vector<JobPtr> jobs;
  std::vector<std::pair<TimePoint, QueuedJob*>> plain;
  SortedJobs sorted;
  for (uint64_t step = 0; step < 5000; ++step) {
    if (plain.empty() || draw(100) < (step < 2500 ? 60u : 40u)) {
      jobs.push_back(Job(1, 0));
      jobs.back()->sequence = step;
      const TimePoint key = kStart + milliseconds(draw(3) == 0 ? draw(1000) : step);
      const auto at = std::upper_bound(plain.begin(), plain.end(), key,
                                       [](TimePoint k, const auto& e) { return k < e.first; });
      plain.insert(at, {key, jobs.back().get()});
      sorted.Insert(key, jobs.back().get());
    } else {
      const auto at =
          plain.begin() + static_cast<std::ptrdiff_t>(draw(2) == 0 ? 0 : draw(plain.size()));
      sorted.Erase(at->first, at->second);
      plain.erase(at);
    }
    ASSERT_EQ(sorted.size(), plain.size());
    for (size_t i = 0; i < plain.size(); i += 1 + plain.size() / 16)
      ASSERT_EQ(sorted[i].job, plain[i].second);
  }
}

}  // namespace
}  // namespace minim::serve
