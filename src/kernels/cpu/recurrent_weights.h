// Weights of the recurrent layers, packed with the gates of the same 16 units side by side.
#pragma once

#include <array>

#include "kernels/cpu/dot_rows.h"
#include "kernels/cpu/int_gemm.h"

namespace minim {

/// kBf16: columns by Bf16Place. kPairs: BF16, two of a column side by side, as DotRows has them.
/// kParts: FP32 as several of these, one after the other.
enum class WeightFormat : uint8_t { kF32, kBf16, kPairs, kParts, kS8 };
std::string_view Name(WeightFormat format);

/// Weights as a node gives them, one matrix of (gate row, input) per direction: ONNX's [D, rows,
/// k], or [D, k, rows] as integers with a scale and a zero point for each direction or gate row.
struct RecurrentWeights {
  ConstView view;
  bool transposed = false;  // [D, k, rows]
  const float* scales = nullptr;
  ZeroPoints zeros;
  int64_t per_direction = 0;  // scales and zero points

  int64_t rows() const { return view.dims[transposed ? 2 : 1]; }
  int64_t depth() const { return view.dims[transposed ? 1 : 2]; }
};

/// Which gates share a product: those of W stand together; a GRU whose reset comes first
/// multiplies twice by R.
struct GateGroup {
  int64_t first = 0, gates = 0;
};

/// Panels in the order group, block of 16 units, gate; the last block is filled up with zeros.
struct RecurrentPack {
  int64_t hidden = 0, depth = 0;
  WeightFormat format = WeightFormat::kF32;
  uint8_t flip = 0;         // bits of kS8's bytes
  int64_t depth_block = 1;  // bytes of a column, filled up with zeros to a multiple
  std::array<GateGroup, 2> groups = {};

  bool for_dots() const { return depth_block == kDotBlock; }
  int64_t blocks() const { return PanelsOf(hidden); }
  int64_t panels() const { return blocks() * (groups[0].gates + groups[1].gates); }
  int64_t parts() const { return format == WeightFormat::kParts ? kDotParts : 1; }
  /// Of one part of the weights.
  size_t part_bytes() const { return panels() * panel_bytes(); }
  /// Of one panel, without scales.
  size_t panel_bytes() const;
  /// Of one direction: the panels, then for kS8 a scale per column.
  size_t bytes() const;
  const float* Scales(const std::byte* packed) const {
    return reinterpret_cast<const float*>(packed + panels() * panel_bytes());
  }
  /// Distinguishes packs of the same elements.
  std::string Key(const RecurrentWeights& weights) const;
};

/// Packs one direction.
void PackRecurrent(const RecurrentWeights& weights, int64_t direction, const RecurrentPack& pack,
                   std::byte* packed);

/// The inverse for FP32 weights packed as kF32 or kParts.
void UnpackRecurrent(const RecurrentPack& pack, const std::byte* packed, float* weights);

/// True if the values of `weights` lose nothing in BF16; false for integers.
bool ExactInBf16(const RecurrentWeights& weights);
/// True if every integer less its zero point is in +-127; false for floats.
bool FitsSymmetricInt8(const RecurrentWeights& weights);

}  // namespace minim
