// The geometry of a batched, broadcasting matrix product.
#pragma once

#include "kernels/cpu/table.h"

namespace minim {

struct ProductShape {
  int64_t batches = 1, m = 0, n = 0, k = 0;
  int64_t a_row = 0, a_column = 1, b_row = 0, b_column = 1;  // element strides
  std::vector<int64_t> a_offset, b_offset;                   // elements, per batch
  int64_t b_matrices = 1;
};

/// Vectors become a row (A) or a column (B). Batches that share one B fold into a tall A.
/// Errors: kUnsupported when the dims disagree.
Result<ProductShape> ShapeOfProduct(Dims a, Dims b, bool trans_a, bool trans_b);

/// How the C of a Gemm broadcasts to its result.
enum class CKind : uint8_t { kNone, kColumn, kRow, kFull, kScalar };
/// Of input 2, unless beta is 0. Errors: kUnsupported when the dims do not broadcast.
Result<CKind> KindOfC(const KernelRequest& request, const ProductShape& shape, float beta);
/// What the sums of n columns start from: beta times a C that is a row or one value, else 0; zeros
/// up to `filled`.
void FillColumnStarts(CKind kind, const void* c, DType dtype, float beta, int64_t n, int64_t filled,
                      float* starts);

}  // namespace minim
