#include "compress/gate.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "core/philox.h"

namespace minim {
namespace {

Measured Of(std::vector<double> each) {
  double sum = 0;
  for (double v : each) sum += v;
  return {sum / static_cast<double>(each.size()), std::move(each)};
}

// So many samples of which the reference has all right.
GateResult JudgeWrong(int64_t samples, int64_t wrong_in_variant, double max_loss) {
  std::vector<double> reference(samples, 1), variant = reference;
  for (int64_t i = 0; i < wrong_in_variant; ++i) variant[i] = 0;
  return Judge(Metric::Parse("accuracy").value(), Of(reference), Of(variant), max_loss);
}

struct Outcome {
  int64_t samples, wrong_in_variant;
  double max_loss;
  Verdict expected;
};

TEST(GateTest, DecidesByTheWholeInterval) {
  for (const Outcome& c : {Outcome{10000, 0, 0.02, Verdict::kPass},
                           {10000, 100, 0.02, Verdict::kPass},
                           {10000, 1000, 0.02, Verdict::kFail},
                           {200, 4, 0.02, Verdict::kUndecided}}) {
    const GateResult result = JudgeWrong(c.samples, c.wrong_in_variant, c.max_loss);
    EXPECT_EQ(result.verdict, c.expected) << c.wrong_in_variant;
    EXPECT_NEAR(result.relative_loss.mean,
                static_cast<double>(c.wrong_in_variant) / static_cast<double>(c.samples), 1e-12);
  }
}

TEST(GateTest, EqualAnswersOnFewSamplesProveLittle) {
  EXPECT_EQ(JudgeWrong(20, 0, 0.02).verdict, Verdict::kUndecided);
  EXPECT_EQ(JudgeWrong(500, 0, 0.02).verdict, Verdict::kPass);
}

TEST(GateTest, UndecidedSaysHowManySamplesWouldDo) {
  const GateResult result = JudgeWrong(200, 2, 0.02);
  ASSERT_EQ(result.verdict, Verdict::kUndecided);
  EXPECT_GT(result.samples_needed, 200);
  EXPECT_EQ(JudgeWrong(result.samples_needed * 3 / 2, result.samples_needed / 67, 0.02).verdict,
            Verdict::kPass);
}

TEST(GateTest, OfErrorsLessIsBetter) {
  const Metric mse = Metric::Parse("mse").value();
  std::vector<double> reference, worse, better;
  const Philox rng(1);
  for (int i = 0; i < 1000; ++i) {
    reference.push_back(1 + rng.Uniform(static_cast<uint64_t>(i)));
    worse.push_back(reference.back() * 1.1);
    better.push_back(reference.back() * 0.9);
  }
  EXPECT_EQ(Judge(mse, Of(reference), Of(worse), 0.02).verdict, Verdict::kFail);
  EXPECT_EQ(Judge(mse, Of(reference), Of(better), 0.02).verdict, Verdict::kPass);
  EXPECT_NEAR(Judge(mse, Of(reference), Of(worse), 0.02).relative_loss.mean, 0.1, 1e-9);
  worse[7] = std::numeric_limits<double>::quiet_NaN();
  EXPECT_EQ(Judge(mse, Of(reference), Of(worse), 0.02).verdict, Verdict::kFail);
}

TEST(GateTest, WhatTheReferenceHasNoneOfIsLostAbsolutely) {
  const Metric kl = Metric::Parse("kl").value();
  const std::vector<double> none(100, 0.0), some(100, 0.01);
  EXPECT_EQ(Judge(kl, Of(none), Of(some), 0.02).verdict, Verdict::kPass);
  EXPECT_EQ(Judge(kl, Of(none), Of(some), 0.005).verdict, Verdict::kFail);
}

}  // namespace
}  // namespace minim
