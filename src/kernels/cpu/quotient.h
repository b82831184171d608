// Many values over one by multiplications, several of which a core does in the time of one
// division. Included by sources that are compiled once per level: everything here has internal
// linkage.
#pragma once

#include <cmath>
#include <cstdint>

namespace minim {

/// What division by a scale takes where it is a multiplication, for scales between 1e-20 and 1e30:
/// values are held between `low` and `high`, and multiplied by `inverse` + `rest`, which have twice
/// a float's digits.
struct StepDivisor {
  float scale = 1, inverse = 1, rest = 0, low = 0, high = 0;
};

namespace {

/// Of quotients bounded by `least` and `most`.
inline StepDivisor StepDivisorOf(float scale, float least, float most) {
  const float inverse = 1.0f / scale;
  return {scale, inverse, std::fma(-inverse, scale, 1.0f) * inverse, least * scale, most * scale};
}

/// f(i, src[i] / divisor) for i in [0, n), rounded as division is; but a quotient beyond 2^22 may
/// be another such, one of a value under 1e-30 may be an ulp off, and that of -0 is 0.
/// Two corrections by the remainder, which a fused multiply-add leaves exact: the first makes the
/// quotient faithful, the second correctly rounded, since `inverse` is (Markstein, "Computation of
/// elementary functions on the IBM RISC System/6000 processor", 1990, theorem 6.1).
template <typename F>
[[gnu::always_inline]] inline void ForEachQuotient(const float* src, float divisor, int64_t n,
                                                   F&& f) {
#ifdef __FMA__
  const float inverse = 1.0f / divisor, size = std::fabs(divisor);
  if (size > 1e-20f && size < 1e30f) {  // no inverse, or remainder that matters, is subnormal
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) {
      const float x = src[i], first = x * inverse;
      const float next = std::fma(std::fma(-first, divisor, x), inverse, first);
      const float last = std::fma(std::fma(-next, divisor, x), inverse, next);
      f(i, std::fabs(first) < 4194304.0f ? last : first);  // infinities leave no remainder
    }
    return;
  }
#endif
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) f(i, src[i] / divisor);
}

/// Near 1.5 * 2^23 a float is whole, rounded half to even, and its lowest bits count.
inline constexpr float kWholeShift = 12582912;

/// f(i, shifted) for i in [0, n): src[i] / scale, rounded half to even and bounded by `least` and
/// `most` (whole numbers within +-2^17; `least` for NaN), plus kWholeShift. The values are bounded
/// first: that commutes with the division and leaves nothing infinite.
template <typename F>
[[gnu::always_inline]] inline void ForEachStep(const float* src, float scale, float least,
                                               float most, int64_t n, F&& f) {
#ifdef __FMA__
  if (scale > 1e-20f && scale < 1e30f) {
    const StepDivisor by = StepDivisorOf(scale, least, most);
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) {
      const float x = src[i], above = x > by.low ? x : by.low;
      const float bounded = above < by.high ? above : by.high;
      // Faithful, since the inverse has twice a float's digits; then rounded as above.
      const float first = std::fma(bounded, by.inverse, bounded * by.rest);
      const float last = std::fma(std::fma(-first, scale, bounded), by.inverse, first);
      f(i, last + kWholeShift);
    }
    return;
  }
#endif
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) {
    const float x = src[i] / scale, above = x > least ? x : least;
    f(i, (above < most ? above : most) + kWholeShift);
  }
}

}  // namespace
}  // namespace minim
