// The bodies of NhwcPoolLevel: loops that the compiler makes vectors of, at the level of the file
// that includes them. Define MINIM_NHWC_POOL first.
#pragma once

#include <algorithm>
#include <limits>
#include <type_traits>
#include <utility>

#include "kernels/cpu/halves.h"
#include "kernels/cpu/nhwc_pool.h"

namespace minim {
namespace {

// As many 16-bit integers as a vector of floats has bytes for.
using Shorts = int16_t __attribute__((vector_size(sizeof(Vec))));
constexpr int64_t kShorts = sizeof(Vec) / 2;

inline Shorts LoadShorts(const BFloat16* src, int64_t count) {
#ifdef __AVX512BW__
  return (Shorts)_mm512_maskz_loadu_epi16(~__mmask32{0} >> (kShorts - count), src);
#endif
  Shorts x = {};
  std::memcpy(&x, src, count == kShorts ? sizeof(x) : static_cast<size_t>(count) * 2);
  return x;
}
inline void StoreShorts(BFloat16* dst, Shorts x, int64_t count) {
#ifdef __AVX512BW__
  return _mm512_mask_storeu_epi16(dst, ~__mmask32{0} >> (kShorts - count), (__m512i)x);
#endif
  std::memcpy(static_cast<void*>(dst), &x,
              count == kShorts ? sizeof(x) : static_cast<size_t>(count) * 2);
}

// BF16 as integers of the same order, NaN above all, and back: but for signs of NaN.
inline Shorts Ordered(Shorts bits) {
  const Shorts magnitude = bits & 0x7FFF;
  return magnitude ^ ((bits >> 15) & (magnitude <= 0x7F80));
}
inline Shorts Unordered(Shorts x) { return (x ^ (x >> 15)) | (x & int16_t{-0x8000}); }

template <typename T>
constexpr T Least() {
  if constexpr (std::is_floating_point_v<T>) return -std::numeric_limits<T>::infinity();
  return std::numeric_limits<T>::lowest();
}

template <typename T, int taps>
void Largest(const T* const* src, int64_t channels, bool first, T* dst) {
  const T* x[std::max(1, taps)];
  std::copy_n(src, taps, x);
  if constexpr (std::is_same_v<T, float>) {
    for (int64_t c = 0; c < channels; c += kLanes) {
      const int64_t left = channels - c;
      const auto load = [&](const float* at) {
        return left < kLanes ? LoadFirst(at + c, left) : Load(at + c);
      };
      Vec most = first ? Broadcast(Least<float>()) : load(dst);
#pragma GCC unroll 9
      for (int i = 0; i < taps; ++i) {
        const Vec y = load(x[i]);
        most = (y > most) | (y != y) ? y : most;
      }
      left < kLanes ? StoreFirst(dst + c, most, left) : Store(dst + c, most);
    }
    return;
  } else if constexpr (std::is_same_v<T, BFloat16>) {
    for (int64_t c = 0; c < channels; c += kShorts) {
      const int64_t left = std::min(kShorts, channels - c);
      Shorts most = first ? Shorts{} - int16_t{0x7F81} : Ordered(LoadShorts(dst + c, left));
#pragma GCC unroll 9
      for (int i = 0; i < taps; ++i) {
        const Shorts y = Ordered(LoadShorts(x[i] + c, left));
        most = y > most ? y : most;
      }
      StoreShorts(dst + c, Unordered(most), left);
    }
    return;
  } else {
#pragma GCC ivdep
    for (int64_t c = 0; c < channels; ++c) {
      T most = first ? Least<T>() : dst[c];
#pragma GCC unroll 9
      for (int i = 0; i < taps; ++i) most = std::max(most, x[i][c]);
      dst[c] = most;
    }
  }
}

template <typename T, int... taps>
void LargestOf(const T* const* src, int count, int64_t channels, bool first, T* dst,
               std::integer_sequence<int, taps...>) {
  using Function = void (*)(const T* const*, int64_t, bool, T*);
  static constexpr Function kByCount[] = {Largest<T, taps>...};
  kByCount[count](src, channels, first, dst);
}

template <typename T>
void MaxOf(const T* const* src, int count, int64_t channels, bool first, T* dst) {
  LargestOf(src, count, channels, first, dst, std::make_integer_sequence<int, kMaxTaps + 1>());
}

template <typename T>
void MeanOf(const NhwcBox<T>& box, int64_t channels, float divisor, T* dst) {
  for (int64_t c = 0; c < channels; c += kLanes) {
    const int64_t left = std::min<int64_t>(kLanes, channels - c);
    Vec sum = {};
    for (int64_t i = 0; i < box.count[0]; ++i)
      for (int64_t j = 0; j < box.count[1]; ++j)
        for (int64_t k = 0; k < box.count[2]; ++k)
          sum += LoadWide(box.src + c + i * box.step[0] + j * box.step[1] + k * box.step[2], left);
    StoreNarrow(dst + c, sum / Broadcast(divisor), left);
  }
}

}  // namespace

const NhwcPoolLevel& MINIM_NHWC_POOL() {
  static constexpr NhwcPoolLevel kLevel = {MaxOf<float>,   MaxOf<BFloat16>, MaxOf<int8_t>,
                                           MaxOf<uint8_t>, MeanOf<float>,   MeanOf<BFloat16>};
  return kLevel;
}

}  // namespace minim
