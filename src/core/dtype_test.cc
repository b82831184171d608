#include "core/dtype.h"

#include <gtest/gtest.h>

#include <vector>

namespace minim {
namespace {

float ExactHalf(uint16_t bits) {
  const int exponent = (bits >> 10) & 31, mantissa = bits & 1023;
  const float sign = bits & 0x8000 ? -1.0f : 1.0f;
  if (exponent == 31) return mantissa ? NAN : sign * INFINITY;
  if (exponent == 0) return sign * std::ldexp(static_cast<float>(mantissa), -24);
  return sign * std::ldexp(static_cast<float>(1024 + mantissa), exponent - 25);
}

TEST(HalfTest, AllPatternsSurviveTheRoundTrip) {
  for (uint32_t i = 0; i < 65536; ++i) {
    Half half;
    half.bits = static_cast<uint16_t>(i);
    const float wide = static_cast<float>(half);
    const float exact = ExactHalf(half.bits);
    if (std::isnan(exact)) {
      EXPECT_TRUE(std::isnan(wide));
      EXPECT_TRUE(std::isnan(static_cast<float>(Half(wide))));
      continue;
    }
    ASSERT_EQ(wide, exact);
    ASSERT_EQ(Half(wide).bits, half.bits);
  }
}

TEST(HalfTest, RoundsToNearestEvenAndOverflowsToInfinity) {
  EXPECT_EQ(Half(65519.0f).bits, 0x7bff);
  EXPECT_EQ(Half(65520.0f).bits, 0x7c00);
  EXPECT_EQ(Half(1.0f + 0x1p-11f).bits, 0x3c00);
  EXPECT_EQ(Half(1.0f + 3 * 0x1p-11f).bits, 0x3c02);
  EXPECT_EQ(Half(0x1p-25f).bits, 0);
  EXPECT_EQ(Half(0x1.8p-25f).bits, 1);
  EXPECT_EQ(HalfFromDouble(1.0 + 0x1p-11 + 0x1p-40).bits, 0x3c01);  // no double rounding
}

TEST(BFloat16Test, AllPatternsSurviveTheRoundTrip) {
  for (uint32_t i = 0; i < 65536; ++i) {
    BFloat16 value;
    value.bits = static_cast<uint16_t>(i);
    const float wide = static_cast<float>(value);
    if (std::isnan(wide)) {
      EXPECT_EQ(BFloat16(wide).bits, value.bits | 0x40);
      continue;
    }
    ASSERT_EQ(BFloat16(wide).bits, value.bits);
    ASSERT_EQ(BFloat16FromDouble(wide).bits, value.bits);
  }
}

TEST(ConvertTest, BulkEqualsSingleForEveryHalf) {
  std::vector<Half> halves(65536);
  for (uint32_t i = 0; i < 65536; ++i) halves[i].bits = static_cast<uint16_t>(i);
  std::vector<float> wide(65536);
  ConvertElements({halves.data(), DType::f16, {65536}}, {wide.data(), DType::f32, {65536}});
  std::vector<Half> back(65536);
  ConvertElements({wide.data(), DType::f32, {65536}}, {back.data(), DType::f16, {65536}});
  for (uint32_t i = 0; i < 65536; ++i) {
    ASSERT_EQ(std::bit_cast<uint32_t>(wide[i]), std::bit_cast<uint32_t>(float(halves[i]))) << i;
    ASSERT_EQ(back[i].bits, Half(wide[i]).bits) << i;
  }
}

TEST(ConvertTest, FloatsToIntegersTruncateAndSaturate) {
  EXPECT_EQ(ConvertTo<int32_t>(-1.9f), -1);
  EXPECT_EQ(ConvertTo<int8_t>(1e9f), 127);
  EXPECT_EQ(ConvertTo<int64_t>(1e300), std::numeric_limits<int64_t>::max());
  EXPECT_EQ(ConvertTo<uint8_t>(NAN), 0);
  EXPECT_TRUE(ConvertTo<bool>(0.5f));
}

TEST(DTypeTest, NamesAndIdsAreInverse) {
  for (DType dtype : {DType::f64, DType::f16, DType::bf16, DType::i8, DType::bool_, DType::u64,
                      DType::string}) {
    EXPECT_EQ(DTypeFromName(Name(dtype)), dtype);
    EXPECT_EQ(DTypeFromOnnx(OnnxId(dtype)), dtype);
  }
  EXPECT_EQ(Name(DType::bool_), "bool");
  EXPECT_FALSE(DTypeFromOnnx(14).has_value());  // complex64
}

}  // namespace
}  // namespace minim
