// Sixteen partial results of a reduction, as one value: an array of them GCC takes apart into
// sixteen scalars. The order of every sum is the same at each level. Included by sources that are
// compiled once per level: everything here has internal linkage.
#pragma once

#include <cstdint>
#include <cstring>

namespace minim {
namespace {

constexpr int64_t kPartials = 16;
using Partials = float __attribute__((vector_size(64)));

/// value(first), ..., value(first + 15).
template <typename F>
[[gnu::always_inline]] inline void TakePartials(int64_t first, F&& value, Partials* taken) {
  alignas(64) float values[kPartials];
#pragma GCC ivdep
#pragma GCC unroll 1
  for (int64_t j = 0; j < kPartials; ++j) values[j] = value(first + j);
  std::memcpy(taken, values, sizeof(values));
}

/// `merge(a, b)` makes a what it is with b. Of all of p: halves with halves, so that few wait for
/// each other.
template <typename M>
[[gnu::always_inline]] inline float MergePartials(Partials p, M&& merge) {
  merge(p,
        __builtin_shufflevector(p, p, 8, 9, 10, 11, 12, 13, 14, 15, 8, 9, 10, 11, 12, 13, 14, 15));
  merge(p, __builtin_shufflevector(p, p, 4, 5, 6, 7, 4, 5, 6, 7, 4, 5, 6, 7, 4, 5, 6, 7));
  merge(p, __builtin_shufflevector(p, p, 2, 3, 2, 3, 2, 3, 2, 3, 2, 3, 2, 3, 2, 3, 2, 3));
  merge(p, __builtin_shufflevector(p, p, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1));
  return p[0];
}

/// Merges the groups of sixteen among value(0), ..., value(n - 1) into `all`, the rest left out;
/// long rows by four chains of `all` as it came, since in one every step waits for the last.
template <typename F, typename M>
[[gnu::always_inline]] inline void MergeGroups(int64_t n, F&& value, M&& merge, Partials& all) {
  Partials second = all, third = all, fourth = all, next;
  int64_t i = 0;
  for (; i + 4 * kPartials <= n; i += 4 * kPartials) {
    TakePartials(i, value, &next);
    merge(all, next);
    TakePartials(i + kPartials, value, &next);
    merge(second, next);
    TakePartials(i + 2 * kPartials, value, &next);
    merge(third, next);
    TakePartials(i + 3 * kPartials, value, &next);
    merge(fourth, next);
  }
  for (; i + kPartials <= n; i += kPartials) {
    TakePartials(i, value, &next);
    merge(all, next);
  }
  merge(all, second);
  merge(third, fourth);
  merge(all, third);
}

/// The largest of value(0), ..., value(n - 1) and `least`; NaN are passed over.
template <typename F>
[[gnu::always_inline]] inline float LargestOf(int64_t n, float least, F&& value) {
  const auto larger = [](auto& a, const auto& b) { a = b > a ? b : a; };
  Partials best = least - Partials{};
  MergeGroups(n, value, larger, best);
  float most = MergePartials(best, larger);
  for (int64_t i = n / kPartials * kPartials; i < n; ++i) larger(most, value(i));
  return most;
}

template <typename F>
[[gnu::always_inline]] inline float SumOver(int64_t n, F&& value) {
  const auto add = [](auto& a, const auto& b) { a += b; };
  Partials sums = {};
  MergeGroups(n, value, add, sums);
  int64_t i = n / kPartials * kPartials;
  for (int64_t j = 0; i < n; ++i, ++j) sums[j] += value(i);
  return MergePartials(sums, add);
}

}  // namespace
}  // namespace minim
