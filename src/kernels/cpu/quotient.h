// Many values over one by multiplications, several of which a core does in the time of one
// division. Included by sources that are compiled once per level: everything here has internal
// linkage.
#pragma once

#include <cmath>
#include <cstdint>

namespace minim {
namespace {

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

}  // namespace
}  // namespace minim
