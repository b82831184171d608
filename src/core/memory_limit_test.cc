#include "core/memory_limit.h"

#include <gtest/gtest.h>

namespace minim {
namespace {

TEST(MemoryLimitTest, WhatFitsIsFine) {
  EXPECT_TRUE(CheckFits({3, 4}, DType::f32).ok());
  EXPECT_TRUE(CheckFits({}, DType::f64).ok());
  EXPECT_TRUE(CheckFits({3, 0, Dim::Symbol("n")}, DType::f32).ok());
}

TEST(MemoryLimitTest, WhatDoesNotFitIsNamed) {
  const Status status = CheckFits({int64_t{1} << 40, 2}, DType::f32);
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
  EXPECT_NE(status.message().find("f32[1099511627776,2]"), std::string::npos) << status.message();
}

TEST(MemoryLimitTest, DimsThatAreZeroOrUnknownCountAsOne) {
  EXPECT_FALSE(CheckFits({int64_t{1} << 40, Dim::Symbol("n")}, DType::f32).ok());
  EXPECT_FALSE(CheckFits({int64_t{1} << 40, int64_t{1} << 40, 0}, DType::f32).ok());
}

TEST(MemoryLimitTest, ProductsThatWrapDoNotFit) {
  EXPECT_FALSE(CheckFits({int64_t{1} << 40, int64_t{1} << 40}, DType::u8).ok());
  EXPECT_FALSE(CheckFits({int64_t{1} << 32, int64_t{1} << 32, 4}, DType::u8).ok());
}

}  // namespace
}  // namespace minim
