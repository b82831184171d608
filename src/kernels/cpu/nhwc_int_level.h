// What becomes of the sums of bytes, for the files compiled with 512-bit vectors.
#pragma once

#include <algorithm>

#include "kernels/cpu/nhwc_int_conv.h"
#include "kernels/cpu/quotient.h"
#include "kernels/cpu/requantizer.h"
#include "kernels/cpu/vnni.h"

namespace minim {
namespace {

inline __mmask64 LowBits(int64_t count) {
  return count < 64 ? (__mmask64{1} << count) - 1 : ~__mmask64{0};
}

// Sums of products, whatever becomes of them.
template <typename Ints>
struct Vnni {
  using Args = Ints;
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
};

struct ToBytes : Vnni<NhwcInts> {
  static void AdvanceFilters(Args& args, int64_t filters) {
    args.run.dst += filters;
    args.run.filters -= filters;
    args.starts += filters;
    args.scales += filters;
  }
  template <int pixels, int panels>
  static void Store(const Args& args, const Vector (&sum)[pixels][panels]) {
    const Requantizer requantizer(args.is_signed, args.zero_point);
    const __mmask64 there = LowBits(std::min(args.run.filters, panels * kPanel));
    for (int i = 0; i < pixels; ++i) {
      __m512i x[4] = {};
      for (int j = 0; j < panels; ++j)
        x[j] = requantizer.Of(sum[i][j], _mm512_loadu_ps(args.scales + j * kPanel));
      _mm512_mask_storeu_epi8(args.run.dst + i * args.run.dst_step, there, requantizer.Join(x));
    }
  }
};

// Those bytes beside another image's.
struct ToSums : ToBytes {
  static void Advance(Args& args, int64_t pixels) { args.z += pixels * args.run.dst_step; }
  static void AdvanceFilters(Args& args, int64_t filters) {
    ToBytes::AdvanceFilters(args, filters);
    args.z += filters;
  }
  template <int pixels, int panels>
  static void Store(const Args& args, const Vector (&sum)[pixels][panels]) {
    const NhwcShortcut& s = *args.shortcut;
    const Requantizer requantizer(args.is_signed, s.zero_point);
    const Sum of(args);
    const __mmask64 there = LowBits(std::min(args.run.filters, panels * kPanel));
    for (int i = 0; i < pixels; ++i) {
      const std::byte* const z = args.z + i * args.run.dst_step;
      __m512i x[4] = {};
      for (int j = 0; j < panels; ++j) {
        const __m128i bytes =
            _mm_maskz_loadu_epi8(static_cast<__mmask16>(there >> (j * kPanel)), z + j * kPanel);
        x[j] = of(sum[i][j], _mm512_loadu_ps(args.scales + j * kPanel), bytes);
      }
      _mm512_mask_storeu_epi8(args.run.dst + i * args.run.dst_step, there, requantizer.Join(x));
    }
  }

 private:
  // Steps of the result, without the zero point. The convolution's own bytes are rounded and held
  // to their range, but stay floats.
  class Sum {
   public:
    explicit Sum(const Args& args)
        : least_(_mm512_set1_ps(static_cast<float>(Least(args) - args.zero_point))),
          most_(_mm512_set1_ps(static_cast<float>(Least(args) + 255 - args.zero_point))),
          y_scale_(_mm512_set1_ps(args.shortcut->y_scale)),
          z_scale_(_mm512_set1_ps(args.shortcut->z_scale)),
          z_zero_(_mm512_set1_epi32(args.shortcut->z_zero - Least(args))),
          flip_(_mm_set1_epi8(args.is_signed ? -128 : 0)),
          divider_(args.shortcut->divisor) {}

    __m512i operator()(__m512i sums, __m512 scales, __m128i z) const {
      const __m512 y = _mm512_mul_ps(_mm512_cvtepi32_ps(sums), scales);
      const __m512 bounded = _mm512_min_ps(_mm512_max_ps(y, least_), most_);  // least if NaN
      const __m512 whole = _mm512_set1_ps(kWholeShift);
      const __m512 steps = _mm512_sub_ps(_mm512_add_ps(bounded, whole), whole);
      const __m512i z_steps =
          _mm512_sub_epi32(_mm512_cvtepu8_epi32(_mm_xor_si128(z, flip_)), z_zero_);
      return divider_(_mm512_add_ps(_mm512_mul_ps(steps, y_scale_),
                                    _mm512_mul_ps(_mm512_cvtepi32_ps(z_steps), z_scale_)));
    }

   private:
    static int32_t Least(const Args& args) { return args.is_signed ? -128 : 0; }
    __m512 least_, most_, y_scale_, z_scale_;
    __m512i z_zero_;
    __m128i flip_;
    Divider divider_;
  };
};

struct ToFloats : Vnni<NhwcIntsToFloats> {
  static void AdvanceFilters(Args& args, int64_t filters) {
    args.run.dst += filters * 4;
    args.run.filters -= filters;
    args.starts += filters;
    args.scales += filters;
    if (args.bias) args.bias += filters;
  }
  template <int pixels, int panels>
  static void Store(const Args& args, const Vector (&sum)[pixels][panels]) {
    for (int j = 0; j < panels; ++j) {
      const int64_t left = args.run.filters - j * kPanel;
      const auto there = static_cast<__mmask16>(left < kPanel ? (1u << left) - 1 : 0xFFFFu);
      const __m512 scale = _mm512_loadu_ps(args.scales + j * kPanel);
      for (int i = 0; i < pixels; ++i) {
        __m512 y = _mm512_mul_ps(_mm512_cvtepi32_ps(sum[i][j]), scale);
        if (args.bias) y = _mm512_add_ps(y, _mm512_maskz_loadu_ps(there, args.bias + j * kPanel));
        _mm512_mask_storeu_ps(args.run.dst + i * args.run.dst_step + j * kPanel * 4, there, y);
      }
    }
  }
};

}  // namespace
}  // namespace minim
