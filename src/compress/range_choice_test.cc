#include "compress/range_choice.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "core/philox.h"

namespace minim {
namespace {

ValueProfile ProfileOf(const std::vector<float>& values) {
  ValueProfile p{.counts = std::vector<int64_t>(kHistogramBins, 0)};
  p.low = *std::min_element(values.begin(), values.end());
  p.high = *std::max_element(values.begin(), values.end());
  const double per_unit = p.high > p.low ? kHistogramBins / (double{p.high} - p.low) : 0;
  for (float x : values) {
    ++p.counts[std::min(kHistogramBins - 1, static_cast<int>((double{x} - p.low) * per_unit))];
    p.zeros += x == 0;
  }
  return p;
}

std::vector<float> Normal(int n, uint64_t seed = 1) {
  std::vector<float> values(static_cast<size_t>(n));
  const Philox rng(seed);
  for (size_t i = 0; i < values.size(); ++i) values[i] = rng.Normal(i);
  return values;
}

std::vector<float> Relu(std::vector<float> values) {
  for (float& x : values) x = std::max(x, 0.0f);
  return values;
}

// The mean squared error of covering [low, high], element by element.
double ErrorOf(const std::vector<float>& values, const Range& range, bool symmetric) {
  const double scale =
      symmetric ? double{range.high} / 127 : (double{range.high} - range.low) / 255;
  const double zero = symmetric ? 0 : std::nearbyint(-range.low / scale);
  double sum = 0;
  for (float x : values) {
    const double step = symmetric ? std::clamp(std::nearbyint(x / scale), -127.0, 127.0)
                                  : std::clamp(std::nearbyint(x / scale), -zero, 255 - zero);
    sum += std::pow(step * scale - x, 2);
  }
  return sum / static_cast<double>(values.size());
}

TEST(RangeChoiceTest, NamesAndBack) {
  for (Calibrator calibrator : kCalibrators)
    EXPECT_EQ(ParseCalibrator(CalibratorName(calibrator)).value(), calibrator);
  const auto unknown = ParseCalibrator("median");
  EXPECT_EQ(unknown.status().code(), StatusCode::kInvalidArgument);
  EXPECT_NE(unknown.status().message().find("moving-average"), std::string::npos);
}

TEST(RangeChoiceTest, EveryRangeHolds0AndLiesWithinTheProfile) {
  for (auto values : {std::vector<float>{5, 6, 7, 7.5f},
                      {-3, -2, -2.5f},
                      {0, 0, 0},
                      {4, 4, 4},
                      {-1, 100},
                      Normal(1000),
                      Relu(Normal(1000))}) {
    ValueProfile p = ProfileOf(values);
    p.average_low = p.low, p.average_high = p.high;
    for (Calibrator calibrator : kCalibrators) {
      for (bool symmetric : {false, true}) {
        const Range r = ChooseRange(p, calibrator, 99.99, symmetric);
        EXPECT_LE(r.low, 0);
        EXPECT_GE(r.high, 0);
        const float reach = std::max(std::fabs(p.low), std::fabs(p.high));
        EXPECT_GE(r.low, symmetric ? -reach : std::min(p.low, 0.0f));
        EXPECT_LE(r.high, symmetric ? reach : std::max(p.high, 0.0f));
        EXPECT_TRUE(!symmetric || r.low == -r.high);
        EXPECT_TRUE(reach == 0 || r.high > r.low) << CalibratorName(calibrator);
      }
    }
  }
}

TEST(RangeChoiceTest, MinMaxAndMovingAverageAreTheProfiles) {
  ValueProfile p = ProfileOf({-1, 0.5f, 3});
  p.average_low = -0.5;
  p.average_high = 2;
  EXPECT_EQ(ChooseRange(p, Calibrator::kMinMax), (Range{-1, 3}));
  EXPECT_EQ(ChooseRange(p, Calibrator::kMovingAverage), (Range{-0.5f, 2}));
  EXPECT_EQ(ChooseRange(p, Calibrator::kMinMax, 99.99, true), (Range{-3, 3}));
}

TEST(RangeChoiceTest, PercentileCutsEachEndByItself) {
  std::vector<float> values;
  for (int i = 0; i < 10000; ++i) values.push_back(static_cast<float>(i) / 1000 - 2);  // -2 to 8
  const ValueProfile p = ProfileOf(values);
  const Range r = ChooseRange(p, Calibrator::kPercentile, 99);
  EXPECT_NEAR(r.low, -1.9, 0.01);
  EXPECT_NEAR(r.high, 7.9, 0.01);
  EXPECT_EQ(ChooseRange(p, Calibrator::kPercentile, 100), (Range{p.low, p.high}));
  const Range one_sided = ChooseRange(ProfileOf(Relu(values)), Calibrator::kPercentile, 99);
  EXPECT_EQ(one_sided.low, 0);
  EXPECT_NEAR(one_sided.high, 7.9, 0.01);
}

// As good as the best of many ranges that are tried on the elements themselves.
TEST(RangeChoiceTest, MseFindsTheLeastErrorThatThereIs) {
  std::vector<float> skewed = Normal(20000);
  for (float& x : skewed) x = std::exp(x) - 1;  // a long tail to the right
  std::vector<float> spiked = Normal(20000);
  spiked[7] = 12;
  for (const auto& values : {Normal(20000), Relu(Normal(20000)), skewed, spiked}) {
    for (bool symmetric : {false, true}) {
      const ValueProfile p = ProfileOf(values);
      const double found =
          ErrorOf(values, ChooseRange(p, Calibrator::kMse, 99.99, symmetric), symmetric);
      double best = INFINITY;
      for (int i = 1; i <= 20; ++i) {
        for (int j = 0; j <= 20; ++j) {
          Range tried{std::min(p.low, 0.0f) * static_cast<float>(j) / 20,
                      p.high * static_cast<float>(i) / 20};
          if (symmetric) tried.low = -tried.high;
          best = std::min(best, ErrorOf(values, tried, symmetric));
          if (symmetric || p.low >= 0) break;
        }
      }
      EXPECT_LT(found, best * 1.05);
      EXPECT_LE(found,
                ErrorOf(values, ChooseRange(p, Calibrator::kMinMax, 99.99, symmetric), symmetric) *
                    1.001);
    }
  }
}

TEST(RangeChoiceTest, EntropyCutsALongTailButNotAnEvenSpread) {
  std::vector<float> even;
  for (int i = 0; i < 100000; ++i) even.push_back(static_cast<float>(i) / 50000 - 1);
  const Range all = ChooseRange(ProfileOf(even), Calibrator::kEntropy);
  EXPECT_LT(all.low, -0.98);
  EXPECT_GT(all.high, 0.98);
  std::vector<float> tail = Normal(100000);
  tail[3] = 40;
  const Range cut = ChooseRange(ProfileOf(tail), Calibrator::kEntropy);
  EXPECT_LT(cut.high, 12);
  EXPECT_GT(cut.high, 2.5);
  EXPECT_LT(cut.low, -3.5);  // this side has no tail
}

// Zeros of a Relu are exact whatever the range: their number changes nothing.
TEST(RangeChoiceTest, ZerosDoNotMoveTheEntropy) {
  const std::vector<float> some = Relu(Normal(100000));
  std::vector<float> many = some;
  many.insert(many.end(), 1000000, 0.0f);
  const Range range = ChooseRange(ProfileOf(some), Calibrator::kEntropy);
  EXPECT_EQ(ChooseRange(ProfileOf(many), Calibrator::kEntropy), range);
  EXPECT_EQ(range.low, 0);
  EXPECT_GT(range.high, 2);
}

}  // namespace
}  // namespace minim
