// What becomes of the sums of bytes, for the files compiled with 512-bit vectors.
#pragma once

#include <algorithm>

#include "kernels/cpu/nhwc_int_conv.h"
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
    const Requantizer own(args.is_signed, args.zero_point), result(args.is_signed, s.zero_point);
    const Requantizer::Step step = result.StepOf(s.scale, s.rectifies);
    const __m512 y_scale = _mm512_set1_ps(s.y_scale), z_scale = _mm512_set1_ps(s.z_scale);
    const __m512i z_zero = _mm512_set1_epi32(s.z_zero);
    const __mmask64 there = LowBits(std::min(args.run.filters, panels * kPanel));
    for (int i = 0; i < pixels; ++i) {
      const std::byte* const z = args.z + i * args.run.dst_step;
      __m512i x[4] = {};
      for (int j = 0; j < panels; ++j) {
        const __m512 y = own.Steps(sum[i][j], _mm512_loadu_ps(args.scales + j * kPanel));
        const __m512i bytes =
            Widened(args.is_signed, static_cast<__mmask16>(there >> (j * kPanel)), z + j * kPanel);
        const __m512 other = _mm512_cvtepi32_ps(_mm512_sub_epi32(bytes, z_zero));
        x[j] = result.Of(_mm512_add_ps(_mm512_mul_ps(y, y_scale), _mm512_mul_ps(other, z_scale)),
                         step);
      }
      _mm512_mask_storeu_epi8(args.run.dst + i * args.run.dst_step, there, result.Join(x));
    }
  }

 private:
  static Vector Widened(bool is_signed, __mmask16 there, const std::byte* from) {
    const __m128i bytes = _mm_maskz_loadu_epi8(there, from);
    return is_signed ? _mm512_cvtepi8_epi32(bytes) : _mm512_cvtepu8_epi32(bytes);
  }
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
