// Exact integer matrix product: operands widened to 16 bits with their zero points taken off, pairs
// of products summed in 32 bits. Nothing saturates, so every level gives the same bits.
#pragma once

#include "kernels/cpu/gemm.h"

namespace minim {

// Rows of a tile. Four, not six as in FP32: a product and its sum are two instructions, and with
// 12 sums in registers their operands wait for each other (Zen 3: 100 GOP/s against 140).
inline constexpr int64_t kIntRows = 4;

/// Four signed bytes as multiply_bytes wants its left operand: |a|, and 0xFF where a < 0.
struct SignedQuad {
  uint32_t magnitudes, signs;
};

/// C[m,n] = row_start[i] + column_start[j] + A * B in int32, wrapping.
/// A: tiles of kIntRows rows (fewer in the last), per step of `depth` one word of each row.
/// B: panels of 16 columns, per step a 32-bit word of each.
/// In pairs, a word is two 16-bit values of both. In bytes it is four values, and a SignedQuad of
/// A; levels with place_row take A row by row instead.
struct IntGemmArgs {
  int64_t m = 0, n = 0, depth = 0;
  const void* a = nullptr;
  const void* packed = nullptr;
  const int32_t* row_start = nullptr;     // m, or none
  const int32_t* column_start = nullptr;  // whole panels of them, or none
  int32_t* c = nullptr;
  int64_t c_row = 0;
};

/// c[0, panels * 16) = a * B for one row, bound by B's bytes, so B stays 8 bits wide: panels of 16
/// columns, per quad of rows 16 x 4 values, their bits flipped as the level wants them. Both
/// operands are in +-127, which keeps the 16-bit sums of two products exact; `a` is filled up with
/// zeros to RowBytes.
struct IntRowArgs {
  const int8_t* a = nullptr;
  const int8_t* packed = nullptr;
  int64_t panels = 0, quads = 0;
  int32_t start = 0;  // of each sum: what place_row returns
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
  std::string_view tile;        // of sums
  double words_per_thread = 0;  // products that take about 6 us, worth waking a thread for
  /// Null where A is SignedQuads. Else multiply_bytes takes rows of A one after the other, each as
  /// this writes it: k bytes, flipped and filled up with zeros to quads. Its B is unsigned.
  /// Returns what multiply_bytes leaves out of the row's sums.
  int32_t (*place_row)(const void* src, uint8_t flip, int64_t k, void* dst);
  void (*multiply_pairs)(const IntGemmArgs& args);
  void (*multiply_bytes)(const IntGemmArgs& args);
  void (*multiply_row)(const IntRowArgs& args);
  /// Words of two 16-bit values, first[i] and second[i] less the zero point; no `second`: zeros.
  void (*pair_u8)(const uint8_t* first, const uint8_t* second, int32_t zero_point, int64_t n,
                  float* words);
  void (*pair_s8)(const int8_t* first, const int8_t* second, int32_t zero_point, int64_t n,
                  float* words);
  /// Words of four bytes, one of each plane, their bits flipped by `flip`.
  void (*quad)(const uint8_t* const (&planes)[4], uint8_t flip, int64_t n, float* words);
  void (*requantize_u8)(const int32_t* src, const RequantizeRow& row, int64_t n, uint8_t* dst);
  void (*requantize_s8)(const int32_t* src, const RequantizeRow& row, int64_t n, int8_t* dst);
  /// dst[i] = Requantize(src[i] / scale, zero_point).
  void (*quantize_u8)(const float* src, float scale, int32_t zero_point, int64_t n, uint8_t* dst);
  void (*quantize_s8)(const float* src, float scale, int32_t zero_point, int64_t n, int8_t* dst);
  /// dst[i] = (src[i] - zero_point) * scale.
  void (*dequantize_u8)(const uint8_t* src, float scale, int32_t zero_point, int64_t n, float* dst);
  void (*dequantize_s8)(const int8_t* src, float scale, int32_t zero_point, int64_t n, float* dst);
  /// Symmetric to +-127; returns the scale, max|src| / 127.
  float (*quantize_row)(const float* src, int64_t n, int8_t* dst);
  /// dst[j] = DequantizeSum(src[j], row_scale, scales[j]) + bias[j].
  void (*dequantize_sums)(const int32_t* src, float row_scale, const RequantizeRow& columns,
                          const float* bias, int64_t n, float* dst);

  /// Bits to flip in the signed bytes of B for multiply_bytes and multiply_row.
  uint8_t flip_of_b() const { return place_row ? 0x80 : 0; }
};

const IntLevel& IntPortable();
const IntLevel& IntAvx2();
const IntLevel& IntVnni();

/// How the values of one product are held.
enum class IntForm : uint8_t { kPairs, kBytes };
inline std::string_view Name(IntForm form) {
  return form == IntForm::kPairs ? "16-bit pairs" : "bytes";
}
inline int64_t PerWord(IntForm form) { return form == IntForm::kPairs ? 2 : 4; }
/// Words that hold k values.
inline int64_t WordsOf(IntForm form, int64_t k) { return (k + PerWord(form) - 1) / PerWord(form); }
inline int64_t QuadsOf(int64_t k) { return WordsOf(IntForm::kBytes, k); }
inline int64_t RowBytes(int64_t k) { return (k + 31) / 32 * 32; }
inline size_t WordBytesOfA(const IntLevel& level, IntForm form) {
  return form == IntForm::kPairs || level.place_row ? sizeof(int32_t) : sizeof(SignedQuad);
}
/// Bytes of packed operands of m x k and k x n values.
inline size_t PackedABytes(const IntLevel& level, IntForm form, int64_t m, int64_t k) {
  return m * WordsOf(form, k) * WordBytesOfA(level, form);
}
inline size_t PackedBBytes(IntForm form, int64_t k, int64_t n) {
  return PanelsOf(n) * kPanel * WordsOf(form, k) * sizeof(int32_t);
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

/// One channel of sums to 8-bit results of `dtype`.
void RequantizeChannel(const IntLevel& level, const RequantizeRow& row, int64_t n,
                       const int32_t* sums, DType dtype, void* dst);

inline bool IsByte(DType dtype) { return dtype == DType::u8 || dtype == DType::i8; }
/// The zero point that leaves bytes of `dtype` signed bytes, and the bits that make them such.
inline int32_t MiddleOf(DType dtype) { return dtype == DType::u8 ? 128 : 0; }
inline uint8_t FlipOf(DType dtype) { return dtype == DType::u8 ? 0x80 : 0; }
/// Whether every zero point is known and in the middle, so that B less it is bytes.
bool AreMiddle(const ZeroPoints& zero_points);

/// A row of `depth` pairs in its place among `m` rows of A.
void PlacePairs(const void* src, int64_t depth, int64_t row, int64_t m, void* a);
/// The same of k bytes, their bits flipped by `flip`, filled up with zeros. Returns what
/// multiply_bytes leaves out of each of the row's sums, to be added to its row_start.
int32_t PlaceBytes(const IntLevel& level, const void* src, uint8_t flip, int64_t k, int64_t row,
                   int64_t m, void* a);

/// Packs panels [first, last) of B (k x n, element strides row and column) less its zero points.
void PackIntB(IntForm form, const void* b, DType dtype, int64_t row, int64_t column, int64_t k,
              int64_t n, const ZeroPoints& zero_points, int64_t first, int64_t last, void* packed);
/// The product, cut by columns or rows over the threads.
void ParallelIntGemm(const IntLevel& level, IntForm form, const IntGemmArgs& args,
                     const ThreadBudget& threads);

}  // namespace minim
