#include "core/small_float.h"

#include <algorithm>
#include <array>

#include "core/dtype.h"

namespace minim {
namespace {

// A format with a sign. `overflow` are the bits (without sign) of what lies beyond `largest`.
struct Layout {
  int mantissa_bits, min_exponent;
  uint8_t sign, largest, overflow = 0;
  bool one_zero = false;  // negative zero is the only NaN
};

constexpr Layout kLayouts[] = {
    {.mantissa_bits = 3, .min_exponent = -6, .sign = 0x80, .largest = 0x7e, .overflow = 0x7f},
    {.mantissa_bits = 3, .min_exponent = -7, .sign = 0x80, .largest = 0x7f, .one_zero = true},
    {.mantissa_bits = 2, .min_exponent = -14, .sign = 0x80, .largest = 0x7b, .overflow = 0x7c},
    {.mantissa_bits = 2, .min_exponent = -15, .sign = 0x80, .largest = 0x7f, .one_zero = true},
    {.mantissa_bits = 1, .min_exponent = 0, .sign = 0x08, .largest = 0x07, .overflow = 0x07},
};
constexpr uint8_t kInfinityE5M2 = 0x7c;
constexpr uint8_t kNanE5M2 = 0x7e;
constexpr uint8_t kNanE8M0 = 0xff;
constexpr int kBiasE8M0 = 127;

constexpr double PowerOfTwo(int exponent) {
  double power = 1;
  for (; exponent > 0; --exponent) power *= 2;
  for (; exponent < 0; ++exponent) power /= 2;
  return power;
}

template <SmallFormat kFormat>
constexpr float Decode(int bits) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  if constexpr (kFormat == SmallFormat::kE8M0) {
    return bits == kNanE8M0 ? kNan : static_cast<float>(PowerOfTwo(bits - kBiasE8M0));
  } else {
    constexpr Layout k = kLayouts[static_cast<int>(kFormat)];
    if (k.one_zero && bits == k.sign) return kNan;
    const int magnitude = bits & (k.sign - 1);
    const float sign = bits & k.sign ? -1.0f : 1.0f;
    if (magnitude > k.largest) {
      const bool infinite = kFormat == SmallFormat::kE5M2 && magnitude == kInfinityE5M2;
      const float beyond = infinite ? std::numeric_limits<float>::infinity() : kNan;
      return sign < 0 ? -beyond : beyond;  // a product with NaN is no constant to clang
    }
    const int exponent = magnitude >> k.mantissa_bits, one = 1 << k.mantissa_bits;
    const int count = (magnitude & (one - 1)) + (exponent > 0 ? one : 0);
    const int quantum = k.min_exponent + std::max(exponent, 1) - 1 - k.mantissa_bits;
    return sign * static_cast<float>(count * PowerOfTwo(quantum));
  }
}

template <SmallFormat kFormat>
constexpr std::array<float, 256> MakeTable() {
  std::array<float, 256> table{};
  for (int bits = 0; bits < 256; ++bits) table[bits] = Decode<kFormat>(bits);
  return table;
}

template <SmallFormat kFormat>
constexpr std::array<float, 256> kTable = MakeTable<kFormat>();

// value = fraction * 2^exponent with the fraction in [1, 2); a sign has no meaning here.
uint8_t EncodePower(double value) {
  if (!(value >= 0) || std::isinf(value)) return kNanE8M0;
  int exponent = 0;
  const double fraction = 2 * std::frexp(value, &exponent);
  exponent += fraction >= 1.5 ? 0 : -1;
  if (value == 0 || exponent < -kBiasE8M0) return 0;
  return exponent > kBiasE8M0 ? kNanE8M0 : static_cast<uint8_t>(exponent + kBiasE8M0);
}

uint8_t NanOf(SmallFormat format, uint8_t sign) {
  if (format == SmallFormat::kE2M1) return sign ? sign : 0x08;  // it has none: negative zero
  return format == SmallFormat::kE5M2 ? sign | kNanE5M2 : sign | 0x7f;
}

template <SmallFormat kFormat>
constexpr SmallFormat FormatOf(SmallFloat<kFormat>) {
  return kFormat;
}

uint8_t Encode(SmallFormat format, double value) {
  if (format == SmallFormat::kE8M0) return EncodePower(value);
  const Layout& k = kLayouts[static_cast<int>(format)];
  const uint8_t sign = std::signbit(value) ? k.sign : 0;
  if (std::isnan(value)) return k.one_zero ? k.sign : NanOf(format, sign);
  const double magnitude = std::fabs(value);
  const uint32_t bits = std::isinf(value) ? k.largest + 1u
                        : value == 0      ? 0
                                     : RoundMagnitude(magnitude, k.mantissa_bits, k.min_exponent);
  if (k.one_zero && bits == 0) return 0;
  if (bits <= k.largest) return static_cast<uint8_t>(sign | bits);
  return k.one_zero ? k.sign : sign | k.overflow;
}

double RoundPower(double value, PowerRounding rounding) {
  int exponent = 0;
  const double fraction = 2 * std::frexp(value, &exponent);
  exponent -= 1;
  const bool up = rounding == PowerRounding::kUp        ? fraction > 1
                  : rounding == PowerRounding::kNearest ? fraction >= 1.5
                                                        : false;
  return std::ldexp(1.0, exponent + up);
}

double CastToPower(double value, const SmallCast& cast) {
  const double smallest = std::ldexp(1.0, -kBiasE8M0), largest = std::ldexp(1.0, kBiasE8M0);
  if (std::isnan(value) || value < 0) return NAN;
  const double power = value == 0 || std::isinf(value) ? value : RoundPower(value, cast.power);
  if (power >= smallest && power <= largest) return power;
  return cast.saturate ? std::clamp(power, smallest, largest) : NAN;
}

double LargestOf(DType dtype) {
  return VisitSmall(dtype, []<typename T>() -> double {
    if constexpr (std::is_same_v<T, Float8E4M3FN>) return 448;
    if constexpr (std::is_same_v<T, Float8E4M3FNUZ>) return 240;
    if constexpr (std::is_same_v<T, Float4E2M1>) return 6;
    return 57344;
  });
}

}  // namespace

