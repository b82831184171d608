// Sums of products of BF16 and what becomes of them, for the files compiled with its arithmetic.
#pragma once

#include <immintrin.h>

#include <algorithm>

#include "kernels/cpu/gelu.h"
#include "kernels/cpu/nhwc_conv.h"

namespace minim {
namespace {

/// A quad is two BF16. The sums are rounded where they are stored.
struct Dots {
  using Args = NhwcHalves;
  using Vector = __m512;
  static Vector Start(const Args& args, int panel) {
    return _mm512_loadu_ps(args.starts + panel * kPanel);
  }
  static Vector Pixel(const std::byte* quad) {
    return _mm512_castsi512_ps(_mm512_set1_epi32(_mm_cvtsi128_si32(_mm_loadu_si32(quad))));
  }
  static Vector Weights(const std::byte* w) { return _mm512_loadu_ps(w); }
  static Vector Add(Vector sum, Vector x, Vector y) {
    return _mm512_dpbf16_ps(sum, (__m512bh)x, (__m512bh)y);
  }
  static void Advance(Args& args, int64_t pixels) {
    if (args.residual) args.residual += pixels * args.run.dst_step;
  }
  static void AdvanceFilters(Args& args, int64_t filters) {
    args.run.dst += filters * 2;
    args.run.filters -= filters;
    args.starts += filters;
    if (args.residual) args.residual += filters * 2;
  }
  template <int pixels, int panels>
  static void Store(const Args& args, const Vector (&sum)[pixels][panels]) {
    if (args.gelu) return StoreAs(args, sum, GeluVectors());
    const __m512 low = _mm512_set1_ps(args.low), high = _mm512_set1_ps(args.high);
    StoreAs(args, sum, [=](__m512 y) { return _mm512_min_ps(high, _mm512_max_ps(low, y)); });
  }
  template <int pixels, int panels, typename F>
  [[gnu::always_inline]] static void StoreAs(const Args& args, const Vector (&sum)[pixels][panels],
                                             const F& activation) {
    for (int j = 0; j < panels; ++j) {
      const int64_t left = args.run.filters - j * kPanel;
      const auto there = static_cast<__mmask16>(left < kPanel ? (1u << left) - 1 : 0xFFFFu);
      for (int i = 0; i < pixels; ++i) {
        const int64_t at = i * args.run.dst_step + j * kPanel * 2;
        __m512 y = sum[i][j];
        if (args.residual) y = _mm512_add_ps(y, Widened(there, args.residual + at));
        const auto halves = (__m256i)_mm512_cvtneps_pbh(activation(y));
        _mm256_mask_storeu_epi16(args.run.dst + at, there, halves);
      }
    }
  }
  static __m512 Widened(__mmask16 there, const std::byte* halves) {
    const __m512i words = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(there, halves));
    return _mm512_castsi512_ps(_mm512_slli_epi32(words, 16));
  }
};

/// A quad of `count` columns: of two rows, or the last row and zeros.
inline void PackQuad(const BFloat16* low, const BFloat16* high, int64_t step, int64_t count,
                     uint32_t* to) {
  if (step == 1 && high) {
    for (int64_t i = 0; i < count; i += kPanel) {
      const auto there =
          static_cast<__mmask16>(count - i < kPanel ? (1u << (count - i)) - 1 : 0xFFFFu);
      const auto widened = [=](const BFloat16* halves) {
        return _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(there, halves + i));
      };
      _mm512_mask_storeu_epi32(to + i, there,
                               _mm512_or_si512(widened(low), _mm512_slli_epi32(widened(high), 16)));
    }
    return;
  }
  for (int64_t i = 0; i < count; ++i)
    to[i] = low[i * step].bits | (high ? uint32_t{high[i * step].bits} << 16 : 0);
}

/// Sixteen rows of sixteen words become columns.
inline void TransposeWords(__m512i (&r)[16]) {
  __m512i t[16];
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {  // in each lane of 128 bits then four rows of a column
    r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  for (int i = 0; i < 4; ++i) {
    const __m512i even0 = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88),
                  even1 = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88),
                  odd0 = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xDD),
                  odd1 = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xDD);
    t[i] = _mm512_shuffle_i32x4(even0, even1, 0x88);
    t[i + 4] = _mm512_shuffle_i32x4(odd0, odd1, 0x88);
    t[i + 8] = _mm512_shuffle_i32x4(even0, even1, 0xDD);
    t[i + 12] = _mm512_shuffle_i32x4(odd0, odd1, 0xDD);
  }
  for (int i = 0; i < 16; ++i) r[i] = t[i];
}

/// Up to sixteen columns whose values, and so their pairs, lie side by side; `width` words apart.
inline void PackPairs(const HalfColumns& c, int64_t first, int64_t count, int64_t width,
                      uint32_t* to) {
  for (int64_t k = 0; k < c.k; k += 2 * kPanel, to += kPanel * width) {
    const int64_t values = std::min(2 * kPanel, c.k - k);
    const auto there = static_cast<__mmask32>(~uint32_t{0} >> (2 * kPanel - values));
    __m512i words[kPanel];
    for (int64_t i = 0; i < kPanel; ++i)
      words[i] = i < count ? _mm512_maskz_loadu_epi16(there, c.b + (first + i) * c.column + k)
                           : _mm512_setzero_si512();
    TransposeWords(words);
    for (int64_t i = 0; i < (values + 1) / 2; ++i) _mm512_storeu_si512(to + i * width, words[i]);
  }
}

inline void PackColumns(const HalfColumns& c, std::byte* packed) {
  auto* to = reinterpret_cast<uint32_t*>(packed);
  for (int64_t first = 0; first < c.n; first += kFilterGroup) {
    const int64_t count = std::min(kFilterGroup, c.n - first), width = PanelsOf(count) * kPanel;
    if (c.row == 1) {
      for (int64_t i = 0; i < count; i += kPanel)
        PackPairs(c, first + i, std::min(kPanel, count - i), width, to + i);
      to += (c.k + 1) / 2 * width;
      continue;
    }
    for (int64_t k = 0; k < c.k; k += 2, to += width) {
      const BFloat16* low = c.b + k * c.row + first * c.column;
      PackQuad(low, k + 1 < c.k ? low + c.row : nullptr, c.column, count, to);
      std::fill(to + count, to + width, 0u);
    }
  }
}

}  // namespace
}  // namespace minim
