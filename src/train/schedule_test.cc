#include "train/schedule.h"

#include <gtest/gtest.h>

#include <cmath>

namespace minim {
namespace {

TEST(LearningRateTest, WarmUpIsLinearAndCosineEndsAtTheLeastRate) {
  const LearningRate rate({.kind = ScheduleKind::kCosine, .warmup_steps = 10, .min_rate = 0.2}, 2,
                          110, 11);
  EXPECT_DOUBLE_EQ(rate.At(0), 0.2);
  EXPECT_DOUBLE_EQ(rate.At(9), 2);
  EXPECT_DOUBLE_EQ(rate.At(10), 2);
  EXPECT_DOUBLE_EQ(rate.At(60), 1.1);
  EXPECT_DOUBLE_EQ(rate.At(110), 0.2);
  EXPECT_DOUBLE_EQ(rate.At(500), 0.2);
}

TEST(LearningRateTest, StepsByEpochs) {
  const LearningRate rate({.kind = ScheduleKind::kStep, .step_epochs = 2, .factor = 0.5}, 1, 100,
                          10);
  EXPECT_DOUBLE_EQ(rate.At(19), 1);
  EXPECT_DOUBLE_EQ(rate.At(20), 0.5);
  EXPECT_DOUBLE_EQ(rate.At(99), 0.0625);
}

// torch.optim.lr_scheduler.OneCycleLR(max_lr=1, total_steps=100)
TEST(LearningRateTest, OneCycleRisesAndFalls) {
  const LearningRate rate({.kind = ScheduleKind::kOneCycle}, 1, 100, 10);
  EXPECT_NEAR(rate.At(0), 0.04, 1e-12);
  EXPECT_DOUBLE_EQ(rate.At(29), 1);
  EXPECT_NEAR(rate.At(64), 0.5000020000, 1e-9);
  EXPECT_NEAR(rate.At(99), 4e-6, 1e-15);
  for (int i = 1; i < 100; ++i) EXPECT_EQ(rate.At(i) > rate.At(i - 1), i <= 29);
}

TEST(LearningRateTest, PlateauWaitsAndSurvivesSaving) {
  const ScheduleSpec spec{.kind = ScheduleKind::kPlateau, .min_rate = 0.05, .patience = 1};
  LearningRate rate(spec, 1, 100, 10);
  for (double loss : {1.0, 0.9, 0.91}) rate.EndEpoch(loss);
  EXPECT_DOUBLE_EQ(rate.At(0), 1);
  SavedValues saved;
  rate.Save(saved);
  LearningRate other(spec, 1, 100, 10);
  ASSERT_TRUE(other.Restore(saved).ok());
  other.EndEpoch(0.92);  // the second epoch without improvement
  EXPECT_DOUBLE_EQ(other.At(0), 0.1);
  for (int i = 0; i < 4; ++i) other.EndEpoch(1);
  EXPECT_DOUBLE_EQ(other.At(0), 0.05);
  EXPECT_FALSE(other.Restore({}).ok());
}

TEST(LearningRateTest, BadFieldsAreNamed) {
  const auto expect = [](const ScheduleSpec& spec, const std::string& part) {
    const std::string found = CheckSchedule(spec).message();
    EXPECT_NE(found.find("schedule: " + part), std::string::npos) << found;
  };
  expect({.warmup_steps = -1}, "warmup_steps is -1");
  expect({.min_rate = -0.5}, "min_rate is -0.5");
  expect({.step_epochs = 0}, "step_epochs is 0");
  expect({.factor = 1}, "factor is 1");
  expect({.rise = 0}, "rise is 0");
  expect({.first_divisor = 0.5}, "divisors are 0.5 and 10000");
  expect({.last_divisor = NAN}, "divisors are 25 and nan");
  expect({.patience = -1}, "patience is -1");
  EXPECT_TRUE(CheckSchedule({}).ok());
}

}  // namespace
}  // namespace minim
