#include "serve/rollout/rollout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/philox.h"

namespace minim::serve {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;

class RolloutTest : public testing::Test {
 protected:
  // One request: which version answered. What runs beside disagrees with probability `differs`.
  int64_t Ask(Rollout& rollout, double fails = 0, double differs = 0) {
    const int64_t version = rollout.Pick("", Draw());
    rollout.Answered(version, version != 2 || Draw() >= fails, milliseconds(3));
    if (rollout.RunBeside(version, Draw()))
      rollout.Compared(version, {.rows = 1, .differing = Draw() < differs}, 0.5);
    return version;
  }
  int CandidateShare(Rollout& rollout, int requests, double fails = 0, double differs = 0) {
    int count = 0;
    for (int i = 0; i < requests; ++i) count += Ask(rollout, fails, differs) == 2;
    return count;
  }
  double Draw() { return rng_.Uniform(drawn_++); }

  const Philox rng_{11};
  uint64_t drawn_ = 0;
  std::vector<std::string> events_;
  Rollout::Listener listener_ = [this](const std::string& event) { events_.push_back(event); };
  RolloutConfig gradual_{.mode = RolloutMode::kGradual};
};

TEST_F(RolloutTest, LatestIsTheDefault) {
  Rollout rollout("m", {}, listener_);
  rollout.SetVersions({1});
  EXPECT_EQ(rollout.Pick("", 0.5), 1);
  rollout.SetVersions({1, 2});
  EXPECT_EQ(rollout.Pick("", 0.99), 2);
  EXPECT_EQ(rollout.Pick("someone", 0.99), 2);
  EXPECT_FALSE(rollout.RunBeside(2, 0));
}

TEST_F(RolloutTest, SplitsByWeightOverWhatIsThere) {
  Rollout rollout("m", {.mode = RolloutMode::kSplit, .weights = {{1, 1}, {2, 3}, {9, 96}}},
                  listener_);
  rollout.SetVersions({1, 2});
  EXPECT_NEAR(CandidateShare(rollout, 4000), 3000, 120);
  const int64_t of_ann = rollout.Pick("ann", 0);
  for (int i = 0; i < 20; ++i) EXPECT_EQ(rollout.Pick("ann", i / 20.0), of_ann);
}

TEST_F(RolloutTest, AGoodVersionGoesThroughAllStages) {
  Rollout rollout("m", gradual_, listener_);
  rollout.SetVersions({1, 2});
  EXPECT_NEAR(CandidateShare(rollout, 1000), 100, 35);
  CandidateShare(rollout, 6000);
  EXPECT_EQ(rollout.Describe().state, "completed");
  EXPECT_EQ(CandidateShare(rollout, 100), 100);
  ASSERT_EQ(events_.size(), 3u);
  EXPECT_THAT(events_[0], HasSubstr("50 %"));
  EXPECT_THAT(events_[2], HasSubstr("in full use"));
  EXPECT_NEAR(rollout.Describe().versions[1].score_difference.mean, 0.5, 1e-9);
}

TEST_F(RolloutTest, ABadVersionIsRolledBackWithUnderATenthOfTheRequests) {
  for (const auto& [fails, differs] : {std::pair(1.0, 0.0), {0.2, 0.0}, {0.0, 1.0}, {0.0, 0.5}}) {
    Rollout rollout("m", gradual_, listener_);
    rollout.SetVersions({1, 2});
    EXPECT_LT(CandidateShare(rollout, 5000, fails, differs), 250);
    EXPECT_EQ(rollout.Describe().state, "rolled back") << fails << " " << differs;
    EXPECT_EQ(CandidateShare(rollout, 500), 0);
    rollout.SetVersions({1, 2});
    EXPECT_EQ(CandidateShare(rollout, 500), 0) << "a reload does not bring it back";
    rollout.SetVersions({1, 3});
    EXPECT_EQ(rollout.Describe().state, "running") << "another version has its own chance";
  }
  EXPECT_THAT(events_[0], HasSubstr("version 2 rolled back to 1: 3 of 3 requests failed"));
}

TEST_F(RolloutTest, ShadowAnswersWithTheOldVersion) {
  Rollout rollout("m", {.mode = RolloutMode::kShadow, .compare = 1}, listener_);
  rollout.SetVersions({1, 2});
  EXPECT_EQ(CandidateShare(rollout, 100), 0);
  EXPECT_EQ(rollout.RunBeside(1, 0.5), 2);
  rollout.Compared(2, {.rows = 10, .differing = 2}, 0);
  EXPECT_EQ(rollout.Describe().versions[1].differing_rows, 2);
}

TEST_F(RolloutTest, HandsMayDecide) {
  Rollout rollout("m", gradual_, listener_);
  rollout.SetVersions({1, 2});
  rollout.RollBack("asked to");
  EXPECT_EQ(CandidateShare(rollout, 100), 0);
  rollout.Promote();
  EXPECT_EQ(CandidateShare(rollout, 100), 100);
  rollout.Restart();
  EXPECT_EQ(rollout.Describe().state, "running");
  EXPECT_LT(CandidateShare(rollout, 100), 30);
}

}  // namespace
}  // namespace minim::serve
