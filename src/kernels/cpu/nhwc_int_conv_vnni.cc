#include "kernels/cpu/nhwc_int_conv.h"
#include "kernels/cpu/nhwc_tile.h"
#include "kernels/cpu/quotient.h"
#include "kernels/cpu/vnni.h"

namespace minim {
namespace {

// Requantize() of 16 sums at once, to the same bits (core/requantize.h).
class Requantizer {
 public:
  explicit Requantizer(const NhwcInts& ints)
      : is_signed_(ints.is_signed),
        least_(_mm512_set1_ps(static_cast<float>((is_signed_ ? -128 : 0) - ints.zero_point))),
        most_(_mm512_set1_ps(static_cast<float>((is_signed_ ? 127 : 255) - ints.zero_point))),
        back_(_mm512_sub_epi32(_mm512_castps_si512(kWhole()), _mm512_set1_epi32(ints.zero_point))) {
  }

  __m512i Of(__m512i sums, __m512 scales) const {
    const __m512 x = _mm512_mul_ps(_mm512_cvtepi32_ps(sums), scales);
    const __m512 bounded = _mm512_min_ps(_mm512_max_ps(x, least_), most_);  // least if NaN
    return _mm512_sub_epi32(_mm512_castps_si512(_mm512_add_ps(bounded, kWhole())), back_);
  }
  // The bytes of four of them.
  __m512i Join(const __m512i (&x)[4]) const {
    const __m512i low = _mm512_packs_epi32(x[0], x[1]), high = _mm512_packs_epi32(x[2], x[3]);
    const __m512i bytes =
        is_signed_ ? _mm512_packs_epi16(low, high) : _mm512_packus_epi16(low, high);
    // Packed lane by lane: quad p of lane l is l * 4 + p.
    return _mm512_permutexvar_epi32(
        _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), bytes);
  }

 private:
  static __m512 kWhole() { return _mm512_set1_ps(kWholeShift); }
  bool is_signed_;
  __m512 least_, most_;
  __m512i back_;
};

struct Vnni {
  using Args = NhwcInts;
  using Vector = __m512i;
  static Vector Start(const Args& args, int panel) {
    return LoadInts(args.starts + panel * kPanel);
  }
  static Vector Pixel(const std::byte* quad) {
    return _mm512_set1_epi32(_mm_cvtsi128_si32(_mm_loadu_si32(quad)));
  }
  static Vector Weights(const std::byte* w) { return LoadInts(w); }
  static Vector Add(Vector sum, Vector x, Vector y) { return AddQuads(sum, x, y); }
  static void Advance(Args&, int64_t) {}
  template <int pixels, int panels>
  static void Store(const Args& args, const Vector (&sum)[pixels][panels]) {
    const Requantizer requantizer(args);
    const int64_t filters = args.run.filters;
    const __mmask64 there = filters < 64 ? (__mmask64{1} << filters) - 1 : ~__mmask64{0};
    for (int i = 0; i < pixels; ++i) {
      __m512i x[4] = {};
      for (int j = 0; j < panels; ++j)
        x[j] = requantizer.Of(sum[i][j], _mm512_loadu_ps(args.scales + j * kPanel));
      _mm512_mask_storeu_epi8(args.run.dst + i * args.run.dst_step, there, requantizer.Join(x));
    }
  }
};

}  // namespace

void RunNhwcIntsVnni(const NhwcInts& ints, int64_t pixels) { RunTiles<Vnni>(ints, pixels); }

}  // namespace minim
