// Products of rows with packed weights by instructions that sum several products at once.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "core/dtype.h"

namespace minim {

inline constexpr int64_t kDotBlock = 64;  // bytes of a row or column that are multiplied together

/// c[rows, panels * 16] = start + A * B. A: rows of whole blocks. B: panels of 16 columns, per four
/// bytes of depth those of each column. Two BF16 values to a float, or four bytes to an int32.
struct DotRows {
  int64_t rows = 0, panels = 0, blocks = 0;
  const std::byte* a = nullptr;
  int64_t a_row = 0;  // bytes
  const std::byte* packed = nullptr;
  const float* start = nullptr;  // one row, of floats only; null: zeros
  void* c = nullptr;
  int64_t c_row = 0;       // sums
  bool backwards = false;  // panels from the last on
  // FP32 as the sum of kDotParts BF16 values: bytes from part to part.
  int64_t a_part = 0, b_part = 0;
};

inline constexpr int64_t kDotParts = 3;
/// The largest BF16: what is beyond, infinities too, counts as this, since parts of an infinite
/// value would meet as its opposites.
inline constexpr float kMostInParts = 0x1.FEp127f;

/// The parts of x, each `step` values behind the one before.
inline void SplitInParts(float x, int64_t step, uint16_t* dst) {
  float rest = x < -kMostInParts ? -kMostInParts : (x > kMostInParts ? kMostInParts : x);
  for (int64_t part = 0; part < kDotParts; ++part) {
    const BFloat16 value(rest);
    dst[part * step] = value.bits;
    rest -= static_cast<float>(value);
  }
}

/// Whether the parts of every value make it again: not where one falls below the smallest BF16.
inline bool ExactInParts(std::span<const float> values) {
  constexpr auto kLeast = std::bit_cast<uint32_t>(0x1p-110f);
  constexpr auto kRange = std::bit_cast<uint32_t>(kMostInParts) - kLeast;
  uint32_t lost = 0;
  for (const float x : values) {
    const uint32_t size = std::bit_cast<uint32_t>(x) & 0x7FFFFFFF;
    lost |= static_cast<uint32_t>(size - kLeast > kRange) & static_cast<uint32_t>(size != 0);
  }
  return lost == 0;
}

/// The inverse of SplitInParts for such values; each part is the upper half of a word.
inline float JoinParts(uint32_t part0, uint32_t part1, uint32_t part2) {
  const float rest = std::bit_cast<float>(part1) + std::bit_cast<float>(part2);
  const auto first = std::bit_cast<float>(part0);
  return rest == 0 ? first : first + rest;  // the sign of zero stays
}

/// Rows of `columns` floats, `step` apart, as are those of `residual`, which may be null. Gelu, if
/// wanted, is in the place of the bounds.
struct FinishRows {
  int64_t rows = 0, columns = 0, step = 0;
  const float* residual = nullptr;
  float low = 0, high = 0;
  bool gelu = false;
  float* y = nullptr;
};

/// The order of every sum depends on the depth alone.
struct DotLevel {
  std::string_view name;
  void (*multiply_bf16)(const DotRows& args);
  /// FP32 by FP32 in parts, but for products of parts under 2^-26 of the whole; null: FMA is as
  /// fast.
  void (*multiply_parts)(const DotRows& args);
  /// Signed bytes, exactly; null: IntLevel's is as fast.
  void (*multiply_bytes)(const DotRows& args);
  /// To the nearest BF16, ties to even.
  void (*round)(const float* src, int64_t n, uint16_t* dst);
  /// The parts of src, each `step` values behind the one before.
  void (*split)(const float* src, int64_t n, int64_t step, uint16_t* dst);
  /// y = min(high, max(low, y + residual)), or Gelu(y + residual); NaN stays.
  void (*finish)(const FinishRows& args);
  /// Gives back what the thread holds after products; null: nothing.
  void (*release)();
};

const DotLevel& DotsBf16();
const DotLevel& DotsAmx();

}  // namespace minim
