// Lossy storage of floats in groups of 256: each group has the least value and a step, each element
// a code of 8 or 4 bits, rounded at random so that its mean is the value. After Chen et al.,
// "ActNN: Reducing Training Memory Footprint via 2-Bit Activation Compressed Training", 2021.
#pragma once

#include <cstdint>

#include "core/philox.h"

namespace minim {

inline constexpr int64_t kCodeGroup = 256;
/// Elements that share the blocks of one Philox counter each: element i of a group takes 16 bits of
/// block i % 32 of the group's 32.
inline constexpr int64_t kCodeLanes = 32;

inline int64_t CodeGroups(int64_t elements) { return (elements + kCodeGroup - 1) / kCodeGroup; }
inline int64_t CodeBytes(int bits) { return kCodeGroup * bits / 8; }

struct CodeRange {
  float low = 0, step = 0;
};

/// Of `count` > 0 elements; NaN if one is not finite, so that all of the group come back as NaN.
/// Inlined wherever it is used, as instruction sets differ.
[[gnu::always_inline]] inline CodeRange RangeOf(const float* x, int64_t count, int bits) {
  float least = x[0], largest = x[0], zero = 0;
  for (int64_t i = 0; i < count; ++i) {
    least = x[i] < least ? x[i] : least;
    largest = x[i] > largest ? x[i] : largest;
    zero += x[i] * 0;  // NaN of what is not finite
  }
  return {least + zero, (largest - least) / static_cast<float>((1 << bits) - 1) + zero};
}

[[gnu::always_inline]] inline float InverseStep(const CodeRange& range) {
  return range.step > 0 ? 1 / range.step : 0;
}

/// `draw`: 16 random bits. A step that is 0 or NaN gives any code.
[[gnu::always_inline]] inline uint32_t CodeOf(float x, const CodeRange& range, float inverse_step,
                                              uint32_t draw, float most) {
  const float q =
      (x - range.low) * inverse_step + static_cast<float>(static_cast<int32_t>(draw)) * 0x1p-16f;
  return static_cast<uint32_t>(static_cast<int32_t>(q < most ? q : most));
}

/// The draw of element i of a group.
inline uint32_t DrawOf(const Philox& rng, int64_t group, int64_t i) {
  const auto block = rng.Block(static_cast<uint64_t>(group * kCodeLanes + i % kCodeLanes));
  const int64_t half = i / kCodeLanes;
  return block[half / 2] >> (16 * (half % 2)) & 0xFFFFu;
}

/// Where the code of element i of a group lies: 8 bits in byte i; 4 bits in byte i % 128, the
/// second half of the group in the upper bits.
inline uint8_t CodeAt(const uint8_t* codes, int bits, int64_t i) {
  if (bits == 8) return codes[i];
  const uint8_t both = codes[i % (kCodeGroup / 2)];
  return i < kCodeGroup / 2 ? both & 0xF : both >> 4;
}

}  // namespace minim
