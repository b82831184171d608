// The bodies of WinogradLevel. Define MINIM_WINOGRAD and MINIM_WINOGRAD_NAME first.
#pragma once

#include <algorithm>

#include "kernels/cpu/simd.h"
#include "kernels/cpu/winograd.h"

namespace minim {
namespace {

constexpr float kA = kWinogradPoints[0], kB = kWinogradPoints[1];
constexpr float kA2 = kA * kA, kB2 = kB * kB;  // exact, as are all constants of B and A

inline Vec Scaled(Vec x, float factor) { return x * Broadcast(factor); }
inline Vec Plus(Vec x, float factor, Vec y) { return MulAdd(Broadcast(factor), y, x); }

// B^T x: the coefficients of the polynomials that vanish at all points but one.
inline void TransformIn(const Vec (&x)[6], Vec (&y)[6]) {
  y[0] = Plus(Plus(x[4], -(kA2 + kB2), x[2]), kA2 * kB2, x[0]);
  y[5] = Plus(Plus(x[5], -(kA2 + kB2), x[3]), kA2 * kB2, x[1]);
  const Vec even_a = Plus(x[4], -kB2, x[2]), odd_a = Plus(x[3], -kB2, x[1]);
  y[1] = Plus(even_a, kA, odd_a);
  y[2] = Plus(even_a, -kA, odd_a);
  const Vec even_b = Plus(x[4], -kA2, x[2]), odd_b = Plus(x[3], -kA2, x[1]);
  y[3] = Plus(even_b, kB, odd_b);
  y[4] = Plus(even_b, -kB, odd_b);
}

// A^T x: the powers of the points.
inline void TransformOut(const Vec (&x)[6], Vec (&y)[4]) {
  const Vec even_a = x[1] + x[2], odd_a = x[1] - x[2], even_b = x[3] + x[4], odd_b = x[3] - x[4];
  y[0] = x[0] + even_a + even_b;
  y[1] = Plus(Scaled(odd_a, kA), kB, odd_b);
  y[2] = Plus(Scaled(even_a, kA2), kB2, even_b);
  y[3] = Plus(Plus(x[5], kA2 * kA, odd_a), kB2 * kB, odd_b);
}

void NhwcInputTile(const NhwcWinogradIn& t) {
  for (int64_t channel = 0; channel < t.channels; channel += kLanes) {
    const int64_t left = t.channels - channel;
    const float* tile = t.tile + channel;
    float* transformed = t.transformed + channel;
    Vec columns[6][6];  // [row after the transform][column]
    for (int c = 0; c < 6; ++c) {
      Vec x[6], y[6];
#pragma GCC unroll 6
      for (int r = 0; r < 6; ++r) {
        const float* src = tile + r * t.row + c * t.pixel;
        x[r] = left < kLanes ? LoadFirst(src, left) : Load(src);
      }
      TransformIn(x, y);
#pragma GCC unroll 6
      for (int r = 0; r < 6; ++r) columns[r][c] = y[r];
    }
    for (int r = 0; r < 6; ++r) {
      Vec y[6];
      TransformIn(columns[r], y);
#pragma GCC unroll 6
      for (int c = 0; c < 6; ++c) {
        float* dst = transformed + (r * 6 + c) * t.tap;
        left < kLanes ? StoreFirst(dst, y[c], left) : Store(dst, y[c]);
      }
    }
  }
}

// 16 tiles of one plane lie as a tile of 16 channels does.
void InputTiles(const float* tiles, float* transformed, int64_t tap) {
  NhwcInputTile({tiles, 6 * kPanel, kPanel, kPanel, transformed, tap});
}

// A^T m A of so many lanes, row by row.
inline void TransformOut(const float* sums, int64_t tap, Vec (&y)[4][4]) {
  Vec columns[4][6];
  for (int c = 0; c < 6; ++c) {
    Vec x[6], z[4];
#pragma GCC unroll 6
    for (int r = 0; r < 6; ++r) x[r] = Load(sums + (r * 6 + c) * tap);
    TransformOut(x, z);
#pragma GCC unroll 4
    for (int r = 0; r < 4; ++r) columns[r][c] = z[r];
  }
#pragma GCC unroll 4
  for (int r = 0; r < 4; ++r) TransformOut(columns[r], y[r]);
}

// Sums may be read up to a panel past the last filter.
void NhwcOutputTile(const NhwcWinogradOut& t) {
  const Vec low = Broadcast(t.low), high = Broadcast(t.high);
  for (int64_t filter = 0; filter < t.filters; filter += kLanes) {
    const int64_t left = t.filters - filter;
    const bool whole = left >= kLanes;
    const auto load = [&](const float* src) { return whole ? Load(src) : LoadFirst(src, left); };
    Vec y[4][4];
    TransformOut(t.sums + filter, t.tap, y);
    const Vec bias = load(t.bias + filter);
    for (int64_t r = 0; r < t.height; ++r)
      for (int64_t c = 0; c < t.width; ++c) {
        const int64_t at = r * t.row + c * t.pixel + filter;
        Vec sum = y[r][c] + bias;
        if (t.residual) sum = sum + load(t.residual + at);
        sum = Min(high, Max(low, sum));
        whole ? Store(t.dst + at, sum) : StoreFirst(t.dst + at, sum, left);
      }
  }
}

#ifdef __AVX2__
// Eight lanes of four vectors as one row: lane 0 of each, then lane 1 of each, ...
inline void StoreInterleaved(__m256 y0, __m256 y1, __m256 y2, __m256 y3, float* dst) {
  const __m256 a = _mm256_unpacklo_ps(y0, y1), b = _mm256_unpacklo_ps(y2, y3);
  const __m256 c = _mm256_unpackhi_ps(y0, y1), d = _mm256_unpackhi_ps(y2, y3);
  const __m256 r0 = _mm256_shuffle_ps(a, b, 0x44), r1 = _mm256_shuffle_ps(a, b, 0xEE);
  const __m256 r2 = _mm256_shuffle_ps(c, d, 0x44), r3 = _mm256_shuffle_ps(c, d, 0xEE);
  _mm256_storeu_ps(dst, _mm256_permute2f128_ps(r0, r1, 0x20));
  _mm256_storeu_ps(dst + 8, _mm256_permute2f128_ps(r2, r3, 0x20));
  _mm256_storeu_ps(dst + 16, _mm256_permute2f128_ps(r0, r1, 0x31));
  _mm256_storeu_ps(dst + 24, _mm256_permute2f128_ps(r2, r3, 0x31));
}
#endif

// The same of all lanes.
inline void StoreInterleaved(const Vec (&y)[4], float* dst) {
#if defined(__AVX512F__)
  const auto high = [](Vec v) { return _mm512_extractf32x8_ps(v, 1); };
  StoreInterleaved(_mm512_castps512_ps256(y[0]), _mm512_castps512_ps256(y[1]),
                   _mm512_castps512_ps256(y[2]), _mm512_castps512_ps256(y[3]), dst);
  StoreInterleaved(high(y[0]), high(y[1]), high(y[2]), high(y[3]), dst + 32);
#elif defined(__AVX2__)
  StoreInterleaved(y[0], y[1], y[2], y[3], dst);
#else
  for (int lane = 0; lane < kLanes; ++lane)
    Store(dst + 4 * lane, Vec{y[0][lane], y[1][lane], y[2][lane], y[3][lane]});
#endif
}

// `count` pixels of one row of the plane, from pixel `at`; y may be read past them.
inline void PutRow(const WinogradTiles& t, const float* y, int64_t at, int64_t count) {
  const Vec bias = Broadcast(t.bias);
  const Vec low = Broadcast(t.activation.low()), high = Broadcast(t.activation.high());
  const float* residual = t.residual ? t.residual + at : nullptr;
  float* dst = t.plane + at;
  for (int64_t i = 0; i < count; i += kLanes) {
    const int64_t left = std::min<int64_t>(kLanes, count - i);
    Vec sum = Load(y + i) + bias;
    if (residual) sum = sum + (left == kLanes ? Load(residual + i) : LoadFirst(residual + i, left));
    sum = Min(high, Max(low, sum));
    left == kLanes ? Store(dst + i, sum) : StoreFirst(dst + i, sum, left);
  }
  if (t.finisher) t.finisher->finish({.activation = t.activation}, 1, count, dst, count);
}

void OutputTiles(const WinogradTiles& t) {
  float rows[kWinogradOut][kPanel * kWinogradOut + kLanes];
  for (int64_t lane = 0; lane < kPanel; lane += kLanes) {
    Vec y[4][4];
    TransformOut(t.sums + lane, t.tap, y);
    for (int r = 0; r < 4; ++r) StoreInterleaved(y[r], rows[r] + lane * kWinogradOut);
  }
  ForEachTileRow(t.at, [&](int64_t r, int64_t tile, int64_t pixel, int64_t count) {
    PutRow(t, rows[r] + tile * kWinogradOut, pixel, count);
  });
}

}  // namespace

const WinogradLevel& MINIM_WINOGRAD() {
  static constexpr WinogradLevel kLevel = {MINIM_WINOGRAD_NAME, InputTiles, OutputTiles,
                                           NhwcInputTile, NhwcOutputTile};
  return kLevel;
}

}  // namespace minim
