#include "compress/gate.h"

#include <gtest/gtest.h>

namespace minim {
namespace {

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
    std::vector<int64_t> labels(c.samples, 1), reference = labels, variant = labels;
    for (int64_t i = 0; i < c.wrong_in_variant; ++i) variant[i] = 0;
    const GateResult result = JudgeAccuracy(reference, variant, labels, c.max_loss);
    EXPECT_EQ(result.verdict, c.expected) << c.wrong_in_variant;
    EXPECT_NEAR(result.relative_loss.mean,
                static_cast<double>(c.wrong_in_variant) / static_cast<double>(c.samples), 1e-12);
    EXPECT_NEAR(result.agreement, result.variant_accuracy, 1e-9);
  }
}

TEST(GateTest, UndecidedSaysHowManySamplesWouldDo) {
  std::vector<int64_t> labels(200, 1), variant = labels;
  for (int i = 0; i < 2; ++i) variant[i] = 0;
  const GateResult result = JudgeAccuracy(labels, variant, labels, 0.02);
  ASSERT_EQ(result.verdict, Verdict::kUndecided);
  EXPECT_GT(result.samples_needed, 200);
}

}  // namespace
}  // namespace minim
