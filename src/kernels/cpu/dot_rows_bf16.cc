#include <immintrin.h>

#include <algorithm>

#include "kernels/cpu/dot_rows.h"
#include "kernels/cpu/gelu.h"
#include "kernels/cpu/gemm.h"

namespace minim {
namespace {

constexpr int64_t kWords = kDotBlock / 4;

/// As the intrinsic gives it; through that, GCC 12 copies sums.
inline __m512 AddPairsOfBf16(__m512 sum, __m512i x, __m512i y) {
  asm("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(x), "v"(y));
  return sum;
}

// Eight sums or more, or products wait for each other.
template <int rows, int panels>
void RunTile(const DotRows& t, int64_t row, int64_t panel) {
  const int64_t words = t.blocks * kWords;
  float* c = static_cast<float*>(t.c) + row * t.c_row + panel * kPanel;
  const std::byte* a = t.a + row * t.a_row;
  const std::byte* b = t.packed + panel * words * kPanel * 4;
  __m512 sum[rows][panels];
  for (int i = 0; i < rows; ++i)
    for (int j = 0; j < panels; ++j)
      sum[i][j] = t.start ? _mm512_loadu_ps(t.start + (panel + j) * kPanel) : _mm512_setzero_ps();
  for (int64_t k = 0; k < words; ++k, a += 4, b += kPanel * 4) {
    __m512i y[panels];
#pragma GCC unroll 8
    for (int j = 0; j < panels; ++j) y[j] = _mm512_loadu_si512(b + j * words * kPanel * 4);
#pragma GCC unroll 8
    for (int i = 0; i < rows; ++i) {
      const __m512i x = _mm512_set1_epi32(_mm_cvtsi128_si32(_mm_loadu_si32(a + i * t.a_row)));
#pragma GCC unroll 8
      for (int j = 0; j < panels; ++j) sum[i][j] = AddPairsOfBf16(sum[i][j], x, y[j]);
    }
  }
  for (int i = 0; i < rows; ++i)
    for (int j = 0; j < panels; ++j) _mm512_storeu_ps(c + i * t.c_row + j * kPanel, sum[i][j]);
}

template <int panels>
void RunRows(const DotRows& t, int64_t panel) {
  int64_t row = 0;
  if constexpr (panels <= 4)
    for (; row + 4 <= t.rows; row += 4) RunTile<4, panels>(t, row, panel);
  for (; row < t.rows; ++row) RunTile<1, panels>(t, row, panel);
}

void Multiply(const DotRows& t) {
  const int64_t together = t.rows < 4 ? 8 : 4;
  int64_t panel = 0;
  for (; panel + together <= t.panels; panel += together)
    together == 8 ? RunRows<8>(t, panel) : RunRows<4>(t, panel);
  for (; panel + 4 <= t.panels; panel += 4) RunRows<4>(t, panel);
  for (; panel < t.panels; ++panel) RunRows<1>(t, panel);
}

void Round(const float* src, int64_t n, uint16_t* dst) {
  int64_t i = 0;
  for (; i + 2 * kPanel <= n; i += 2 * kPanel)  // a row of a tile, which then waits for one store
    _mm512_storeu_si512(dst + i, (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(src + i + kPanel),
                                                              _mm512_loadu_ps(src + i)));
  for (; i < n; i += kPanel) {
    const auto there = static_cast<__mmask16>(n - i < kPanel ? (1u << (n - i)) - 1 : 0xFFFFu);
    const __m256bh halves = _mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(there, src + i));
    _mm256_mask_storeu_epi16(dst + i, there, (__m256i)halves);
  }
}

void Split(const float* src, int64_t n, int64_t step, uint16_t* dst) {
  const __m512 most = _mm512_set1_ps(kMostInParts);
  for (int64_t i = 0; i < n; i += kPanel) {
    const auto there = static_cast<__mmask16>(n - i < kPanel ? (1u << (n - i)) - 1 : 0xFFFFu);
    const __m512 x = _mm512_maskz_loadu_ps(there, src + i);
    __m512 rest = _mm512_max_ps(-most, _mm512_min_ps(most, x));  // NaN passes
    for (int64_t part = 0; part < kDotParts; ++part) {
      const __m256i halves = (__m256i)_mm512_cvtneps_pbh(rest);
      _mm256_mask_storeu_epi16(dst + part * step + i, there, halves);
      rest -= _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
    }
  }
}

template <typename F>
void FinishAs(const FinishRows& t, const F& activation) {
  for (int64_t i = 0; i < t.rows; ++i)
    for (int64_t j = 0; j < t.columns; j += kPanel) {
      const int64_t left = t.columns - j, at = i * t.step + j;
      const auto there = static_cast<__mmask16>(left < kPanel ? (1u << left) - 1 : 0xFFFFu);
      __m512 y = _mm512_maskz_loadu_ps(there, t.y + at);
      if (t.residual) y = _mm512_add_ps(y, _mm512_maskz_loadu_ps(there, t.residual + at));
      _mm512_mask_storeu_ps(t.y + at, there, activation(y));
    }
}

void Finish(const FinishRows& t) {
  if (t.gelu) return FinishAs(t, GeluVectors());
  const __m512 low = _mm512_set1_ps(t.low), high = _mm512_set1_ps(t.high);
  FinishAs(t, [=](__m512 y) { return _mm512_min_ps(high, _mm512_max_ps(low, y)); });
}

}  // namespace

const DotLevel& DotsBf16() {
  static constexpr DotLevel kLevel = {.name = "avx512_bf16",
                                      .multiply_bf16 = Multiply,
                                      .round = Round,
                                      .split = Split,
                                      .finish = Finish};
  return kLevel;
}

}  // namespace minim
