#include "serve/batching/job_queue.h"

#include <gtest/gtest.h>

namespace minim::serve {
namespace {

using std::chrono::milliseconds;
const TimePoint kStart = TimePoint() + std::chrono::hours(1);

QueuedJob Job(int64_t rows, int at_ms, int64_t width = 2) {
  QueuedJob queued{.rows = rows, .arrival = kStart + milliseconds(at_ms)};
  queued.job.inputs.push_back(Tensor(DType::f32, {rows, width}));
  return queued;
}

std::vector<int64_t> RowsOf(const std::vector<QueuedJob>& jobs) {
  std::vector<int64_t> rows;
  for (const QueuedJob& job : jobs) rows.push_back(job.rows);
  return rows;
}

std::vector<int64_t> TakeNow(JobQueue& queue, int64_t cap) {
  BatcherOptions options;
  options.bounds.max_batch = cap;
  return RowsOf(queue.Take(options, LatencyModel(), 0, kStart + milliseconds(50)).batch);
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
  QueuedJob alone = Job(1, 0);
  alone.alone = true;
  queue.Push(std::move(alone));
  queue.Push(Job(1, 1));
  EXPECT_EQ(TakeNow(queue, 8), (std::vector<int64_t>{1}));
  EXPECT_EQ(queue.rows(), 1);
}

TEST(JobQueueTest, TheCancelledAndTheLateLeave) {
  JobQueue queue;
  QueuedJob cancelled = Job(1, 0), late = Job(2, 0);
  cancelled.job.cancelled = std::make_shared<std::atomic<bool>>(true);
  late.job.deadline = kStart + milliseconds(5);
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
  BatcherOptions options{.policy = *FindBatchPolicy("time-window")};
  JobQueue queue;
  queue.Push(Job(20, 45, 2));
  queue.Push(Job(1, 46, 3));
  const auto choice = queue.Take(options, LatencyModel(), 0, kStart + milliseconds(50));
  EXPECT_TRUE(choice.batch.empty());
  EXPECT_EQ(choice.until, kStart + milliseconds(55));
}

}  // namespace
}  // namespace minim::serve
