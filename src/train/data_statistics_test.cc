#include "train/data_statistics.h"

#include <gtest/gtest.h>

#include <cmath>

#include "data/dataset.h"

namespace minim {
namespace {

Result<FeatureStatistics> Measure(const Tensor& samples) {
  ArraySource source({samples, Tensor(DType::i64, {samples.dims()[0]})});
  return MeasureFeatures(source);
}

TEST(MeasureFeaturesTest, OfRowsSequencesAndImages) {
  const FeatureStatistics rows =
      Measure(Tensor::From<float>({3, 2}, {1e6f, 7, 1e6f + 1, 7, 1e6f + 2, 7})).value();
  EXPECT_EQ(rows.shape, Dims({2}));
  EXPECT_DOUBLE_EQ(rows.mean[0], 1e6 + 1);
  EXPECT_DOUBLE_EQ(rows.deviation[0], std::sqrt(2.0 / 3));
  EXPECT_DOUBLE_EQ(rows.mean[1], 7);
  EXPECT_DOUBLE_EQ(rows.deviation[1], 1);
  const FeatureStatistics series =
      Measure(Tensor::From<float>({1, 3, 2}, {0, 5, 1, 6, 2, 7})).value();
  EXPECT_EQ(series.shape, Dims({2}));
  EXPECT_DOUBLE_EQ(series.mean[1], 6);
  const FeatureStatistics images =
      Measure(Tensor::From<float>({2, 2, 1, 2}, {0, 2, 5, 5, 4, 6, 5, 5})).value();
  EXPECT_EQ(images.shape, Dims({2, 1, 1}));
  EXPECT_DOUBLE_EQ(images.mean[0], 3);
  EXPECT_DOUBLE_EQ(images.mean[1], 5);
}

TEST(MeasureFeaturesTest, ValuesThatAreNotFiniteAreNamed) {
  EXPECT_NE(
      Measure(Tensor::From<float>({2, 2}, {0, 1, 0, NAN})).status().message().find("feature 1"),
      std::string::npos);
}

TEST(CountClassesTest, CountsIdsAndBinaryTargets) {
  const Tensor samples(DType::f32, {4, 1});
  ArraySource ids({samples, Tensor::From<int64_t>({4}, {2, 0, 2, 2})});
  EXPECT_EQ(CountClasses(ids).value(), (std::vector<int64_t>{1, 0, 3}));
  ArraySource targets({samples, Tensor::From<float>({4}, {0, 1, 1, 1})});
  EXPECT_EQ(CountClasses(targets).value(), (std::vector<int64_t>{1, 3}));
  ArraySource soft({samples, Tensor::From<float>({4}, {0, 1, 0.5f, 1})});
  EXPECT_FALSE(CountClasses(soft).ok());
}

}  // namespace
}  // namespace minim