uint32_t RoundMagnitude(double magnitude, int mantissa_bits, int min_exponent) {
  const int bias = 1 - min_exponent;
  int exponent = 0;
  std::frexp(magnitude, &exponent);
  exponent = std::max(exponent - 1, min_exponent);  // magnitude = 1.x * 2^exponent, or less
  const double steps = std::nearbyint(std::ldexp(magnitude, mantissa_bits - exponent));
  // The steps include the hidden bit for normals; adding instead of or-ing lets a carry raise the
  // exponent.
  return static_cast<uint32_t>(steps) +
         (static_cast<uint32_t>(exponent + bias - 1) << mantissa_bits);
}

double CastToSmall(double value, DType dtype, const SmallCast& cast) {
  if (dtype == DType::f8e8m0) return CastToPower(value, cast);
  if (!cast.saturate || std::isnan(value)) return value;
  return std::clamp(value, -LargestOf(dtype), LargestOf(dtype));
}

template <SmallFormat kFormat>
SmallFloat<kFormat>::SmallFloat(float value)
    : bits(SmallFloatFromDouble<SmallFloat<kFormat>>(value).bits) {}

template <SmallFormat kFormat>
SmallFloat<kFormat>::operator float() const {
  return kTable<kFormat>[bits];
}

template <typename T>
T SmallFloatFromDouble(double value) {
  T result;
  result.bits = Encode(FormatOf(T()), value);
  return result;
}

#define MINIM_SMALL_FLOAT(T)               \
  template T SmallFloatFromDouble(double); \
  template T::SmallFloat(float);           \
  template T::operator float() const;
MINIM_SMALL_FLOAT(Float8E4M3FN)
MINIM_SMALL_FLOAT(Float8E4M3FNUZ)
MINIM_SMALL_FLOAT(Float8E5M2)
MINIM_SMALL_FLOAT(Float8E5M2FNUZ)
MINIM_SMALL_FLOAT(Float4E2M1)
MINIM_SMALL_FLOAT(Float8E8M0)
#undef MINIM_SMALL_FLOAT

}  // namespace minim
