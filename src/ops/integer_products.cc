// Integer and quantized products: MatMulInteger, ConvInteger, QLinearMatMul, QLinearConv, and
// minim's RowQuantizedMatMul.
#include <cmath>

#include "ops/conv.h"
#include "ops/elementwise.h"
#include "ops/quantize.h"

namespace minim::ops {
namespace {

constexpr int kNoBias = -1;
const DTypeList kBytes = {DType::i8, DType::u8};

Result<Shape> MatrixShape(InferContext& op, int a, int b) {
  Shape left = *op.input(a).shape, right = *op.input(b).shape;
  if (left.size() < 2 || right.size() < 2)
    return op.Error("cannot multiply {} by {}, expected rank 2 or more", ToString(left),
                    ToString(right));
  if (!left.back().Compatible(right[right.size() - 2]))
    return op.Error("cannot multiply {} by {}: inner sizes differ", ToString(left),
                    ToString(right));
  auto batch =
      BroadcastShapes(Shape(left.begin(), left.end() - 2), Shape(right.begin(), right.end() - 2));
  if (!batch.ok()) return op.Error("{}", batch.status().message());
  batch->push_back(left[left.size() - 2]);
  batch->push_back(right.back());
  return batch;
}

// An error for a scale or zero point, at one of `places`, that holds nothing.
Status CheckParameters(const InferContext& op, std::initializer_list<int> places) {
  for (int i : places)
    if (op.has_input(i) && op.input(i).ranked() && ElementsOf(*op.input(i).shape) == 0)
      return op.Error("input {} is empty, expected a scale or zero point", i);
  return {};
}

// A convolution's parameters: one number, or for the weights (and the bias) one an output channel.
Status CheckChannels(const InferContext& op, int w, std::initializer_list<int> places, int bias) {
  if (!op.input(w).ranked() || op.input(w).rank() < 1) return {};
  const Dim channels = (*op.input(w).shape)[0];
  for (int i : places) {
    if (!op.has_input(i) || !op.input(i).ranked()) continue;
    const auto count = ElementsOf(*op.input(i).shape);
    if (count && !(i != bias && *count == 1) && !channels.Compatible(Dim(*count)))
      return op.Error("input {} has {} elements for {} output channels", i, *count,
                      channels.ToString());
  }
  return {};
}

Status InferProduct(InferContext& op, int a, int b, DType dtype) {
  if (!op.input(a).ranked() || !op.input(b).ranked()) return op.SetUnknown(0, dtype);
  MINIM_TRY(Shape shape, MatrixShape(op, a, b));
  return op.SetOutput(0, dtype, std::move(shape));
}

// x and y with scale and zero point each, then those of the result, which has its zero point's
// type.
Status CheckQLinear(const InferContext& op) {
  MINIM_TRY(CheckParameters(op, {1, 2, 4, 5, 6, 7}));
  MINIM_TRY(CheckQuantized(op, 0, 1, 2));
  MINIM_TRY(CheckQuantized(op, 3, 4, 5));
  return CheckQuantized(op, -1, 6, 7);
}

Status CheckInteger(const InferContext& op) {
  MINIM_TRY(CheckParameters(op, {2, 3}));
  MINIM_TRY(CheckQuantized(op, 0, -1, 2));
  return CheckQuantized(op, 1, -1, 3);
}

Status InferQLinearMatMul(InferContext& op) {
  MINIM_TRY(CheckQLinear(op));
  return InferProduct(op, 0, 3, op.dtype(7));
}

Status InferQLinearConv(InferContext& op) {
  MINIM_TRY(CheckQLinear(op));
  MINIM_TRY(CheckChannels(op, 3, {4, 5, 8}, 8));
  if (op.has_input(8) && op.dtype(8) != DType::i32)
    return op.Error("bias is {}, expected i32", Name(op.dtype(8)));
  MINIM_TRY(InferConvolution(op, 0, 3, op.dtype(7)));
  return CheckConvBias(op, 8);
}

Status InferMatMulInteger(InferContext& op) {
  MINIM_TRY(CheckInteger(op));
  return InferProduct(op, 0, 1, DType::i32);
}

Status InferConvInteger(InferContext& op) {
  MINIM_TRY(CheckInteger(op));
  MINIM_TRY(CheckChannels(op, 1, {3}, kNoBias));
  return InferConvolution(op, 0, 1, DType::i32);
}

// Element of a per-tensor, per-row ([M]) or per-column ([N]) parameter.
double Parameter(const RefContext& op, int input, int64_t place) {
  if (!op.has_input(input) || op.input(input).size() == 0) return 0;
  return op.input(input).At(op.input(input).size() == 1 ? 0 : place % op.input(input).size());
}

// Sum of (a - zero a)(b - zero b) for every output: f(flat, row, column, sum).
template <typename F>
void IntegerProduct(const RefContext& op, int a, int b, int za, int zb, const Dims& y, F&& f) {
  const Dims &da = op.dims(a), &db = op.dims(b);
  const int rank = y.rank();
  const int64_t inner = da[da.rank() - 1], n = y[rank - 1];
  Dims left = y, right = y;
  left[rank - 1] = right[rank - 2] = inner;
  const Dims sa = BroadcastStrides(da, left), sb = BroadcastStrides(db, right);
  ForEachIndex(y, [&](int64_t flat, const Dims& at) {
    Dims from_a = at, from_b = at;
    from_a[rank - 1] = from_b[rank - 2] = 0;
    const int64_t oa = OffsetOf(from_a, sa), ob = OffsetOf(from_b, sb);
    const auto zero_a = static_cast<int64_t>(Parameter(op, za, at[rank - 2]));
    const auto zero_b = static_cast<int64_t>(Parameter(op, zb, at[rank - 1]));
    int64_t sum = 0;
    for (int64_t k = 0; k < inner; ++k)
      sum += (op.input(a).IntAt(oa + k) - zero_a) * (op.input(b).IntAt(ob + k * n) - zero_b);
    f(flat, at[rank - 2], at[rank - 1], sum);
  });
}

Status MatMulIntegerReference(RefContext& op) {
  RefTensor& y = op.Output(0);
  IntegerProduct(op, 0, 1, 2, 3, y.dims(),
                 [&](int64_t i, int64_t, int64_t, int64_t sum) { y.i64()[i] = sum; });
  return {};
}

Status QLinearMatMulReference(RefContext& op) {
  RefTensor& y = op.Output(0);
  IntegerProduct(
      op, 0, 3, 2, 5, y.dims(), [&](int64_t i, int64_t row, int64_t column, int64_t sum) {
        const double scale =
            Parameter(op, 1, row) * Parameter(op, 4, column) / Parameter(op, 6, row);
        y.i64()[i] = Saturate(
            RoundHalfEven(static_cast<double>(sum) * scale) + Parameter(op, 7, row), y.dtype);
      });
  return {};
}

// The sums of a convolution over x and w less their zero points.
std::vector<int64_t> ConvolveIntegers(const RefContext& op, int x, int w, int zx, int zw,
                                      const Dims& y) {
  const Convolution c = MakeConvolution(op.attributes(), op.dims(x), op.dims(w), y);
  const int64_t per_output = c.w.Elements(1, c.w.rank());
  std::vector<int64_t> sums(y.Elements(), 0);
  ForEachProduct(c, [&](int64_t o, int64_t i, int64_t k) {
    const auto zero_x = static_cast<int64_t>(Parameter(op, zx, 0));
    const auto zero_w = static_cast<int64_t>(Parameter(op, zw, k / per_output));
    sums[o] += (op.input(x).IntAt(i) - zero_x) * (op.input(w).IntAt(k) - zero_w);
  });
  return sums;
}

Status ConvIntegerReference(RefContext& op) {
  RefTensor& y = op.Output(0);
  const std::vector<int64_t> sums = ConvolveIntegers(op, 0, 1, 2, 3, y.dims());
  std::copy(sums.begin(), sums.end(), y.i64().begin());
  return {};
}

Status QLinearConvReference(RefContext& op) {
  RefTensor& y = op.Output(0);
  const std::vector<int64_t> sums = ConvolveIntegers(op, 0, 3, 2, 5, y.dims());
  const int64_t area = Spatial(y.dims()).Elements();
  for (int64_t i = 0; i < y.size(); ++i) {
    const int64_t m = i / area % y.dims()[1];
    const double scale = Parameter(op, 1, 0) * Parameter(op, 4, m) / Parameter(op, 6, 0);
    const double sum = static_cast<double>(sums[i]) + Parameter(op, 8, m);
    y.i64()[i] = Saturate(RoundHalfEven(sum * scale) + Parameter(op, 7, 0), y.dtype);
  }
  return {};
}

Status InferRowQuantized(InferContext& op) {
  const TensorType &x = op.input(0), &w = op.input(1);
  if (w.dtype != DType::i8) return op.Error("weights are {}, expected i8", Name(w.dtype));
  for (int i : {2, 3})
    if (op.has_input(i)) MINIM_TRY(op.SameDType(0, i));
  MINIM_TRY(op.HasRank(1, 2));
  if (!x.ranked() || !w.ranked()) return op.SetUnknown(0, DType::f32);
  if (x.rank() < 1 || !x.shape->back().Compatible((*w.shape)[0]))
    return op.Error("cannot multiply {} by {}", ToString(*x.shape), ToString(*w.shape));
  Shape shape = *x.shape;
  shape.back() = (*w.shape)[1];
  return op.SetOutput(0, DType::f32, std::move(shape));
}

// Each row is quantized by its own largest element, so no row depends on its neighbours. Scales
// are f32, as in the kernels.
Status RowQuantizedReference(RefContext& op) {
  RefTensor& y = op.Output(0);
  const int64_t inner = op.dims(1)[0], columns = op.dims(1)[1];
  const int64_t rows = op.dims(0).Elements(0, op.dims(0).rank() - 1);
  const auto x = op.input(0).f64();
  std::vector<int64_t> q(inner);
  for (int64_t r = 0; r < rows; ++r) {
    double largest = 0;
    for (int64_t k = 0; k < inner; ++k) largest = std::max(largest, std::fabs(x[r * inner + k]));
    const float scale = largest == 0 ? 1.0f : static_cast<float>(largest) / 127.0f;
    for (int64_t k = 0; k < inner; ++k)
      q[k] = Saturate(RoundHalfEven(static_cast<float>(x[r * inner + k]) / scale), DType::i8);
    for (int64_t n = 0; n < columns; ++n) {
      int64_t sum = 0;
      for (int64_t k = 0; k < inner; ++k) sum += q[k] * op.input(1).IntAt(k * columns + n);
      const float factor = scale * static_cast<float>(op.input(2).f64()[n]);
      const float product = static_cast<float>(sum) * factor;
      y.f64()[r * columns + n] =
          product + (op.has_input(3) ? static_cast<float>(op.input(3).f64()[n]) : 0.0f);
    }
  }
  return {};
}

OpDef Define(std::string name, int version, int min_inputs, int max_inputs,
             std::function<Status(InferContext&)> infer, Reference reference, std::string samples) {
  return {.name = std::move(name),
          .onnx_since = {version},
          .min_inputs = min_inputs,
          .max_inputs = max_inputs,
          .dtypes = kBytes,
          .infer = std::move(infer),
          .reference = std::move(reference),
          .precision = PrecisionClass::kInteger,
          .samples = std::move(samples)};
}

}  // namespace

std::vector<OpDef> IntegerProducts() {
  OpDef rows = Define("RowQuantizedMatMul", 1, 3, 4, InferRowQuantized, RowQuantizedReference,
                      "RowQuantizedMatMul(x: f32[3,5], w: i8[5,2], s: f32[2], b: f32[2])\n"
                      "RowQuantizedMatMul(x: f32[2,0,5], w: i8[5,2], s: f32[2])\n");
  rows.domain = kMinimDomain;
  rows.onnx_since = {};
  rows.dtypes = {DType::f32};
  OpDef q_matmul = Define(
      "QLinearMatMul", 10, 8, 8, InferQLinearMatMul, QLinearMatMulReference,
      "QLinearMatMul(a: u8[3,5], as: f32 = [0.1], az: u8 = [3], b: i8[5,2], bs: f32 = [0.2], "
      "bz: i8 = [0], ys: f32 = [0.3], yz: u8 = [9])\n"
      "QLinearMatMul(a: i8[2,3,5], as: f32[1] = [0.1], az: i8[1] = [3], b: i8[5,2], "
      "bs: f32[2] = [0.2,0.1], bz: i8[2] = [0,1], ys: f32[1] = [0.3], yz: i8[1] = [9])\n");
  q_matmul.onnx_since = {10, 21};
  return {
      Define(
          "MatMulInteger", 10, 2, 4, InferMatMulInteger, MatMulIntegerReference,
          "MatMulInteger(a: u8[3,5], b: i8[5,2], za: u8 = [7], zb: i8 = [1])\n"
          "MatMulInteger(a: i8[2,3,5], b: u8[5,2])\nMatMulInteger(a: u8[3,5], b: u8[5,2], _, zb: "
          "u8[2])\n"),
      Define("ConvInteger", 10, 2, 4, InferConvInteger, ConvIntegerReference,
             "ConvInteger(x: u8[1,2,4,4], w: i8[3,2,2,2], zx: u8 = [7], zw: i8 = [1]) "
             "{pads=[1,0,0,1]}\n"
             "ConvInteger(x: i8[1,2,5], w: i8[2,1,2]) {group=2, strides=[2], dilations=[2]}\n"),
      std::move(q_matmul),
      Define(
          "QLinearConv", 10, 8, 9, InferQLinearConv, QLinearConvReference,
          "QLinearConv(x: u8[1,2,4,4], xs: f32 = [0.1], xz: u8 = [3], w: i8[3,2,2,2], ws: f32[3] = "
          "[0.2,0.1,0.3], wz: i8[3] = [0,0,0], ys: f32 = [0.5], yz: u8 = [20], b: i32[3]) "
          "{pads=[1,0,0,1]}\n"),
      std::move(rows),
  };
}

}  // namespace minim::ops
