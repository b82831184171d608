// The tile functions of the element-wise interpreter: one function per (op, lane), compiled once
// per instruction-set level from one source, so exact ops give the same bits at every level.
#pragma once

#include <span>
#include <string_view>

#include "core/dtype.h"

namespace minim {

/// How a register holds its elements while a chain runs. 2-byte floats compute as float, every
/// signed integer and the unsigned ones up to 32 bits as int64; but quantized bytes are floats.
enum class Lane : uint8_t { kFloat, kDouble, kInt, kUint, kBool };
inline constexpr int kLanes = 5;
inline constexpr int64_t kTile = 1024;

inline Lane LaneOf(DType dtype) {
  if (dtype == DType::f64) return Lane::kDouble;
  if (dtype == DType::u64) return Lane::kUint;
  if (dtype == DType::bool_) return Lane::kBool;
  return IsFloat(dtype) ? Lane::kFloat : Lane::kInt;
}
inline size_t LaneBytes(Lane lane) {
  constexpr size_t kBytes[kLanes] = {4, 8, 8, 8, 1};
  return kBytes[static_cast<int>(lane)];
}
/// The dtype whose memory form is the lane's.
inline DType LaneDType(Lane lane) {
  constexpr DType kTypes[kLanes] = {DType::f32, DType::f64, DType::i64, DType::u64, DType::bool_};
  return kTypes[static_cast<int>(lane)];
}

struct TileArgs {
  const void* src[3];
  void* dst;
  int64_t n;
  const double* params;  // 4 of them
};
using TileFunction = void (*)(const TileArgs&);

struct TileOp {
  std::string_view op;
  Lane lane;  // of the operands (Where: of the two values)
  bool to_bool;
  TileFunction function;
};

struct TileSet {
  std::span<const TileOp> ops;
  TileFunction (*convert)(Lane from, Lane to);
  TileFunction (*load)(DType from);  // memory to the dtype's lane
  TileFunction (*store)(DType to);   // lane to memory; integers wrap
  // u8 or i8 in memory to float and back. `params`: scale, zero point, and the bounds less it.
  TileFunction (*dequantize)(DType from);
  TileFunction (*quantize)(DType to);
};

const TileSet& PortableTiles();
const TileSet& Avx2Tiles();
const TileSet& Avx512Tiles();

}  // namespace minim
