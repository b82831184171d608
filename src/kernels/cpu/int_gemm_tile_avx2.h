// rows x 16 integer sums in registers: a broadcast word of A times 8 words of B at once.
#pragma once

#include <immintrin.h>

namespace minim {
namespace {

constexpr std::string_view kTile = "4x16";
constexpr double kWordsPerThread = 100e3;
constexpr int64_t kTilePanels = 1, kDepthBlock = 384;  // 24 KiB of one panel
constexpr bool kMasksColumns = false, kSignedQuads = true;
constexpr int32_t (*kPlaceRow)(const void* src, uint8_t flip, int64_t k, void* dst) = nullptr;

inline __m256i LoadInts(const void* src) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(src));
}
inline __m256i BroadcastWord(const void* src) {
  return _mm256_broadcastd_epi32(_mm_loadu_si32(src));
}

template <int rows>
inline void StartTile(const IntTileArea& t, __m256i (&sum)[rows][2]) {
  for (int i = 0; i < rows; ++i) {
    for (int j = 0; j < 2; ++j) {
      if (t.accumulate) {
        sum[i][j] = LoadInts(t.c + i * t.c_row + 8 * j);
        continue;
      }
      sum[i][j] = _mm256_set1_epi32(t.row_start ? t.row_start[i] : 0);
      if (t.column_start) sum[i][j] = _mm256_add_epi32(sum[i][j], LoadInts(t.column_start + 8 * j));
    }
  }
}

template <int rows>
inline void StoreTile(const IntTileArea& t, const __m256i (&sum)[rows][2]) {
  for (int i = 0; i < rows; ++i)
    for (int j = 0; j < 2; ++j)
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(t.c + i * t.c_row) + j, sum[i][j]);
}

template <int rows, int panels>
struct PairTile {
  static void Run(const IntTileArea& t) {
    __m256i sum[rows][2];
    StartTile<rows>(t, sum);
    const auto* a = static_cast<const int32_t*>(t.a);
    const auto* b = static_cast<const int32_t*>(t.b);
    for (int64_t k = 0; k < t.depth; ++k, a += rows, b += kPanel) {
      const __m256i b0 = LoadInts(b), b1 = LoadInts(b + 8);
#pragma GCC unroll 8
      for (int i = 0; i < rows; ++i) {
        const __m256i x = BroadcastWord(a + i);
        sum[i][0] = _mm256_add_epi32(sum[i][0], _mm256_madd_epi16(x, b0));
        sum[i][1] = _mm256_add_epi32(sum[i][1], _mm256_madd_epi16(x, b1));
      }
    }
    StoreTile<rows>(t, sum);
  }
};

// vpmaddubsw takes one unsigned operand, the magnitude of a; the sign goes to b as ~b = -b - 1,
// which a's negative magnitudes make up for in the row's start. Nothing saturates: a pair of
// products lies in 2 * 128 * [-128, 127] whatever the bytes are.
template <int rows, int panels>
struct ByteTile {
  static void Run(const IntTileArea& t) {
    __m256i sum[rows][2];
    StartTile<rows>(t, sum);
    const __m256i ones = _mm256_set1_epi16(1);
    const auto* a = static_cast<const SignedQuad*>(t.a);
    const auto* b = static_cast<const int32_t*>(t.b);
    for (int64_t k = 0; k < t.depth; ++k, a += rows, b += kPanel) {
      const __m256i b0 = LoadInts(b), b1 = LoadInts(b + 8);
#pragma GCC unroll 8
      for (int i = 0; i < rows; ++i) {
        const __m256i x = BroadcastWord(&a[i].magnitudes), sign = BroadcastWord(&a[i].signs);
        const __m256i y0 = _mm256_maddubs_epi16(x, _mm256_xor_si256(b0, sign));
        const __m256i y1 = _mm256_maddubs_epi16(x, _mm256_xor_si256(b1, sign));
        sum[i][0] = _mm256_add_epi32(sum[i][0], _mm256_madd_epi16(y0, ones));
        sum[i][1] = _mm256_add_epi32(sum[i][1], _mm256_madd_epi16(y1, ones));
      }
    }
    StoreTile<rows>(t, sum);
  }
};

// One row by panels of bytes, as ByteTile multiplies them.
template <int panels>
struct IntRow {
  static int32_t NegativeMagnitudes(const int8_t* a, int64_t n) {
    __m256i sum = _mm256_setzero_si256();
    const __m256i zero = _mm256_setzero_si256();
    for (int64_t i = 0; i < n; i += 32) {
      const __m256i x = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(a + i));
      const __m256i negative = _mm256_max_epi8(_mm256_sub_epi8(zero, x), zero);
      sum = _mm256_add_epi64(sum, _mm256_sad_epu8(negative, zero));
    }
    const __m128i half =
        _mm_add_epi64(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
    return _mm_cvtsi128_si32(_mm_add_epi64(half, _mm_unpackhi_epi64(half, half)));
  }

  static void Run(const IntRowArgs& t) {
    __m256i sum[panels * 2];
    const __m256i ones = _mm256_set1_epi16(1), zero = _mm256_setzero_si256();
    for (__m256i& s : sum) s = _mm256_set1_epi32(NegativeMagnitudes(t.a, t.quads * 4));
    for (int64_t k = 0; k < t.quads; ++k) {
      const __m256i a = _mm256_broadcastd_epi32(_mm_loadu_si32(t.a + 4 * k));
      const __m256i magnitude = _mm256_abs_epi8(a), sign = _mm256_cmpgt_epi8(zero, a);
#pragma GCC unroll 8
      for (int j = 0; j < panels * 2; ++j) {
        const int8_t* b = t.packed + ((j / 2 * t.quads + k) * 2 + j % 2) * 32;
        const __m256i row = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(b));
        const __m256i pairs = _mm256_maddubs_epi16(magnitude, _mm256_xor_si256(row, sign));
        sum[j] = _mm256_add_epi32(sum[j], _mm256_madd_epi16(pairs, ones));
      }
    }
    for (int j = 0; j < panels * 2; ++j)
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(t.c) + j, sum[j]);
  }
};

}  // namespace
}  // namespace minim
