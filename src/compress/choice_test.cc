#include "compress/choice.h"

#include <gtest/gtest.h>

namespace minim {
namespace {

VariantReport Variant(const std::string& name, Verdict verdict, double loss, int64_t bytes,
                      double us1, double us32) {
  VariantReport v;
  v.name = name;
  v.gate.verdict = verdict;
  v.gate.relative_loss = {loss, loss, loss};
  v.gate.samples_needed = 700;
  v.bytes = bytes;
  const double one = us1 / 100, many = us32 / 1000;  // beside those of "fp32" below
  v.latency = {{1, {us1, us1, {one, one, one}}}, {32, {us32, us32, {many, many, many}}}};
  return v;
}

std::vector<VariantReport> Some() {
  return {Variant("fp32", Verdict::kUndecided, 0, 1000, 100, 1000),
          Variant("fast", Verdict::kPass, 0.01, 300, 50, 400),
          Variant("faster", Verdict::kFail, 0.5, 250, 25, 200),
          Variant("slow", Verdict::kPass, 0.001, 200, 150, 1200),
          Variant("batched", Verdict::kPass, 0.02, 400, 120, 700),
          Variant("noise", Verdict::kPass, 0.03, 500, 99, 1010),
          Variant("doubtful", Verdict::kUndecided, 0.02, 100, 20, 200)};
}

TEST(ChoiceTest, ForLatencyTheFastestThatPassesIsServedAndWhatIsSlowerNotKept) {
  auto variants = Some();
  EXPECT_EQ(ChooseVariants(variants, ShrinkGoal::kLatency, 0.03), "fast");
  const std::vector<bool> kept = {true, true, false, false, true, true, false};
  const std::vector<bool> frontier = {true, true, false, false, false, false, false};
  for (size_t i = 0; i < variants.size(); ++i) {
    EXPECT_EQ(variants[i].kept, kept[i]) << variants[i].name;
    EXPECT_EQ(variants[i].on_frontier, frontier[i]) << variants[i].name;
  }
  EXPECT_NE(variants[1].reason.find("2.00x faster than fp32 at batch 1"), std::string::npos);
  EXPECT_NE(variants[3].reason.find("not kept"), std::string::npos);
  EXPECT_NE(variants[6].reason.find("700 samples"), std::string::npos);
}

TEST(ChoiceTest, ForBytesASlowerOneMayBeServedAndSaysSo) {
  auto variants = Some();
  EXPECT_EQ(ChooseVariants(variants, ShrinkGoal::kBytes, 0.03), "slow");
  EXPECT_TRUE(variants[3].kept);
  EXPECT_NE(variants[3].reason.find("1.50x slower"), std::string::npos);
  EXPECT_FALSE(variants[2].kept);
}

TEST(ChoiceTest, AGainThatTheIntervalDoesNotShowIsNone) {
  auto variants = Some();
  variants[1].latency[1].ratio = {0.5, 0.2, 0.99};
  EXPECT_EQ(ChooseVariants(variants, ShrinkGoal::kLatency, 0.03), "fp32");
  EXPECT_TRUE(variants[1].kept);
  EXPECT_NE(variants[1].reason.find("within noise at batch 1"), std::string::npos);
}

TEST(ChoiceTest, WhatIsNeitherFasterNorSmallerIsNotKept) {
  auto variants = Some();
  variants.push_back(Variant("in name only", Verdict::kPass, 0, 990, 100, 1000));
  ChooseVariants(variants, ShrinkGoal::kLatency, 0.03);
  EXPECT_FALSE(variants.back().kept);
  EXPECT_NE(variants.back().reason.find("gains nothing"), std::string::npos);
  variants.back().asked_for = true;
  ChooseVariants(variants, ShrinkGoal::kLatency, 0.03);
  EXPECT_TRUE(variants.back().kept);
  variants.back().asked_for = false;
  variants.back().latency[32].ratio = {0.8, 0.7, 0.9};
  ChooseVariants(variants, ShrinkGoal::kLatency, 0.03);
  EXPECT_TRUE(variants.back().kept);
  ChooseVariants(variants, ShrinkGoal::kBytes, 0.03);
  EXPECT_FALSE(variants.back().kept);
}

TEST(ChoiceTest, NothingBetterLeavesTheReference) {
  auto variants = Some();
  variants.erase(variants.begin() + 1);
  EXPECT_EQ(ChooseVariants(variants, ShrinkGoal::kLatency, 0.03), "fp32");
  variants.resize(1);
  EXPECT_EQ(ChooseVariants(variants, ShrinkGoal::kBytes, 0.03), "fp32");
}

}  // namespace
}  // namespace minim
