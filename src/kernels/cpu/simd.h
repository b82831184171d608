// The float vector of one instruction-set level. Included by sources that are compiled once per
// level: everything here has internal linkage.
#pragma once

#include <cstdint>
#include <cstring>

#ifdef __AVX2__
#include <immintrin.h>
#endif

namespace minim {
namespace {

#ifdef __AVX2__
constexpr int kLanes = 8;
using Vec = __m256;
inline Vec MulAdd(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }
/// a > b ? a : b, the second where either is NaN.
inline Vec Max(Vec a, Vec b) { return _mm256_max_ps(a, b); }
inline Vec Min(Vec a, Vec b) { return _mm256_min_ps(a, b); }
inline Vec Broadcast(float x) { return _mm256_set1_ps(x); }
#else
constexpr int kLanes = 4;
using Vec = float __attribute__((vector_size(16)));
inline Vec MulAdd(Vec a, Vec b, Vec c) { return a * b + c; }
inline Vec Max(Vec a, Vec b) { return a > b ? a : b; }
inline Vec Min(Vec a, Vec b) { return a < b ? a : b; }
inline Vec Broadcast(float x) { return Vec{x, x, x, x}; }
#endif

inline Vec Load(const float* src) {
  Vec value;
  std::memcpy(&value, src, sizeof(value));
  return value;
}
/// `count` elements, then zeros.
inline Vec LoadFirst(const float* src, int64_t count) {
  Vec value = {};
  std::memcpy(&value, src, static_cast<size_t>(count) * sizeof(float));
  return value;
}
inline void Store(float* dst, Vec value) { std::memcpy(dst, &value, sizeof(value)); }
inline void StoreFirst(float* dst, Vec value, int64_t count) {
  std::memcpy(dst, &value, static_cast<size_t>(count) * sizeof(float));
}

}  // namespace
}  // namespace minim
