// The bodies of NhwcMaxLevel: loops that the compiler makes vectors of, at the level of the file
// that includes them. Define MINIM_NHWC_MAX first.
#pragma once

#include <algorithm>
#include <limits>
#include <type_traits>
#include <utility>

#include "kernels/cpu/nhwc_max.h"
#include "kernels/cpu/simd.h"

namespace minim {
namespace {

// BF16 as integers of the same order, NaN above all; Ordered gives itself back but for signs of
// NaN.
inline int16_t Ordered(uint16_t bits) {
  const int magnitude = bits & 0x7FFF;
  return static_cast<int16_t>(bits >> 15 & (magnitude <= 0x7F80) ? ~magnitude : magnitude);
}
inline uint16_t Unordered(int16_t x) { return static_cast<uint16_t>(x < 0 ? ~x | 0x8000 : x); }

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
    constexpr uint16_t kLeast = 0xFF80;  // minus infinity
#pragma GCC ivdep
    for (int64_t c = 0; c < channels; ++c) {
      int16_t most = Ordered(first ? kLeast : dst[c].bits);
#pragma GCC unroll 9
      for (int i = 0; i < taps; ++i) most = std::max(most, Ordered(x[i][c].bits));
      dst[c].bits = Unordered(most);
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

}  // namespace

const NhwcMaxLevel& MINIM_NHWC_MAX() {
  static constexpr NhwcMaxLevel kLevel = {MaxOf<float>, MaxOf<BFloat16>, MaxOf<int8_t>,
                                          MaxOf<uint8_t>};
  return kLevel;
}

}  // namespace minim
