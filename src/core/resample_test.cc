// The geometry of Resize against values worked out by hand.
#include "core/resample.h"

#include <gtest/gtest.h>

namespace minim::resample {
namespace {

Attributes Mode(const char* mode, const char* coordinates) {
  return {{"mode", std::string(mode)},
          {"coordinate_transformation_mode", std::string(coordinates)}};
}

// One axis of `x` under `scale`; -1 where it is extrapolated.
std::vector<double> Resized(const Attributes& a, const std::vector<double>& x, double scale,
                            const std::vector<double>& roi = {}) {
  const Dims dims{static_cast<int64_t>(x.size())};
  const auto plans = ResizePlans(a, dims, TargetsFromScales(a, dims, {scale}), roi);
  EXPECT_EQ(plans.size(), 1u);
  std::vector<double> y;
  for (const std::vector<Tap>& taps : plans[0].taps) {
    y.push_back(taps.empty() ? -1 : 0);
    for (const Tap& tap : taps) y.back() += tap.weight * x[tap.place];
  }
  return y;
}

void ExpectValues(const std::vector<double>& actual, const std::vector<double>& expected) {
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t i = 0; i < actual.size(); ++i) EXPECT_NEAR(actual[i], expected[i], 1e-6) << i;
}

TEST(ResampleTest, PlacesAndWeights) {
  ExpectValues(Resized(Mode("linear", "half_pixel"), {1, 2, 3, 4}, 2),
               {1, 1.25, 1.75, 2.25, 2.75, 3.25, 3.75, 4});
  ExpectValues(Resized(Mode("linear", "align_corners"), {1, 4}, 2), {1, 2, 3, 4});
  ExpectValues(Resized(Mode("nearest", "asymmetric"), {1, 2}, 2), {1, 1, 2, 2});
  Attributes smooth = Mode("linear", "half_pixel");
  smooth.Set("antialias", int64_t{1});
  // A triangle of reach 2: the last two places both lie on the edge.
  ExpectValues(Resized(smooth, {1, 2, 3, 4}, 0.5), {(0.25 + 0.75 * 1 + 0.75 * 2 + 0.25 * 3) / 2,
                                                    (0.25 * 2 + 0.75 * 3 + 0.75 * 4 + 1) / 2});
  ExpectValues(Resized(Mode("linear", "tf_crop_and_resize"), {1, 2, 3}, 1, {-0.5, 1}),
               {-1, 1.5, 3});
}

TEST(ResampleTest, SizesKeepTheAspectRatio) {
  Attributes a = Mode("nearest", "half_pixel");
  a.Set("keep_aspect_ratio_policy", std::string("not_larger"));
  const auto targets = TargetsFromSizes(a, Dims{2, 4}, {7, 8});
  EXPECT_EQ(targets[0].size, 4);
  EXPECT_EQ(targets[1].size, 8);
  EXPECT_EQ(ScaledSize(10, 0.6), 6);
}

}  // namespace
}  // namespace minim::resample
