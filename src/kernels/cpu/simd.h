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

#if defined(__AVX512F__)
constexpr int kLanes = 16;
using Vec = __m512;
inline Vec MulAdd(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }
/// a > b ? a : b, the second where either is NaN.
inline Vec Max(Vec a, Vec b) { return _mm512_max_ps(a, b); }
inline Vec Min(Vec a, Vec b) { return _mm512_min_ps(a, b); }
inline Vec Broadcast(float x) { return _mm512_set1_ps(x); }
#elif defined(__AVX2__)
constexpr int kLanes = 8;
using Vec = __m256;
inline Vec MulAdd(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }
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
#ifdef __AVX512F__
  return _mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << count) - 1), src);
#endif
  Vec value = {};
  std::memcpy(&value, src, static_cast<size_t>(count) * sizeof(float));
  return value;
}
/// The value, loaded once: GCC would read it again for every use.
inline Vec Held(Vec value) {
#ifdef __AVX512F__
  asm("" : "+v"(value));
#endif
  return value;
}
inline void Store(float* dst, Vec value) { std::memcpy(dst, &value, sizeof(value)); }
inline void StoreFirst(float* dst, Vec value, int64_t count) {
#ifdef __AVX512F__
  return _mm512_mask_storeu_ps(dst, static_cast<__mmask16>((1u << count) - 1), value);
#endif
  std::memcpy(dst, &value, static_cast<size_t>(count) * sizeof(float));
}

}  // namespace
}  // namespace minim
