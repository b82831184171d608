// The bodies of NhwcMaxLevel: loops that the compiler makes vectors of, at the level of the file
// that includes them. Define MINIM_NHWC_MAX first.
#pragma once

#include <algorithm>
#include <bit>
#include <limits>
#include <type_traits>
#include <utility>

#include "kernels/cpu/nhwc_max.h"
#include "kernels/cpu/simd.h"

namespace minim {
namespace {

inline float Widened(BFloat16 x) { return std::bit_cast<float>(uint32_t{x.bits} << 16); }

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
#pragma GCC ivdep
    for (int64_t c = 0; c < channels; ++c) {
      float most = first ? Least<float>() : Widened(dst[c]);
#pragma GCC unroll 9
      for (int i = 0; i < taps; ++i) {
        const float y = Widened(x[i][c]);
        most = (y > most) | (y != y) ? y : most;
      }
      dst[c].bits = static_cast<uint16_t>(std::bit_cast<uint32_t>(most) >> 16);
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
