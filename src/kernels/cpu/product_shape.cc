#include "kernels/cpu/product_shape.h"

#include <algorithm>

#include "core/shape.h"

namespace minim {
namespace {

// Right-aligned batch axes; a matrix of fewer batches repeats.
void FillBatches(const Dims& a, const Dims& b, const Dims& batch, ProductShape* s) {
  s->batches = batch.Elements();
  const Dims a_strides = BroadcastStrides(a, batch), b_strides = BroadcastStrides(b, batch);
  s->b_matrices = b.Elements();
  for (int64_t i = 0; i < s->batches; ++i) {
    int64_t rest = i, a_at = 0, b_at = 0;
    for (int axis = batch.rank() - 1; axis >= 0; --axis) {
      a_at += rest % batch[axis] * a_strides[axis];
      b_at += rest % batch[axis] * b_strides[axis];
      rest /= batch[axis];
    }
    s->a_offset.push_back(a_at * s->m * s->k);
    s->b_offset.push_back(b_at * s->k * s->n);
  }
}

Dims Leading(const Dims& dims) { return Dims(dims.span().first(std::max(0, dims.rank() - 2))); }

}  // namespace

Result<ProductShape> ShapeOfProduct(Dims a, Dims b, bool trans_a, bool trans_b) {
  if (a.rank() == 0 || b.rank() == 0) return Unsupported("a scalar operand");
  if (a.rank() == 1) a = Dims{1, a[0]};
  if (b.rank() == 1) b = Dims{b[0], 1};
  ProductShape s;
  const int ra = a.rank(), rb = b.rank();
  s.m = a[ra - (trans_a ? 1 : 2)];
  s.k = a[ra - (trans_a ? 2 : 1)];
  s.n = b[rb - (trans_b ? 2 : 1)];
  if (b[rb - (trans_b ? 1 : 2)] != s.k)
    return Unsupported("{} times {}: the inner dims differ", a.ToString(), b.ToString());
  s.a_row = trans_a ? 1 : s.k;
  s.a_column = trans_a ? s.m : 1;
  s.b_row = trans_b ? 1 : s.n;
  s.b_column = trans_b ? s.k : 1;
  MINIM_TRY(const Dims batch, BroadcastDims(Leading(a), Leading(b)));
  FillBatches(Leading(a), Leading(b), batch, &s);
  if (s.b_matrices == 1 && !trans_a && Leading(a).Elements() == s.batches && s.batches > 0) {
    s.m *= s.batches;  // one tall product
    s.batches = 1;
  }
  return s;
}

Result<CKind> KindOfC(const KernelRequest& request, const ProductShape& shape, float beta) {
  if (!HasInput(request, 2) || beta == 0) return CKind::kNone;
  const Dims& c = request.inputs[2].dims;
  const int64_t rows = c.rank() == 2 ? c[0] : 1, columns = c.rank() ? c[c.rank() - 1] : 1;
  const bool full_rows = rows == shape.m, full_columns = columns == shape.n;
  if (c.rank() > 2 || (!full_rows && rows != 1) || (!full_columns && columns != 1))
    return Unsupported("C of dims {} does not broadcast", c.ToString());
  if (rows == 1 && full_columns) return CKind::kColumn;
  if (columns == 1 && full_rows) return CKind::kRow;
  return full_rows && full_columns ? CKind::kFull : CKind::kScalar;
}

void FillColumnStarts(CKind kind, const void* c, DType dtype, float beta, int64_t n, int64_t filled,
                      float* starts) {
  std::fill_n(starts, filled, 0.0f);
  if (kind != CKind::kColumn && kind != CKind::kScalar) return;
  const int64_t count = kind == CKind::kScalar ? 1 : n;
  ConvertElements({c, dtype, Dims{count}}, {starts, DType::f32, Dims{count}});
  for (int64_t j = count; j < n; ++j) starts[j] = starts[0];
  for (int64_t j = 0; j < n; ++j) starts[j] *= beta;
}

}  // namespace minim
