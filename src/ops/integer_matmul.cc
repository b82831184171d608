// MatMulInteger, QLinearMatMul and RowQuantizedMatMul: products of quantized matrices.
#include <cmath>

#include "core/requantize.h"
#include "ops/builder.h"
#include "ops/infer.h"
#include "ops/quantize.h"

namespace minim::ops {
namespace {

const DTypeList kBytes = {DType::u8, DType::i8};

// NumPy's matmul on shapes: 1-D operands gain a dim that the result loses again.
Result<Shape> MatMulShape(const InferContext& op, Shape a, Shape b) {
  if (a.empty() || b.empty()) return op.Error("operands must have at least one dim");
  const bool row = a.size() == 1, column = b.size() == 1;
  if (row) a.insert(a.begin(), 1);
  if (column) b.push_back(1);
  const Dim &k = a.back(), &other = b[b.size() - 2];
  if (!k.Compatible(other))
    return op.Error("inner dims differ: {} by {}", ToString(a), ToString(b));
  auto batch = BroadcastShapes(Shape(a.begin(), a.end() - 2), Shape(b.begin(), b.end() - 2));
  if (!batch.ok()) return op.Error("{}", batch.status().message());
  Shape shape = *std::move(batch);
  if (!row) shape.push_back(a[a.size() - 2]);
  if (!column) shape.push_back(b.back());
  return shape;
}

Status InferProduct(InferContext& op, int b_index, DType dtype) {
  if (!op.input(0).ranked() || !op.input(b_index).ranked()) return op.SetUnknown(0, dtype);
  MINIM_TRY(Shape shape, MatMulShape(op, *op.input(0).shape, *op.input(b_index).shape));
  return op.SetOutput(0, dtype, std::move(shape));
}

struct Operand {
  Dims dims;     // at least a matrix
  Dims strides;  // of the batch dims, as broadcast to the result
};

Operand MakeOperand(Dims dims, bool left, const Dims& batch) {
  if (dims.rank() == 1) dims = left ? Dims({1, dims[0]}) : Dims({dims[0], 1});
  Dims own_batch;
  for (int i = 0; i < dims.rank() - 2; ++i) own_batch.push_back(dims[i]);
  return {dims, BroadcastStrides(own_batch, batch)};
}

// f(output offset, row in a's rows, column, sum of (a - a_zero) * (b - b_zero)).
template <typename ZeroA, typename ZeroB, typename F>
void ForEachProduct(const RefTensor& a, const RefTensor& b, ZeroA a_zero, ZeroB b_zero, F&& f) {
  const auto batch_of = [](const Dims& d) {
    Dims batch;
    for (int i = 0; i < d.rank() - 2; ++i) batch.push_back(d[i]);
    return batch;
  };
  const Dims batch = *BroadcastDims(batch_of(a.dims()), batch_of(b.dims()));
  const Operand l = MakeOperand(a.dims(), true, batch), r = MakeOperand(b.dims(), false, batch);
  const int64_t m = l.dims[l.dims.rank() - 2], k = l.dims[l.dims.rank() - 1];
  const int64_t n = r.dims[r.dims.rank() - 1];
  ForEachIndex(batch, [&](int64_t flat, const Dims& index) {
    const int64_t a_at = OffsetOf(index, l.strides) * m * k, b_at = OffsetOf(index, r.strides) * k * n;
    for (int64_t i = 0; i < m; ++i) {
      for (int64_t j = 0; j < n; ++j) {
        int64_t sum = 0;
        for (int64_t p = 0; p < k; ++p)
          sum += (a.IntAt(a_at + i * k + p) - a_zero(i)) * (b.IntAt(b_at + p * n + j) - b_zero(j));
        f((flat * m + i) * n + j, i, j, sum);
      }
    }
  });
}

// A zero point or scale given once, or per row or column.
int64_t ZeroAt(const RefContext& op, int input, int64_t i) {
  if (!op.has_input(input)) return 0;
  return op.input(input).IntAt(op.input(input).size() == 1 ? 0 : i);
}
double ScaleAt(const RefContext& op, int input, int64_t i) {
  return op.input(input).At(op.input(input).size() == 1 ? 0 : i);
}

Status InferMatMulInteger(InferContext& op) { return InferProduct(op, 1, DType::i32); }

Status MatMulIntegerReference(RefContext& op) {
  RefTensor& y = op.Output(0);
  ForEachProduct(
      op.input(0), op.input(1), [&](int64_t i) { return ZeroAt(op, 2, i); },
      [&](int64_t j) { return ZeroAt(op, 3, j); },
      [&](int64_t at, int64_t, int64_t, int64_t sum) { y.i64()[at] = sum; });
  return {};
}

Status InferQLinearMatMul(InferContext& op) { return InferProduct(op, 3, op.dtype(7)); }

Status QLinearMatMulReference(RefContext& op) {
  RefTensor& y = op.Output(0);
  const int64_t zero = op.input(7).IntAt(0);
  const int64_t low = SaturateTo(-1e9, y.dtype), high = SaturateTo(1e9, y.dtype);
  ForEachProduct(
      op.input(0), op.input(3), [&](int64_t i) { return ZeroAt(op, 2, i); },
      [&](int64_t j) { return ZeroAt(op, 5, j); },
      [&](int64_t at, int64_t i, int64_t j, int64_t sum) {
        const float scale = RequantizeScale(static_cast<float>(ScaleAt(op, 1, i)),
                                            static_cast<float>(ScaleAt(op, 4, j)),
                                            static_cast<float>(op.input(6).At(0)));
        y.i64()[at] = Requantize(static_cast<float>(sum) * scale, static_cast<int32_t>(zero),
                                 static_cast<int32_t>(low), static_cast<int32_t>(high));
      });
  return {};
}

Status InferRowQuantized(InferContext& op) { return InferProduct(op, 1, DType::f32); }

// Each row is quantized symmetrically to int8 by its own largest magnitude, so an answer never
// depends on its neighbours in the batch.
Status RowQuantizedReference(RefContext& op) {
  const RefTensor& x = op.input(0);
  const RefTensor& w = op.input(1);
  RefTensor& y = op.Output(0);
  const int64_t k = w.dims()[0], n = w.dims()[1], rows = x.size() / std::max<int64_t>(k, 1);
  for (int64_t r = 0; r < rows; ++r) {
    double most = 0;
    for (int64_t p = 0; p < k; ++p) most = std::max(most, std::fabs(x.At(r * k + p)));
    const double scale = most == 0 ? 1 : RoundTo(most / 127, DType::f32);
    for (int64_t j = 0; j < n; ++j) {
      int64_t sum = 0;
      for (int64_t p = 0; p < k; ++p)
        sum += QuantizeOne(x.At(r * k + p), scale, 0, DType::f32, DType::i8) * w.IntAt(p * n + j);
      const float value = DequantizeSum(static_cast<int32_t>(sum), static_cast<float>(scale),
                                        static_cast<float>(op.input(2).At(j)));
      y.f64()[r * n + j] = op.has_input(3) ? value + static_cast<float>(op.input(3).At(j)) : value;
    }
  }
  return {};
}

}  // namespace

std::vector<OpDef> IntegerMatMul() {
  return {
      {.name = "MatMulInteger",
       .onnx_since = {10},
       .min_inputs = 2,
       .max_inputs = 4,
       .dtypes = kBytes,
       .infer = InferMatMulInteger,
       .reference = MatMulIntegerReference,
       .precision = PrecisionClass::kInteger,
       .samples = "MatMulInteger(a: u8[3,5] = index(256), b: i8[5,4] = index(127))\n"
                  "MatMulInteger(a: i8[2,3,5], b: u8[5,4], z: i8 = [3], w: u8[4] = [1,2,3,4])\n"
                  "MatMulInteger(a: u8[0,5], b: u8[5,4])"},
      {.name = "QLinearMatMul",
       .onnx_since = {10, 21},
       .min_inputs = 8,
       .max_inputs = 8,
       .dtypes = kBytes,
       .infer = InferQLinearMatMul,
       .reference = QLinearMatMulReference,
       .precision = PrecisionClass::kInteger,
       .samples = "QLinearMatMul(a: u8[3,5] = index(256), as: f32 = [0.02], az: u8 = [128], b: i8[5,4] "
                  "= index(100), bs: f32 = [0.01], bz: i8 = [0], ys: f32 = [0.05], yz: u8 = [100])\n"
                  "QLinearMatMul(a: i8[2,3,5], as: f32 = [0.02], az: i8 = [1], b: i8[5,4], bs: f32[4] = "
                  "uniform(0.01,0.02), bz: i8[4] = [0,0,0,0], ys: f32 = [0.05], yz: i8 = [-3])"},
      {.name = "RowQuantizedMatMul",
       .domain = std::string(kMinimDomain),
       .min_inputs = 3,
       .max_inputs = 4,
       .dtypes = {DType::f32},
       .infer = InferRowQuantized,
       .reference = RowQuantizedReference,
       .precision = PrecisionClass::kInteger,
       .samples = "RowQuantizedMatMul(x: f32[3,5], w: i8[5,4], s: f32[4] = uniform(0.01,0.02))\n"
                  "RowQuantizedMatMul(x: f32[2,3,5], w: i8[5,4], s: f32[4] = uniform(0.01,0.02), b: f32[4])\n"
                  "RowQuantizedMatMul(x: f32[1,5] = [0,0,0,0,0], w: i8[5,4], s: f32[4] = uniform(0.01,0.02))"},
  };
}

}  // namespace minim::ops
