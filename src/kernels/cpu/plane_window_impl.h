// The bodies of PlaneLevel. Define MINIM_PLANES and MINIM_PLANES_NAME first.
#pragma once

#include <algorithm>

#include "kernels/cpu/plane_window.h"
#include "kernels/cpu/simd.h"

namespace minim {
namespace {

#ifdef __AVX2__
inline Vec MaxOrNan(Vec value, Vec best) {
  return _mm256_blendv_ps(_mm256_max_ps(value, best), value,
                          _mm256_cmp_ps(value, value, _CMP_UNORD_Q));
}
#else
inline Vec MaxOrNan(Vec value, Vec best) {
  const auto keep = (value <= best) | (best != best);
  return keep ? best : value;
}
#endif

// Calls value(staged position, output row, column) for each vector of outputs. A vector may run
// past its row: what it writes there is written again, and past the plane nothing is.
template <typename F>
inline void ForEachVector(const PlaneRows& p, F&& value) {
  const int64_t total = p.rows * p.width;
  for (int64_t y = 0; y < p.rows; ++y) {
    const float* row = p.stage + y * p.output_row;
    for (int64_t x = 0; x < p.width; x += kLanes) {
      const int64_t at = y * p.width + x;
      const Vec result = value(row + x, y, x);
      if (at + kLanes <= total)
        Store(p.dst + at, result);
      else
        StoreFirst(p.dst + at, result, total - at);
    }
  }
}

// `count` taps, or as many as the window has if 0.
template <int count, typename F>
inline Vec OverTaps(const PlaneRows& p, const float* at, Vec start, F&& f) {
  Vec result = start;
  if constexpr (count > 0) {
#pragma GCC unroll 9
    for (int t = 0; t < count; ++t) result = f(result, Load(at + p.taps[t]), t);
  } else {
    for (int64_t t = 0; t < p.tap_count; ++t) result = f(result, Load(at + p.taps[t]), t);
  }
  return result;
}

template <int count>
void FilterTaps(const PlaneRows& p, const PlaneFilter& f) {
  const Vec bias = Broadcast(f.bias), low = Broadcast(f.low), high = Broadcast(f.high);
  const int64_t total = p.rows * p.width;
  ForEachVector(p, [&](const float* at, int64_t y, int64_t x) {
    Vec sum = OverTaps<count>(p, at, Vec{}, [&](Vec s, Vec v, int64_t t) {
      return MulAdd(Broadcast(f.weights[t]), v, s);
    });
    sum = sum + bias;
    if (f.residual) {
      const int64_t i = y * p.width + x;
      sum =
          sum + (i + kLanes <= total ? Load(f.residual + i) : LoadFirst(f.residual + i, total - i));
    }
    return Min(high, Max(low, sum));
  });
}

void Filter(const PlaneRows& p, const PlaneFilter& f) {
  p.tap_count == 9 ? FilterTaps<9>(p, f) : FilterTaps<0>(p, f);
}

template <int count>
void MaxTaps(const PlaneRows& p) {
  const Vec lowest = Broadcast(-std::numeric_limits<float>::infinity());
  ForEachVector(p, [&](const float* at, int64_t, int64_t) {
    return OverTaps<count>(p, at, lowest,
                           [](Vec best, Vec v, int64_t) { return MaxOrNan(v, best); });
  });
}

void MaxWindow(const PlaneRows& p) {
  if (p.tap_count == 9) return MaxTaps<9>(p);
  p.tap_count == 4 ? MaxTaps<4>(p) : MaxTaps<0>(p);
}

template <int count>
void AverageTaps(const PlaneRows& p, const float* row_counts, const float* column_counts) {
  ForEachVector(p, [&](const float* at, int64_t y, int64_t x) {
    const Vec sum = OverTaps<count>(p, at, Vec{}, [](Vec s, Vec v, int64_t) { return s + v; });
    return sum / (Broadcast(row_counts[y]) * Load(column_counts + x));
  });
}

void Average(const PlaneRows& p, const float* row_counts, const float* column_counts) {
  if (p.tap_count == 9) return AverageTaps<9>(p, row_counts, column_counts);
  AverageTaps<0>(p, row_counts, column_counts);
}

}  // namespace

const PlaneLevel& MINIM_PLANES() {
  static constexpr PlaneLevel kLevel = {MINIM_PLANES_NAME, Filter, MaxWindow, Average};
  return kLevel;
}

}  // namespace minim
