#include "serve/batching/admission.h"

#include <gtest/gtest.h>

#include "core/philox.h"

namespace minim::serve {
namespace {

using std::chrono::milliseconds;

const TimePoint kNow = TimePoint() + std::chrono::hours(1);
constexpr BatchOptions kBounds = {.max_batch = 50, .latency_target = milliseconds(50)};

// 2 ms and 0.2 ms a row: 50 rows take 12 ms.
LatencyModel Affine() {
  LatencyModel latency;
  for (const int64_t rows : {1, 2, 4, 8, 16, 32, 50})
    latency.Observe(rows, FromSeconds(2e-3 + 0.2e-3 * static_cast<double>(rows)));
  return latency;
}

double AnswerMs(double rows, std::vector<int> free_ms, double rows_per_second = 0) {
  std::vector<TimePoint> free_at;
  for (const int ms : free_ms) free_at.push_back(kNow + milliseconds(ms));
  const LatencyModel latency = Affine();
  const Pace pace = PaceOf(kBounds, latency, rows_per_second);
  return ToSeconds(PredictAnswer({rows, free_at}, pace, latency, kNow) - kNow) * 1e3;
}

TEST(AdmissionTest, Table) {
  EXPECT_NEAR(AnswerMs(1, {-5}), 2.2, 1e-3) << "idle: its own run";
  EXPECT_NEAR(AnswerMs(1, {7}), 7 + 2.2, 1e-3) << "after the run in progress";
  EXPECT_NEAR(AnswerMs(50, {7}), 7 + 12, 1e-3) << "with those before it in one run";
  EXPECT_NEAR(AnswerMs(60, {7}), 7 + 12 + 4, 1e-3) << "after a full run";
  EXPECT_NEAR(AnswerMs(150, {0}), 3 * 12, 1e-3);
  EXPECT_NEAR(AnswerMs(60, {3, 7}), 7 + 4, 1e-3) << "two instances share the runs";
  EXPECT_NEAR(AnswerMs(1, {5}, 1000), 5 + 2 + 0.2 * 6, 1e-3) << "five more come until it runs";
  EXPECT_NEAR(AnswerMs(1, {5}, 1e9), 5 + 12, 1e-3) << "but no more than fit";
}

TEST(AdmissionTest, ColdEverythingIsPossible) {
  const LatencyModel latency;
  const std::vector<TimePoint> free_at = {kNow + milliseconds(5)};
  EXPECT_EQ(PredictAnswer({1000, free_at}, PaceOf(kBounds, latency, 10), latency, kNow), kNow);
  EXPECT_EQ(ReachableTarget(kBounds, latency), milliseconds(50));
}

TEST(AdmissionTest, NoBacklogOverflows) {
  EXPECT_GE(AnswerMs(1e300, {0}), 80e6);
  EXPECT_NEAR(AnswerMs(0, {0}), 2.2, 1e-3);
}

TEST(AdmissionTest, ATargetThatNoRunMeetsIsStretched) {
  LatencyModel latency;
  latency.Observe(1, milliseconds(80));
  EXPECT_EQ(ReachableTarget(kBounds, latency), milliseconds(160));
  EXPECT_EQ(PaceOf(kBounds, latency, 10).rows, 2) << "as many as fit into what can be met";
}

TEST(SendingTimeTest, FollowsWhatNearlyAllStayUnder) {
  SendingTime sending;
  EXPECT_EQ(sending.High(), Duration());
  const Philox rng(3);
  for (uint64_t i = 0; i < 20000; ++i) sending.Observe(FromSeconds(1e-3 * rng.Uniform(i)));
  EXPECT_NEAR(ToSeconds(sending.High()), 0.98e-3, 0.06e-3);
  for (int i = 0; i < 200; ++i) sending.Observe(std::chrono::milliseconds(5));
  EXPECT_GT(sending.High(), std::chrono::microseconds(4800)) << "slower is soon followed";
  for (int i = 0; i < 5000; ++i) sending.Observe(std::chrono::microseconds(50));
  EXPECT_LT(sending.High(), std::chrono::microseconds(55));
}

}  // namespace
}  // namespace minim::serve
