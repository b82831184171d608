#include "serve/fallback/tier_chain.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace minim::serve {
namespace {

using std::chrono::seconds;
using testing::ElementsAre;

class TierChainTest : public testing::Test {
 protected:
  TierChain Make(double shadow = 0.5) {
    return TierChain({{.name = "int8"},
                      {.name = "bf16", .eligible = false, .reason = "slower"},
                      {.name = "fp32"},
                      {.name = "reference"}},
                     {.shadow = shadow, .probation = seconds(10)},
                     [this](const std::string& tier, const std::string& reason) {
                       heard_.push_back(tier + (reason.empty() ? " back" : " demoted"));
                     });
  }
  const TimePoint now_ = Clock::now();
  std::vector<std::string> heard_;
};

TEST_F(TierChainTest, TriesWhatIsEligibleInTurn) {
  TierChain chain = Make();
  EXPECT_EQ(chain.First(), "int8");
  EXPECT_EQ(chain.After("int8"), "fp32");
  EXPECT_EQ(chain.After("fp32"), "reference");
  EXPECT_FALSE(chain.After("reference"));
  EXPECT_FALSE(chain.After("absent"));
  EXPECT_EQ(chain.Describe()[1].state, "not offered");
  EXPECT_EQ(chain.Describe()[0].state, "serving");
}

TEST_F(TierChainTest, FailuresInARowDemote) {
  TierChain chain = Make();
  chain.Failed("int8", "boom", now_);
  chain.Failed("int8", "boom", now_);
  chain.Answered("int8");
  chain.Failed("int8", "boom", now_);
  chain.Failed("int8", "boom", now_);
  EXPECT_EQ(chain.First(), "int8");
  chain.Failed("int8", "boom", now_);
  EXPECT_EQ(chain.First(), "fp32");
  EXPECT_THAT(heard_, ElementsAre("int8 demoted"));
  for (int i = 0; i < 10; ++i) chain.Failed("fp32", "boom", now_);
  EXPECT_EQ(chain.First(), "fp32") << "there is nothing better";
}

TEST_F(TierChainTest, ComparesTheFirstAnswersThenAShare) {
  TierChain chain = Make(0.5);
  EXPECT_EQ(chain.RunBeside("int8", 0.9, now_), "fp32");
  chain.Compared("int8", {.rows = 40}, 0, now_);
  EXPECT_FALSE(chain.RunBeside("int8", 0.9, now_));
  EXPECT_EQ(chain.RunBeside("int8", 0.4, now_), "fp32");
  EXPECT_FALSE(chain.RunBeside("fp32", 0.0, now_));
  EXPECT_FALSE(Make(0).RunBeside("int8", 0.0, now_)) << "switched off";
}

TEST_F(TierChainTest, ADriftingTierComesBackByProbationAndWaitsLongerEachTime) {
  TierChain chain = Make();
  chain.Compared("int8", {.rows = 8, .differing = 8}, 0, now_);
  EXPECT_EQ(chain.First(), "fp32");
  EXPECT_FALSE(chain.RunBeside("fp32", 0, now_ + seconds(9)));
  const TimePoint later = now_ + seconds(10);
  EXPECT_EQ(chain.RunBeside("fp32", 0.99, later), "int8");
  chain.Compared("int8", {.rows = 9, .differing = 9}, 0, later);
  EXPECT_EQ(chain.First(), "fp32");
  EXPECT_FALSE(chain.RunBeside("fp32", 0, later + seconds(19)));
  const TimePoint third = later + seconds(20);
  EXPECT_EQ(chain.RunBeside("fp32", 0, third), "int8");
  chain.Compared("int8", {.rows = 30}, 0, third);
  EXPECT_EQ(chain.First(), "fp32");
  chain.Compared("int8", {.rows = 30}, 0, third);
  EXPECT_EQ(chain.First(), "int8");
  EXPECT_THAT(heard_, ElementsAre("int8 demoted", "int8 back"));
  EXPECT_EQ(chain.Describe()[0].compared_rows, 77);
}

TEST_F(TierChainTest, SlownessAndNonFiniteDemote) {
  TierChain slow = Make();
  for (int i = 0; i < 40; ++i) slow.Compared("int8", {.rows = 1}, 2.0, now_);
  EXPECT_EQ(slow.First(), "fp32");
  EXPECT_THAT(slow.Describe()[0].reason, testing::HasSubstr("2.00 times"));
  TierChain wrong = Make();
  wrong.GaveNonFinite("int8", now_);
  EXPECT_EQ(wrong.First(), "fp32");
}

TEST_F(TierChainTest, WhatTheGateSawIsAllowedToo) {
  TierChain chain({{.name = "int8", .disagreement = 0.6}, {.name = "fp32"}},
                  {.max_disagreement = 0.02}, nullptr);
  for (int i = 0; i < 300; ++i) chain.Compared("int8", {.rows = 2, .differing = 1}, 0, now_);
  EXPECT_EQ(chain.First(), "int8");
}

}  // namespace
}  // namespace minim::serve
