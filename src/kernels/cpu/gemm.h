// FP32 matrix product on packed or plain row-major B. The order of every sum depends on K alone, so
// results do not depend on the number of threads.
#pragma once

#include "kernels/cpu/activation.h"

namespace minim {

inline constexpr int64_t kPanel = 16;     // columns of B packed together
inline constexpr int64_t kMostGroup = 4;  // panels side by side

/// C[m,n] = A * B (+ C if accumulate), then the epilogue. A has strides (a_row, a_column). B is
/// packed (ceil(n/16) panels of k x 16, or groups of several panels side by side), packed as BF16
/// (columns by Bf16Place) or, when neither is given, row-major with stride b_row.
struct GemmArgs {
  int64_t m = 0, n = 0, k = 0;
  const float* a = nullptr;
  int64_t a_row = 0, a_column = 1;
  const float* packed = nullptr;
  const uint16_t* packed_bf16 = nullptr;
  int64_t group = 1;  // panels side by side in a row of `packed`; the last group has the rest
  int64_t panel_stride = 0;  // values between packed panels of groups of one; k * 16 unless stated
  const float* b = nullptr;
  int64_t b_row = 0;
  float* c = nullptr;
  int64_t c_row = 0;
  bool accumulate = false;
  bool backwards = false;  // packed panels of groups of one from the last on
  const Epilogue* epilogue = nullptr;
};

/// B[k,n] with element strides (row, column), to be packed in groups of so many panels.
struct GemmPack {
  const float* b = nullptr;
  int64_t row = 0, column = 1, k = 0, n = 0, group = 1;

  int64_t groups() const { return ((n + kPanel - 1) / kPanel + group - 1) / group; }
};

/// The functions of one instruction-set level.
struct GemmLevel {
  std::string_view name;
  int64_t group;  // that multiply() reads best
  void (*multiply)(const GemmArgs& args);
  /// Packs groups [first, last) of B to their places in `packed`.
  void (*pack)(const GemmPack& b, int64_t first, int64_t last, float* packed);
  /// y[0,n) = epilogue at (row, column 0) of y.
  void (*finish)(const Epilogue& epilogue, int64_t rows, int64_t columns, float* c, int64_t c_row);
};

const GemmLevel& GemmPortable();
const GemmLevel& GemmAvx2();
const GemmLevel& GemmAvx512();

/// The inverse of pack() of all groups: writes B, with the strides of `p`.
void UnpackB(const GemmPack& p, const float* packed, float* b);

inline int64_t PanelsOf(int64_t n) { return (n + kPanel - 1) / kPanel; }
inline size_t PackedFloats(int64_t k, int64_t n) {
  return static_cast<size_t>(PanelsOf(n) * kPanel * k);
}

/// Where column j of 16 stands in a packed row of BF16: a 32-bit word holds columns i and i + 8, so
/// that a shift widens one half and a mask the other.
inline int64_t Bf16Place(int64_t j) { return j % 8 * 2 + j / 8; }

/// multiply(), cut into at most threads.threads pieces along columns or rows.
void ParallelGemm(const GemmLevel& level, const GemmArgs& args, const ThreadBudget& threads);
/// The sub-product of rows [row, row + rows) and panels from `panel`, a whole group's first,
/// `columns` wide.
GemmArgs GemmBlock(const GemmArgs& args, int64_t row, int64_t rows, int64_t panel, int64_t columns,
                   Epilogue* epilogue);

}  // namespace minim
