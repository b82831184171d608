#include "core/small_float.h"

#include <gtest/gtest.h>

#include <vector>

#include "core/dtype.h"

namespace minim {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

template <typename T>
T FromBits(int bits) {
  T value;
  value.bits = static_cast<uint8_t>(bits);
  return value;
}

// The formulas of the ONNX documentation, written per format.
float Fields(int bits, int mantissa_bits, int bias) {
  const int exponent = (bits & 0x7f) >> mantissa_bits, one = 1 << mantissa_bits;
  const int fraction = bits & (one - 1);
  const double magnitude = exponent == 0 ? std::ldexp(double(fraction) / one, 1 - bias)
                                         : std::ldexp(1 + double(fraction) / one, exponent - bias);
  return static_cast<float>(bits & 0x80 ? -magnitude : magnitude);
}
float Exact(Float8E4M3FN, int b) { return (b & 0x7f) == 0x7f ? NAN : Fields(b, 3, 7); }
float Exact(Float8E4M3FNUZ, int b) { return b == 0x80 ? NAN : Fields(b, 3, 8); }
float Exact(Float8E5M2, int b) {
  if ((b & 0x7f) == 0x7c) return b & 0x80 ? -kInf : kInf;
  return (b & 0x7f) > 0x7c ? NAN : Fields(b, 2, 15);
}
float Exact(Float8E5M2FNUZ, int b) { return b == 0x80 ? NAN : Fields(b, 2, 16); }
float Exact(Float4E2M1, int b) {
  constexpr float kValues[] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
  return b & 8 ? -kValues[b & 7] : kValues[b & 7];
}
float Exact(Float8E8M0, int b) { return b == 255 ? NAN : std::ldexp(1.0f, b - 127); }

template <typename T>
class SmallFloatTest : public testing::Test {};
using SmallFloats = testing::Types<Float8E4M3FN, Float8E4M3FNUZ, Float8E5M2, Float8E5M2FNUZ,
                                   Float4E2M1, Float8E8M0>;
TYPED_TEST_SUITE(SmallFloatTest, SmallFloats);

TYPED_TEST(SmallFloatTest, EveryPatternIsItsFormulaAndSurvivesTheRoundTrip) {
  const int patterns = 1 << FileBits(kDTypeOf<TypeParam>);
  for (int bits = 0; bits < patterns; ++bits) {
    const auto wide = static_cast<float>(FromBits<TypeParam>(bits));
    const float exact = Exact(TypeParam(), bits);
    if (std::isnan(exact)) {
      EXPECT_TRUE(std::isnan(wide)) << bits;
      EXPECT_TRUE(std::isnan(static_cast<float>(TypeParam(wide)))) << bits;
      continue;
    }
    ASSERT_EQ(wide, exact) << bits;
    ASSERT_EQ(std::signbit(wide), std::signbit(exact)) << bits;
    ASSERT_EQ(TypeParam(wide).bits, bits);
    ASSERT_EQ(SmallFloatFromDouble<TypeParam>(wide).bits, bits);
  }
}

// The patterns of the finite numbers from 0 up, in order of value.
template <typename T>
std::vector<int> Ascending() {
  std::vector<int> patterns;
  for (int bits = 0; bits < (1 << (FileBits(kDTypeOf<T>) - 1)); ++bits)
    if (std::isfinite(Exact(T(), bits))) patterns.push_back(bits);
  return patterns;
}

template <typename T>
int Cast(double value, bool saturate) {
  return SmallFloatFromDouble<T>(CastToSmall(value, kDTypeOf<T>, {.saturate = saturate})).bits;
}

template <typename T>
class SignedFloatTest : public testing::Test {};
using SignedFloats =
    testing::Types<Float8E4M3FN, Float8E4M3FNUZ, Float8E5M2, Float8E5M2FNUZ, Float4E2M1>;
TYPED_TEST_SUITE(SignedFloatTest, SignedFloats);

TYPED_TEST(SignedFloatTest, RoundsToNearestEvenAroundEveryMidpoint) {
  const std::vector<int> up = Ascending<TypeParam>();
  const auto check = [](float value, int bits) {
    for (bool saturate : {false, true}) {
      ASSERT_EQ(Exact(TypeParam(), Cast<TypeParam>(value, saturate)), Exact(TypeParam(), bits));
      ASSERT_EQ(Exact(TypeParam(), Cast<TypeParam>(-value, saturate)), -Exact(TypeParam(), bits));
    }
    ASSERT_EQ(TypeParam(value).bits, bits) << value;
  };
  for (size_t i = 0; i + 1 < up.size(); ++i) {
    const float low = Exact(TypeParam(), up[i]), high = Exact(TypeParam(), up[i + 1]);
    const float middle = (low + high) / 2;
    check(std::nextafter(middle, 0.0f), up[i]);
    check(middle, up[i] % 2 == 0 ? up[i] : up[i + 1]);
    check(std::nextafter(middle, kInf), up[i + 1]);
  }
  // A double just past a midpoint is not rounded to the midpoint first.
  EXPECT_EQ(SmallFloatFromDouble<TypeParam>(1.0 + std::ldexp(1.0, -40)).bits, TypeParam(1.0f).bits);
}

TYPED_TEST(SignedFloatTest, SaturatesOrOverflows) {
  const int largest = Ascending<TypeParam>().back();
  const float end = Exact(TypeParam(), largest), before = Exact(TypeParam(), largest - 1);
  const float tie = end + (end - before) / 2;  // to the next value, if there were one
  const int beyond = TypeParam(kInf).bits;
  EXPECT_EQ(TypeParam(std::nextafter(tie, 0.0f)).bits, largest);
  EXPECT_EQ(TypeParam(tie).bits, largest % 2 == 0 ? largest : beyond);
  EXPECT_EQ(TypeParam(std::nextafter(tie, kInf)).bits, beyond);
  for (float huge : {std::nextafter(tie, kInf), 1e6f, 3e38f, kInf}) {
    EXPECT_EQ(Cast<TypeParam>(huge, true), largest);
    EXPECT_EQ(Exact(TypeParam(), Cast<TypeParam>(-huge, true)), -end);
    EXPECT_EQ(Cast<TypeParam>(huge, false), beyond);
  }
  EXPECT_EQ(Cast<TypeParam>(1e300, false), beyond);
}

TEST(SmallFloatTest, SpecialValuesAreThoseOfTheTables) {
  EXPECT_EQ(Float8E4M3FN(kInf).bits, 0x7f);
  EXPECT_EQ(Float8E4M3FN(-kInf).bits, 0xff);
  EXPECT_EQ(Float8E4M3FNUZ(-kInf).bits, 0x80);
  EXPECT_EQ(Float8E5M2(-kInf).bits, 0xfc);
  EXPECT_EQ(Float8E5M2FNUZ(kInf).bits, 0x80);
  EXPECT_EQ(Float4E2M1(-kInf).bits, 0x0f);
  EXPECT_EQ(Float4E2M1(NAN).bits, 0x08);
  EXPECT_EQ(Float8E5M2(NAN).bits, 0x7e);
  EXPECT_EQ(Float8E4M3FN(-0.0f).bits, 0x80);
  EXPECT_EQ(Float8E5M2FNUZ(-0.0f).bits, 0);
  EXPECT_EQ(Float8E4M3FNUZ(-1e-9f).bits, 0);
}

int Power(double value, PowerRounding rounding, bool saturate = true) {
  const double cast = CastToSmall(value, DType::f8e8m0, {saturate, rounding});
  return SmallFloatFromDouble<Float8E8M0>(cast).bits;
}

TEST(PowerTest, EveryIntervalRoundsUpDownAndToNearest) {
  for (int bits = 0; bits < 254; ++bits) {
    const double low = std::ldexp(1.0, bits - 127);
    for (PowerRounding rounding :
         {PowerRounding::kUp, PowerRounding::kDown, PowerRounding::kNearest})
      EXPECT_EQ(Power(low, rounding), bits);
    EXPECT_EQ(Power(std::nextafter(low, 1e300), PowerRounding::kUp), bits + 1);
    EXPECT_EQ(Power(std::nextafter(2 * low, 0), PowerRounding::kDown), bits);
    EXPECT_EQ(Power(std::nextafter(1.5 * low, 0), PowerRounding::kNearest), bits);
    EXPECT_EQ(Power(1.5 * low, PowerRounding::kNearest), bits + 1);
    EXPECT_EQ(SmallFloatFromDouble<Float8E8M0>(1.5 * low).bits, bits + 1);
  }
}

TEST(PowerTest, OutOfRangeSaturatesOrIsNan) {
  EXPECT_EQ(Power(0, PowerRounding::kUp), 0);
  EXPECT_EQ(Power(1e-45, PowerRounding::kDown), 0);
  EXPECT_EQ(Power(INFINITY, PowerRounding::kUp), 254);
  EXPECT_EQ(Power(3e38, PowerRounding::kUp), 254);
  EXPECT_EQ(Power(3e38, PowerRounding::kNearest, false), 255);
  EXPECT_EQ(Power(3e38, PowerRounding::kDown, false), 254);
  EXPECT_EQ(Power(INFINITY, PowerRounding::kNearest, false), 255);
  EXPECT_EQ(Power(0, PowerRounding::kNearest, false), 255);
  EXPECT_EQ(Power(NAN, PowerRounding::kUp), 255);
  EXPECT_EQ(Power(-1, PowerRounding::kUp), 255);
}

TEST(SmallIntTest, KeepsTheLowBits) {
  EXPECT_EQ(int64_t(Int4(7)), 7);
  EXPECT_EQ(int64_t(Int4(8)), -8);
  EXPECT_EQ(int64_t(Int4(-9)), 7);
  EXPECT_EQ(int64_t(UInt4(-1)), 15);
  EXPECT_EQ(int64_t(Int2(2)), -2);
  EXPECT_EQ(int64_t(UInt2(7)), 3);
  Int4 stray;  // bits that no conversion writes
  stray.value = 0x1f;
  EXPECT_EQ(int64_t(stray), -1);
}

TEST(SmallIntTest, FloatsRoundToNearestEvenAndWrap) {
  EXPECT_EQ(ConvertTo<Int4>(2.5f), Int4(2));
  EXPECT_EQ(ConvertTo<Int4>(-2.6f), Int4(-3));
  EXPECT_EQ(ConvertTo<Int4>(9.0), Int4(-7));
  EXPECT_EQ(ConvertTo<UInt2>(-1.0f), UInt2(3));
  EXPECT_EQ(ConvertTo<UInt4>(NAN), UInt4(0));
  EXPECT_EQ(ConvertTo<uint8_t>(Int4(-1)), 255);
}

// Bulk conversion takes detours that single values do not.
template <typename From, typename To>
void ExpectBulkEqualsSingle(const std::vector<From>& values) {
  const Dims dims{static_cast<int64_t>(values.size())};
  const Tensor to = Converted({values.data(), kDTypeOf<From>, dims}, kDTypeOf<To>);
  for (size_t i = 0; i < values.size(); ++i)
    ASSERT_EQ(to.as<To>()[i], ConvertTo<To>(values[i])) << Name(kDTypeOf<To>) << " " << i;
}

TEST(ConvertSmallTest, BulkEqualsSingle) {
  std::vector<float> floats;
  std::vector<int64_t> ints;
  std::vector<uint64_t> words;
  std::vector<Float8E4M3FN> bytes;
  std::vector<Int4> nibbles;
  for (int i = 0; i < 1100; ++i) {
    floats.push_back(static_cast<float>(i - 550) * 0.37f);
    ints.push_back((int64_t{1} << 60) + i);
    words.push_back(~uint64_t{0} - static_cast<uint64_t>(i));
    bytes.push_back(FromBits<Float8E4M3FN>(i % 127));
    nibbles.push_back(Int4(i));
  }
  ExpectBulkEqualsSingle<float, Float8E5M2>(floats);
  ExpectBulkEqualsSingle<float, Int4>(floats);
  ExpectBulkEqualsSingle<float, UInt2>(floats);
  ExpectBulkEqualsSingle<int64_t, Int4>(ints);
  ExpectBulkEqualsSingle<uint64_t, Float8E8M0>(words);
  ExpectBulkEqualsSingle<uint64_t, UInt4>(words);
  ExpectBulkEqualsSingle<Float8E4M3FN, Half>(bytes);
  ExpectBulkEqualsSingle<Float8E4M3FN, int32_t>(bytes);
  ExpectBulkEqualsSingle<Float8E4M3FN, Float8E5M2>(bytes);
  ExpectBulkEqualsSingle<Float8E4M3FN, bool>(bytes);
  ExpectBulkEqualsSingle<Int4, uint8_t>(nibbles);
  ExpectBulkEqualsSingle<Int4, bool>(nibbles);
  ExpectBulkEqualsSingle<Int4, UInt2>(nibbles);
  ExpectBulkEqualsSingle<Int4, Float4E2M1>(nibbles);
}

TEST(SmallDTypeTest, NamesSizesAndIdsAreThoseOfTheTable) {
  for (DType dtype : {DType::f8e4m3fn, DType::f8e5m2fnuz, DType::u4, DType::i4, DType::f4e2m1,
                      DType::f8e8m0, DType::u2, DType::i2}) {
    EXPECT_EQ(DTypeFromName(Name(dtype)), dtype);
    EXPECT_EQ(DTypeFromOnnx(OnnxId(dtype)), dtype);
    EXPECT_EQ(SizeOf(dtype), 1u);
    EXPECT_TRUE(IsSmall(dtype) && !IsFloat(dtype) && !IsInteger(dtype));
  }
  EXPECT_EQ(FileBits(DType::i4), 4);
  EXPECT_EQ(FileBits(DType::u2), 2);
  EXPECT_EQ(FileBits(DType::f8e8m0), 8);
  EXPECT_EQ(FileBits(DType::f32), 32);
}

}  // namespace
}  // namespace minim
