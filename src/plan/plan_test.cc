#include "plan/plan.h"

#include <gtest/gtest.h>

#include "graph/text.h"

namespace minim {
namespace {

Plan PlanOf(std::string_view text, std::vector<StepTraits> traits = {}) {
  Graph graph = ParseText(text).value();
  traits.resize(graph.nodes.size());
  return BuildPlan(std::move(graph), traits);
}

StepTraits InPlace() {
  StepTraits traits;
  traits.in_place_input = [](int) { return 0; };
  return traits;
}

Slot SlotOf(const Plan& plan, std::string_view name) {
  return plan.slots[plan.graph.FindValue(name)];
}

TEST(PlanTest, OutputsAreWrittenDirectlyAndBuffersShared) {
  const Plan plan = PlanOf(R"(graph "g"(x: f32[64]) -> (d) {
    a: f32[64] = Relu(x) b: f32[64] = Neg(a) c: f32[64] = Neg(b) d: f32[64] = Neg(c) })");
  EXPECT_EQ(SlotOf(plan, "d").place, Place::kOutput);
  EXPECT_EQ(plan.arena_bytes, 2 * 64 * sizeof(float));
  EXPECT_EQ(plan.arena_bytes, plan.live_bytes);
}

TEST(PlanTest, InPlaceStepsNeverOverwriteWhatIsReadLater) {
  const Plan plan = PlanOf(R"(graph "g"(x: f32[64]) -> (d) {
    a: f32[64] = Relu(x) b: f32[64] = Neg(a) c: f32[64] = Neg(b) d: f32[64] = Add(c, b) })",
                           {InPlace(), InPlace(), InPlace(), {}});
  EXPECT_EQ(SlotOf(plan, "a").where, SlotOf(plan, "b").where);
  EXPECT_NE(SlotOf(plan, "b").where, SlotOf(plan, "c").where);
  EXPECT_EQ(SlotOf(plan, "x").place, Place::kInput);
}

TEST(PlanTest, PassedThroughInputsAreCopied) {
  const Plan plan = PlanOf(R"(graph "g"(x: f32[4]) -> (x, y, y) { y: f32[4] = Neg(x) })");
  EXPECT_EQ(std::count_if(plan.steps.begin(), plan.steps.end(),
                          [](const Step& s) { return s.kind == StepKind::kCopy; }),
            2);
}

TEST(PlanTest, StatesAreUpdatedInPlaceOnlyAfterTheirReads) {
  const Plan safe = PlanOf(R"(graph "g"(x: f32[4]) -> (y) {
    state "w" (w -> w2: f32[4])
    y: f32[4] = Add(w, x) w2: f32[4] = Sub(w, x) })",
                           {{}, InPlace()});
  EXPECT_EQ(SlotOf(safe, "w2").place, Place::kState);
  const Plan late = PlanOf(R"(graph "g"(x: f32[4]) -> (y) {
    state "w" (w -> w2: f32[4])
    w2: f32[4] = Sub(w, x) y: f32[4] = Add(w, x) })",
                           {InPlace(), {}});
  EXPECT_EQ(SlotOf(late, "w2").place, Place::kArena);
  EXPECT_EQ(late.steps.back().kind, StepKind::kCopy);
}

// A step that may not write over its own input still spares the copy, once the old value is read.
TEST(PlanTest, NextValuesGoStraightToStatesThatNobodyReadsAnyMore) {
  const Plan after = PlanOf(R"(graph "g"(x: f32[4]) -> (y) {
    state "w" (w -> w2: f32[4])
    y: f32[4] = Neg(w) w2: f32[4] = Sub(y, x) })");
  EXPECT_EQ(SlotOf(after, "w2").place, Place::kState);
  EXPECT_EQ(after.steps.size(), 2u);
  const Plan meanwhile = PlanOf(R"(graph "g"(x: f32[4]) -> (y) {
    state "w" (w -> w2: f32[4])
    y: f32[4] = Neg(x) w2: f32[4] = Sub(w, y) })");
  EXPECT_EQ(SlotOf(meanwhile, "w2").place, Place::kArena);
  EXPECT_EQ(meanwhile.steps.back().kind, StepKind::kCopy);
}

// A condition must be known before a state is overwritten, and whoever reads what was written must
// be left out with it.
TEST(PlanTest, ConditionalStatesAreWrittenInPlaceOnlyWhenTheyMayBeSkipped) {
  const auto plan = [](const std::string& lines) {
    return PlanOf("graph \"g\"(x: f32[4], c: f32) -> (k) { state \"w\" (w -> w2 if ok: f32[4])\n" +
                      lines + "}",
                  {{}, InPlace(), {}});
  };
  const Plan good = plan("ok: bool = IsNaN(c) w2: f32[4] = Sub(w, x) k: f32[4] = Neg(x)");
  EXPECT_EQ(SlotOf(good, "w2").place, Place::kState);
  EXPECT_EQ(good.steps[1].commit_if, good.graph.FindValue("ok"));
  EXPECT_EQ(good.steps[2].commit_if, kNoValue);
  const Plan read = plan("ok: bool = IsNaN(c) w2: f32[4] = Sub(w, x) k: f32[4] = Neg(w2)");
  EXPECT_EQ(SlotOf(read, "w2").place, Place::kArena);
  EXPECT_EQ(read.steps.back().commit_if, read.graph.FindValue("ok"));
  const Plan late = plan("k: f32[4] = Neg(x) w2: f32[4] = Sub(w, x) ok: bool = IsNaN(c)");
  EXPECT_EQ(SlotOf(late, "w2").place, Place::kArena);
}

TEST(PlanTest, AliasesExtendTheirBuffersLife) {
  StepTraits alias;
  alias.kind = StepKind::kAlias;
  const Plan plan = PlanOf(R"(graph "g"(x: f32[4]) -> (d) {
    a: f32[4] = Relu(x) v: f32[2,2] = Flatten(a) c: f32[4] = Neg(x) d: f32[2,2] = Add(v, v) })",
                           {{}, alias, {}, {}});
  EXPECT_EQ(SlotOf(plan, "a").where, SlotOf(plan, "v").where);
  EXPECT_NE(SlotOf(plan, "c").where, SlotOf(plan, "a").where);
}

}  // namespace
}  // namespace minim
