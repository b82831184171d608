// rows x up to 64 integer sums in registers: a broadcast word of A times 16 words of B at once.
// A dot product has a latency of 5 and two ports, so that ten sums or more keep both busy.
#pragma once

#include "kernels/cpu/vnni.h"

namespace minim {
namespace {

constexpr std::string_view kTile = "4x64";
constexpr double kWordsPerThread = 500e3;
constexpr int64_t kTilePanels = 4, kDepthBlock = 128;  // 32 KiB of four panels
constexpr bool kMasksColumns = true, kSignedQuads = false;

/// The columns of panel j that there are.
inline __mmask16 ColumnsOf(const IntTileArea& t, int64_t j) {
  const int64_t left = t.columns - j * kPanel;
  return static_cast<__mmask16>(left < kPanel ? (1u << left) - 1 : 0xFFFFu);
}

template <int rows, int panels>
inline void StartTile(const IntTileArea& t, __m512i (&sum)[rows][panels]) {
  for (int j = 0; j < panels; ++j) {
    const __mmask16 columns = j < panels - 1 ? 0xFFFF : ColumnsOf(t, j);
    const __m512i start =
        t.column_start ? LoadInts(t.column_start + j * kPanel) : _mm512_setzero_si512();
    for (int i = 0; i < rows; ++i) {
      if (t.accumulate)
        sum[i][j] = _mm512_maskz_loadu_epi32(columns, t.c + i * t.c_row + j * kPanel);
      else
        sum[i][j] = _mm512_add_epi32(start, _mm512_set1_epi32(t.row_start ? t.row_start[i] : 0));
    }
  }
}

template <int rows, int panels>
inline void StoreTile(const IntTileArea& t, const __m512i (&sum)[rows][panels]) {
  for (int j = 0; j < panels; ++j) {
    const __mmask16 columns = j < panels - 1 ? 0xFFFF : ColumnsOf(t, j);
    for (int i = 0; i < rows; ++i)
      _mm512_mask_storeu_epi32(t.c + i * t.c_row + j * kPanel, columns, sum[i][j]);
  }
}

template <int rows, int panels>
struct PairTile {
  static void Run(const IntTileArea& t) {
    __m512i sum[rows][panels];
    StartTile(t, sum);
    const auto* a = static_cast<const int32_t*>(t.a);
    const auto* b = static_cast<const int32_t*>(t.b);
    for (int64_t k = 0; k < t.depth; ++k, a += rows, b += kPanel) {
      __m512i y[panels];
#pragma GCC unroll 8
      for (int j = 0; j < panels; ++j) y[j] = LoadInts(b + j * t.b_panel);
#pragma GCC unroll 8
      for (int i = 0; i < rows; ++i) {
        const __m512i x = _mm512_set1_epi32(a[i]);
#pragma GCC unroll 8
        for (int j = 0; j < panels; ++j) sum[i][j] = AddPairs(sum[i][j], x, y[j]);
      }
    }
    StoreTile(t, sum);
  }
};

// vpdpbusd takes one unsigned operand: b + 128, that is b with a bit flipped. A's row sums, times
// 128, come off in the row's start, so that no sum of B's columns is needed: these are pixels of an
// image as often as they are weights.
template <int rows, int panels>
struct ByteTile {
  static void Run(const IntTileArea& t) {
    __m512i sum[rows][panels];
    StartTile(t, sum);
    const auto* a = static_cast<const int32_t*>(t.a);
    const auto* b = static_cast<const int32_t*>(t.b);
    for (int64_t k = 0; k < t.depth; ++k, ++a, b += kPanel) {
      __m512i y[panels];
#pragma GCC unroll 8
      for (int j = 0; j < panels; ++j) y[j] = LoadInts(b + j * t.b_panel);
#pragma GCC unroll 8
      for (int i = 0; i < rows; ++i) {
        const __m512i x = _mm512_set1_epi32(a[i * t.a_row]);
#pragma GCC unroll 8
        for (int j = 0; j < panels; ++j) sum[i][j] = AddQuads(sum[i][j], y[j], x);
      }
    }
    StoreTile(t, sum);
  }
};

inline __mmask64 FirstBytes(int64_t n) { return n < 64 ? (__mmask64{1} << n) - 1 : ~__mmask64{0}; }

/// 16 lanes of 128 times sums of signed bytes.
class RowSum {
 public:
  void Add(__m512i bytes) { lanes_ = AddQuads(lanes_, _mm512_set1_epi8(-128), bytes); }
  int32_t Negated() const { return -_mm512_reduce_add_epi32(lanes_); }

 private:
  __m512i lanes_ = _mm512_setzero_si512();
};

inline int32_t PlaceRow(const void* src, uint8_t flip, int64_t k, void* dst) {
  RowSum sum;
  for (int64_t i = 0; i < k; i += 64) {
    const __mmask64 there = FirstBytes(k - i), whole_quads = FirstBytes((k - i + 3) / 4 * 4);
    const __m512i bytes = _mm512_maskz_loadu_epi8(there, static_cast<const char*>(src) + i);
    const __m512i x =
        _mm512_xor_si512(bytes, _mm512_maskz_set1_epi8(there, static_cast<char>(flip)));
    _mm512_mask_storeu_epi8(static_cast<char*>(dst) + i, whole_quads, x);
    sum.Add(x);
  }
  return sum.Negated();
}
constexpr int32_t (*kPlaceRow)(const void* src, uint8_t flip, int64_t k, void* dst) = PlaceRow;

// One row by panels of bytes; two sums of each panel, or the next product waits for the last.
template <int panels>
struct IntRow {
  static void Run(const IntRowArgs& t) {
    const __m512i start = _mm512_set1_epi32(t.start);
    __m512i even[panels], odd[panels];
    for (int j = 0; j < panels; ++j) even[j] = start, odd[j] = _mm512_setzero_si512();
    const auto add = [&](__m512i(&sum)[panels], int64_t k) {
      const __m512i a = _mm512_set1_epi32(_mm_cvtsi128_si32(_mm_loadu_si32(t.a + 4 * k)));
#pragma GCC unroll 8
      for (int j = 0; j < panels; ++j)
        sum[j] = AddQuads(sum[j], LoadInts(t.packed + (j * t.quads + k) * kPanel * 4), a);
    };
    int64_t k = 0;
    for (; k + 2 <= t.quads; k += 2) {
      add(even, k);
      add(odd, k + 1);
    }
    if (k < t.quads) add(even, k);
    for (int j = 0; j < panels; ++j)
      _mm512_storeu_si512(t.c + j * kPanel, _mm512_add_epi32(even[j], odd[j]));
  }
};

}  // namespace
}  // namespace minim
