#include "kernels/cpu/depthwise_rows_impl.h"
#include "kernels/cpu/requantizer.h"
#include "kernels/cpu/vnni.h"

namespace minim {
namespace {

// 32 bytes under as many outputs, as 16-bit integers; those that are not there are `padding`.
template <int stride, bool is_signed>
inline __m512i LoadColumns(const uint8_t* at, uint64_t there, __m512i padding) {
  if constexpr (stride == 1) {
    const __m256i bytes =
        _mm256_mask_loadu_epi8(_mm512_castsi512_si256(padding), static_cast<__mmask32>(there), at);
    return is_signed ? _mm512_cvtepi8_epi16(bytes) : _mm512_cvtepu8_epi16(bytes);
  } else {
    const __m512i bytes = _mm512_mask_loadu_epi8(padding, there, at);  // every other one is
    if constexpr (is_signed) return _mm512_srai_epi16(_mm512_slli_epi16(bytes, 8), 8);
    return _mm512_and_si512(bytes, _mm512_set1_epi16(0xFF));
  }
}

// Filters of size x size, or any if 0.
template <int stride, bool is_signed, int size>
void Filter(const DepthwiseRows& r, const uint8_t* image, const uint8_t* padding,
            const PlaneByteFilter& f, std::byte* dst) {
  const Requantizer requantizer(f.is_signed, f.zero_point);
  const __m512i outside = _mm512_set1_epi8(static_cast<char>(*padding)),
                start = _mm512_set1_epi32(f.start);
  const __m512 scale = _mm512_set1_ps(f.scale);
  const int64_t across = Taps<size>::Of(r.w.kernel[2]),
                taps = Taps<size>::Of(r.w.kernel[1]) * across;
  ForEachVector(r, image, padding, dst,
                [&](const uint8_t* const* rows, const uint64_t* masks, int64_t x, int64_t count,
                    std::byte* to) {
                  const auto load = [&](int64_t tap) {
                    const int64_t k = tap % across;
                    return LoadColumns<stride, is_signed>(rows[tap / across] + r.ColumnOf(x, k),
                                                          masks[k], outside);
                  };
                  // Of the lower and the upper half of each 128 bits.
                  __m512i low = start, high = start;
#pragma GCC unroll 13
                  for (int64_t tap = 0; tap < taps; tap += 2) {
                    const __m512i a = load(tap),
                                  b = tap + 1 < taps ? load(tap + 1) : _mm512_setzero_si512();
                    const __m512i weights = _mm512_set1_epi32(f.pairs[tap / 2]);
                    low = AddPairs(low, _mm512_unpacklo_epi16(a, b), weights);
                    high = AddPairs(high, _mm512_unpackhi_epi16(a, b), weights);
                  }
                  _mm256_mask_storeu_epi8(to, static_cast<__mmask32>((uint64_t{1} << count) - 1),
                                          requantizer.JoinPair(requantizer.Of(low, scale),
                                                               requantizer.Of(high, scale)));
                });
}

template <int stride, bool is_signed>
void FilterOf(const DepthwiseRows& r, const uint8_t* image, const uint8_t* padding,
              const PlaneByteFilter& f, std::byte* dst) {
  const int64_t size = r.w.kernel[1] == r.w.kernel[2] ? r.w.kernel[1] : 0;
  if (size == 3) return Filter<stride, is_signed, 3>(r, image, padding, f, dst);
  if (size == 5) return Filter<stride, is_signed, 5>(r, image, padding, f, dst);
  Filter<stride, is_signed, 0>(r, image, padding, f, dst);
}

}  // namespace

void FilterBytesVnni(const DepthwiseRows& r, const uint8_t* image, const uint8_t* padding,
                     const PlaneByteFilter& f, std::byte* dst) {
  r.w.stride[2] == 1 ? FilterOf<1, false>(r, image, padding, f, dst)
                     : FilterOf<2, false>(r, image, padding, f, dst);
}
void FilterSignedBytesVnni(const DepthwiseRows& r, const uint8_t* image, const uint8_t* padding,
                           const PlaneByteFilter& f, std::byte* dst) {
  r.w.stride[2] == 1 ? FilterOf<1, true>(r, image, padding, f, dst)
                     : FilterOf<2, true>(r, image, padding, f, dst);
}

}  // namespace minim
