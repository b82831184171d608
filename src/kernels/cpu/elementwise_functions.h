// FP32 functions in plain arithmetic that compilers vectorise. Included by files of different
// instruction-set levels: everything is in an unnamed namespace. Levels with fused multiply-add
// give the same bits; the portable one may differ by 2 ulp, of erf by 5, and by more where Gelu
// cancels.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace minim {
namespace {

/// a * b + c, rounded once where the level has such an instruction: half the work of a polynomial.
[[maybe_unused]] inline float MulAdd(float a, float b, float c) {
#ifdef __FMA__
  return std::fma(a, b, c);
#else
  return a * b + c;
#endif
}

[[maybe_unused]] inline float Power2(int32_t n) {  // -126 <= n <= 127
  return std::bit_cast<float>((static_cast<uint32_t>(n) + 127u) << 23);
}

struct ExpParts {
  float r;    // in +-ln2/2
  int32_t n;  // x = r + n ln2
};

[[maybe_unused]] inline ExpParts ReduceExp(float x) {
  constexpr float kWhole = 12582912.0f;  // 1.5 * 2^23: the sum rounds to an integer
  const float shifted = MulAdd(x, 1.44269504f, kWhole), n = shifted - kWhole;
  const float r = MulAdd(n, 2.12194440e-4f, MulAdd(n, -0.693359375f, x));
  return {r, std::bit_cast<int32_t>(std::bit_cast<uint32_t>(shifted) - 0x4B400000u)};
}

/// (exp(r) - 1 - r) / r^2 for |r| <= ln2/2.
[[maybe_unused]] inline float ExpTail(float r) {
  float p = 1.9875691500e-4f;
  p = MulAdd(p, r, 1.3981999507e-3f);
  p = MulAdd(p, r, 8.3334519073e-3f);
  p = MulAdd(p, r, 4.1665795894e-2f);
  p = MulAdd(p, r, 1.6666665459e-1f);
  return MulAdd(p, r, 5.0000001201e-1f);
}

[[maybe_unused]] inline float ExpF(float x) {
  const float low = x < -104.0f ? -104.0f : x;
  const float clamped = low > 89.0f ? 89.0f : low;
  const ExpParts e = ReduceExp(clamped);
  const float y = MulAdd(ExpTail(e.r) * e.r, e.r, e.r) + 1.0f;
  const int32_t n = x != x ? 0 : e.n;
  const int32_t half = n >> 1;  // two factors reach subnormals and infinity
  return y * Power2(half) * Power2(n - half);
}

/// exp(x) for x <= 0, half the work: what would be subnormal is 0.
[[maybe_unused]] inline float ExpNegativeF(float x) {
  const ExpParts e = ReduceExp(x);
  const float y = MulAdd(ExpTail(e.r) * e.r, e.r, e.r) + 1.0f;
  return x < -87.3365f ? 0.0f : y * Power2(e.n);  // the product of NaN is one
}

[[maybe_unused]] inline float Expm1F(float x) {
  const float low = x < -20.0f ? -20.0f : x;
  const float clamped = low > 89.0f ? 89.0f : low;
  const ExpParts e = ReduceExp(clamped);
  const float p = MulAdd(ExpTail(e.r) * e.r, e.r, e.r);
  const int32_t n = x != x ? 0 : e.n;
  const float half = Power2(n - 1);  // half the scale: 2^128 is no float
  return n == 0 ? p : 2.0f * (half * p + (half - 0.5f));
}

[[maybe_unused]] inline float LogF(float x) {
  const bool small = x < 1.17549435e-38f;
  const float scaled = small ? x * 8388608.0f : x;
  const auto bits = std::bit_cast<uint32_t>(scaled);
  const auto offset = static_cast<int32_t>(bits - 0x3F3504F3u);  // mantissa in [sqrt(1/2), sqrt(2))
  const int32_t e = (offset >> 23) - (small ? 23 : 0);
  const float m = std::bit_cast<float>((offset & 0x007FFFFF) + 0x3F3504F3) - 1.0f;
  const float z = m * m;
  float p = 7.0376836292e-2f;
  p = MulAdd(p, m, -1.1514610310e-1f);
  p = MulAdd(p, m, 1.1676998740e-1f);
  p = MulAdd(p, m, -1.2420140846e-1f);
  p = MulAdd(p, m, 1.4249322787e-1f);
  p = MulAdd(p, m, -1.6668057665e-1f);
  p = MulAdd(p, m, 2.0000714765e-1f);
  p = MulAdd(p, m, -2.4999993993e-1f);
  p = MulAdd(p, m, 3.3333331174e-1f);
  const float ef = static_cast<float>(e);
  const float tail = MulAdd(p * m, z, ef * -2.12194440e-4f) - 0.5f * z;
  const float value = MulAdd(ef, 0.693359375f, m + tail);
  const float infinity = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float nonzero = x == 0.0f ? -infinity : value;
  const float positive = x < 0.0f ? nan : nonzero;
  return (x != x || x == infinity) ? x : positive;
}

/// log(1 + u) for u in [0, 1].
[[maybe_unused]] inline float Log1pF(float u) {
  const float w = 1.0f + u;
  return LogF(w) + (u - (w - 1.0f)) / w;
}

[[maybe_unused]] inline float TanhF(float x) {
  const float magnitude = std::fabs(x);
  const float clamped = magnitude > 10.0f ? 10.0f : magnitude;
  const float e = Expm1F(2.0f * clamped);
  return std::copysign(e / (e + 2.0f), x);
}

/// 0 where it would be subnormal.
[[maybe_unused]] inline float SigmoidF(float x) {
  const float e = ExpNegativeF(-std::fabs(x));
  return (x < 0.0f ? e : 1.0f) / (1.0f + e);
}

/// x held to +-limit.
[[maybe_unused]] inline float Bounded(float x, float limit) {  // NaN passes
  const float above = -limit > x ? -limit : x;
  return limit < above ? limit : above;
}

/// 1 + exp(-x) for |x| <= 80 or NaN, within 3e-7 of the larger of exp(-x) and 1 up to |x| = 10,
/// within 1.3e-6 of it at 80. Shorter than ExpF, its sums paired instead of nested: who waits for
/// one value waits for the whole chain.
[[maybe_unused]] inline float OnePlusExpOfMinus(float x) {
  constexpr float kPerPower = -1.44269504f, kWhole = 12582912.0f;  // 1.5 * 2^23: sums are integers
  const float shifted = MulAdd(x, kPerPower, kWhole);
  const float r = MulAdd(x, kPerPower, kWhole - shifted), r2 = r * r;
  const float low = MulAdd(MulAdd(5.550713275e-2f, r, 2.402211972e-1f), r2,
                           MulAdd(6.931469671e-1f, r, 1.000000072f));
  const float p = MulAdd(MulAdd(1.327647152e-3f, r, 9.675541331e-3f), r2 * r2, low);
  return MulAdd(p, std::bit_cast<float>((std::bit_cast<uint32_t>(shifted) << 23) + 0x3F800000u),
                1.0f);
}

/// x sigmoid(x) within 6e-7 of itself from -10 on, 4e-6 below; past -80 x e^-80.
[[maybe_unused]] inline float SiluF(float x) { return x / OnePlusExpOfMinus(Bounded(x, 80.0f)); }

// A rational approximation, as Eigen's generic erf has it: within 8 ulp.
[[maybe_unused]] inline float ErfF(float x) {
  constexpr float kEnd = 3.832506856900711f;  // 1 from here on
  const float low = x < -kEnd ? -kEnd : x;
  const float t = low > kEnd ? kEnd : low, s = t * t;
  float p = 2.2905065861350646e-4f;
  p = MulAdd(p, s, 3.4082910107109506e-3f);
  p = MulAdd(p, s, 5.0955695062380861e-2f);
  p = MulAdd(p, s, 1.8520832239976145e-1f);
  p = MulAdd(p, s, 1.128379143519084f);
  float q = -1.1791602954361697e-7f;
  q = MulAdd(q, s, 2.3547966471313185e-5f);
  q = MulAdd(q, s, 1.0179625278914885e-3f);
  q = MulAdd(q, s, 1.4070470171167667e-2f);
  q = MulAdd(q, s, 1.1098505178285362e-1f);
  q = MulAdd(q, s, 4.9746925110067538e-1f);
  q = MulAdd(q, s, 1.0f);
  const float y = t * p / q;
  const float above = y < -1.0f ? -1.0f : y;
  return above > 1.0f ? 1.0f : above;
}

// The same names over float and double, so one expression serves both lanes.
inline float Exp(float x) { return ExpF(x); }
inline double Exp(double x) { return std::exp(x); }
inline float Expm1(float x) { return Expm1F(x); }
inline double Expm1(double x) { return std::expm1(x); }
inline float Log(float x) { return LogF(x); }
inline double Log(double x) { return std::log(x); }
inline float Log1p(float x) { return Log1pF(x); }
inline double Log1p(double x) { return std::log1p(x); }
inline float Tanh(float x) { return TanhF(x); }
inline double Tanh(double x) { return std::tanh(x); }
inline float Sigmoid(float x) { return SigmoidF(x); }
inline double Sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
inline float Erf(float x) { return ErfF(x); }
inline double Erf(double x) { return std::erf(x); }
template <typename T>
T Gelu(T x) {
  return T(0.5) * x * (T(1) + Erf(x * T(0.70710678118654752)));
}

}  // namespace
}  // namespace minim
