// Exact integer matrix product: operands widened to 16 bits with their zero points taken off, pairs
// of products summed in 32 bits. Nothing saturates, so every level gives the same bits.
#pragma once

#include "kernels/cpu/gemm.h"

namespace minim {

// Rows of a tile. Four, not six as in FP32: a product and its sum are two instructions, and with
// 12 sums in registers their operands wait for each other (Zen 3: 100 GOP/s against 140).
inline constexpr int64_t kIntRows = 4;

/// C[m,n] = A * B in int32, wrapping. A: rows of `pairs` pairs. B: panels of 16 columns, per pair
/// of rows 16 x 2 values.
struct IntGemmArgs {
  int64_t m = 0, n = 0, pairs = 0;
  const int16_t* a = nullptr;
  int64_t a_row = 0;
  const int16_t* packed = nullptr;
  int32_t* c = nullptr;
  int64_t c_row = 0;
};

/// c[0, panels * 16) = a * B for one row, bound by B's bytes, so B stays 8 bits wide: panels of 16
/// columns, per quad of rows 16 x 4 values. Both operands are in +-127, which keeps the 16-bit sums
/// of two products exact; `a` is filled up with zeros to RowBytes.
struct IntRowArgs {
  const int8_t* a = nullptr;
  const int8_t* packed = nullptr;
  int64_t panels = 0, quads = 0;
  int32_t* c = nullptr;
};

/// How a row of integer sums becomes 8-bit output: Requantize(sum * scale) per element.
struct RequantizeRow {
  const float* scales = nullptr;  // one, or one per column
  bool per_column = false;
  int32_t zero_point = 0;
};

struct IntLevel {
  std::string_view name;
  void (*multiply)(const IntGemmArgs& args);
  void (*multiply_row)(const IntRowArgs& args);
  /// dst[i] = src[i] - zero_point, 8-bit source.
  void (*widen_u8)(const uint8_t* src, int32_t zero_point, int64_t n, int16_t* dst);
  void (*widen_s8)(const int8_t* src, int32_t zero_point, int64_t n, int16_t* dst);
  /// Words of two 16-bit values, first[i] and second[i] less the zero point; no `second`: zeros.
  void (*pair_u8)(const uint8_t* first, const uint8_t* second, int32_t zero_point, int64_t n,
                  float* words);
  void (*pair_s8)(const int8_t* first, const int8_t* second, int32_t zero_point, int64_t n,
                  float* words);
  void (*requantize_u8)(const int32_t* src, const RequantizeRow& row, int64_t n, uint8_t* dst);
  void (*requantize_s8)(const int32_t* src, const RequantizeRow& row, int64_t n, int8_t* dst);
  /// dst[i] = Requantize(src[i] / scale, zero_point).
  void (*quantize_u8)(const float* src, float scale, int32_t zero_point, int64_t n, uint8_t* dst);
  void (*quantize_s8)(const float* src, float scale, int32_t zero_point, int64_t n, int8_t* dst);
  /// dst[i] = (src[i] - zero_point) * scale.
  void (*dequantize_u8)(const uint8_t* src, float scale, int32_t zero_point, int64_t n, float* dst);
  void (*dequantize_s8)(const int8_t* src, float scale, int32_t zero_point, int64_t n, float* dst);
  /// Symmetric to +-127; returns the scale, max|src| / 127.
  float (*quantize_row)(const float* src, int64_t n, int16_t* dst);
  float (*quantize_row_s8)(const float* src, int64_t n, int8_t* dst);
  /// dst[j] = DequantizeSum(src[j], row_scale, scales[j]) + bias[j].
  void (*dequantize_sums)(const int32_t* src, float row_scale, const RequantizeRow& columns,
                          const float* bias, int64_t n, float* dst);
};

const IntLevel& IntPortable();
const IntLevel& IntAvx2();

inline int64_t PairsOf(int64_t k) { return (k + 1) / 2; }
inline int64_t QuadsOf(int64_t k) { return (k + 3) / 4; }
inline int64_t RowBytes(int64_t k) { return (k + 31) / 32 * 32; }
inline size_t PackedInt16(int64_t k, int64_t n) {
  return static_cast<size_t>(PanelsOf(n) * kPanel * PairsOf(k) * 2);
}
/// Zero points as a tensor gives them: none, one, or one per row or column.
struct ZeroPoints {
  const void* data = nullptr;
  DType dtype = DType::u8;
  int64_t count = 0;

  int32_t At(int64_t i) const {
    if (data == nullptr) return 0;
    const int64_t at = count > 1 ? i : 0;
    if (dtype == DType::u8) return static_cast<const uint8_t*>(data)[at];
    if (dtype == DType::i8) return static_cast<const int8_t*>(data)[at];
    return static_cast<const int32_t*>(data)[at];
  }
};

/// One channel of sums to 8-bit results of `dtype`: adds the bias (wrapping; the sums are changed),
/// then requantizes.
void RequantizeChannel(const IntLevel& level, int32_t bias, const RequantizeRow& row, int64_t n,
                       int32_t* sums, DType dtype, void* dst);

/// Packs panels [first, last) of B (k x n, element strides row and column).
void PackIntB(const void* b, DType dtype, int64_t row, int64_t column, int64_t k, int64_t n,
              const ZeroPoints& zero_points, int64_t first, int64_t last, int16_t* packed);
/// multiply(), cut by columns or rows over the threads.
void ParallelIntGemm(const IntLevel& level, const IntGemmArgs& args, const ThreadBudget& threads);

}  // namespace minim
