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

/// What `merge` makes of all of them: halves with halves, so that few wait for each other.
template <typename F>
[[gnu::always_inline]] inline float MergePartials(const Partials& partials, F&& merge) {
  alignas(64) float values[kPartials];
  std::memcpy(values, &partials, sizeof(values));
  for (int64_t width = kPartials / 2; width > 0; width /= 2) {
    for (int64_t j = 0; j < width; ++j) values[j] = merge(values[j], values[j + width]);
  }
  return values[0];
}

/// The largest of value(0), ..., value(n - 1) and `least`; NaN are passed over.
template <typename F>
[[gnu::always_inline]] inline float LargestOf(int64_t n, float least, F&& value) {
  Partials best = least - Partials{}, next;
  int64_t i = 0;
  for (; i + kPartials <= n; i += kPartials) {
    TakePartials(i, value, &next);
    best = next > best ? next : best;
  }
  float last = least;
  for (; i < n; ++i) last = value(i) > last ? value(i) : last;
  const float most = MergePartials(best, [](float a, float b) { return b > a ? b : a; });
  return last > most ? last : most;
}

template <typename F>
[[gnu::always_inline]] inline float SumOver(int64_t n, F&& value) {
  Partials sums = {}, next;
  int64_t i = 0;
  for (; i + kPartials <= n; i += kPartials) {
    TakePartials(i, value, &next);
    sums += next;
  }
  for (int64_t j = 0; i < n; ++i, ++j) sums[j] += value(i);
  return MergePartials(sums, [](float a, float b) { return a + b; });
}

}  // namespace
}  // namespace minim
