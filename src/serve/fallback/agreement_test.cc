#include "serve/fallback/agreement.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "core/dtype.h"

namespace minim::serve {
namespace {

int64_t Differing(const Tensor& a, const Tensor& b, int64_t rows) {
  return CompareAnswers({&a, 1}, {&b, 1}, rows).differing;
}

TEST(Agreement, ClassesAreCompared) {
  const Tensor b = Tensor::From<float>({3, 2}, {0.1f, 0.9f, 0.6f, 0.4f, 0.5f, 0.5f});
  EXPECT_EQ(Differing(b, b, 3), 0);
  EXPECT_EQ(Differing(Tensor::From<float>({3, 2}, {0.3f, 0.7f, 0.9f, 0.1f, 0.4f, 0.6f}), b, 3), 0)
      << "the class counts, and a tie has no class";
  EXPECT_EQ(Differing(Tensor::From<float>({3, 2}, {0.6f, 0.4f, 0.4f, 0.6f, 0.5f, 0.5f}), b, 3), 2);
}

TEST(Agreement, NumbersMayDifferByAFewPercent) {
  const Tensor b = Tensor::From<float>({4, 1}, {10, -20, 0, 30});
  EXPECT_EQ(Differing(Tensor::From<float>({4, 1}, {10.4f, -20.5f, 0.5f, 31}), b, 4), 0);
  EXPECT_EQ(Differing(Tensor::From<float>({4, 1}, {12, -20, 5, 30}), b, 4), 2);
  const Tensor image = Tensor::From<float>({1, 2, 2}, {1, 2, 3, 4});
  EXPECT_EQ(Differing(Tensor::From<float>({1, 2, 2}, {1.1f, 2, 3, 4}), image, 1), 0);
  EXPECT_EQ(Differing(Tensor::From<float>({1, 2, 2}, {2, 2, 3, 4}), image, 1), 1);
}

TEST(Agreement, StringsAreEqualOrNot) {
  const std::string long_text(50, 'a');  // its bytes lie elsewhere
  const Tensor b = Tensor::From<std::string>({2, 2}, {"x", long_text, "y", "z"});
  EXPECT_EQ(Differing(b.Clone(), b, 2), 0);
  EXPECT_EQ(Differing(Tensor::From<std::string>({2, 2}, {"x", long_text, "y", "Z"}), b, 2), 1);
}

TEST(Agreement, IntegersAreEqualOrNot) {
  const Tensor b = Tensor::From<int64_t>({2}, {3, 4});
  EXPECT_EQ(Differing(Tensor::From<int64_t>({2}, {3, 5}), b, 2), 1);
  EXPECT_EQ(Differing(b, b, 0), 0);
  EXPECT_EQ(Differing(Tensor::From<int64_t>({2}, {3, 5}), b, 0), 1);
}

TEST(Agreement, WhatCannotBeComparedDiffers) {
  const Tensor b = Tensor::From<float>({2, 1}, {1, 2});
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(Differing(Tensor::From<float>({2, 1}, {1, nan}), b, 2), 1);
  EXPECT_EQ(Differing(Tensor::From<float>({1, 2}, {1, 2}), b, 2), 2);
  EXPECT_EQ(Differing(Tensor::From<double>({2, 1}, {1, 2}), b, 2), 2);
  EXPECT_EQ(CompareAnswers({}, {&b, 1}, 2).differing, 2);
  const Tensor none(DType::f32, {0, 3});
  EXPECT_EQ(Differing(none, none, 0), 0);
}

TEST(Agreement, NonFiniteIsSeenInEveryFloatType) {
  const auto seen = [](const Tensor& tensor) { return HasNonFinite({&tensor, 1}); };
  EXPECT_FALSE(seen(Tensor::From<float>({2}, {1, 2})));
  EXPECT_TRUE(seen(Tensor::From<float>({2}, {1, INFINITY})));
  EXPECT_TRUE(seen(Tensor::From<double>({1}, {NAN})));
  EXPECT_TRUE(seen(Converted(Tensor::From<float>({1}, {NAN}).view(), DType::bf16)));
  EXPECT_TRUE(seen(Converted(Tensor::From<float>({1}, {1e9f}).view(), DType::f16)));
  EXPECT_FALSE(seen(Tensor::From<int64_t>({1}, {1})));
}

}  // namespace
}  // namespace minim::serve
