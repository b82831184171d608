// QuantizeLinear, DequantizeLinear, DynamicQuantizeLinear.
#include "ops/quantize.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/dtype.h"
#include "ops/builder.h"
#include "ops/infer.h"

namespace minim::ops {

double RoundTo(double value, DType dtype) {
  return VisitFloat(dtype, [&]<typename T>() {
    return ConvertTo<double>(ConvertTo<T>(value));
  });
}

int64_t SaturateTo(double value, DType dtype) {
  return Visit(dtype, [&]<typename T>() -> int64_t {
    if constexpr (std::is_integral_v<T> && !std::is_same_v<T, bool>)
      return static_cast<int64_t>(ConvertTo<T>(value));
    return 0;
  });
}

int64_t QuantizeOne(double x, double scale, int64_t zero_point, DType scale_dtype, DType dtype) {
  const double steps = std::nearbyint(RoundTo(x / scale, scale_dtype));
  return SaturateTo(steps + static_cast<double>(zero_point), dtype);
}

int64_t ScalarInt(const RefContext& op, int i, int64_t fallback) {
  return op.has_input(i) ? op.input(i).IntAt(0) : fallback;
}

Result<ScaleIndex> ScaleIndex::Make(const RefContext& op, const Dims& dims, const Dims& scale_dims) {
  ScaleIndex index;
  if (scale_dims.Elements() == 1 && scale_dims.rank() <= 1) return index;
  const int64_t axis = op.attributes().Int("axis", 1);
  const int rank = dims.rank();
  index.axis_ = static_cast<int>(axis < 0 ? axis + rank : axis);
  index.block_ = op.attributes().Int("block_size", 0);
  const bool in_range = index.axis_ >= 0 && index.axis_ < rank;
  const bool per_axis = in_range && scale_dims.rank() == 1 && scale_dims[0] == dims[index.axis_];
  const bool blocked = in_range && index.block_ > 0 && scale_dims.rank() == rank;
  if (!per_axis && !blocked)
    return InvalidArgument("{} '{}': a scale of shape {} does not fit data of shape {} at axis {}",
                           op.node().op, op.node().name, scale_dims.ToString(), dims.ToString(), axis);
  if (per_axis) index.block_ = 0;
  index.strides_ = RowMajorStrides(scale_dims);
  return index;
}

int64_t ScaleIndex::operator()(const Dims& index) const {
  if (axis_ < 0) return 0;
  if (block_ == 0) return index[axis_];
  int64_t offset = 0;
  for (int i = 0; i < index.rank(); ++i)
    offset += (i == axis_ ? index[i] / block_ : index[i]) * strides_[i];
  return offset;
}

namespace {

const DTypeList kQuantizedTypes = {DType::i8, DType::u8, DType::i16, DType::u16, DType::i32};

Result<DType> QuantizedType(const InferContext& op) {
  if (op.has_input(2)) return op.dtype(2);
  const int64_t id = op.attributes().Int("output_dtype", 0);
  if (id == 0) return DType::u8;
  const auto dtype = DTypeFromOnnx(static_cast<int>(id));
  if (dtype) return *dtype;
  return Unsupported("{} '{}': output element type {} is not supported", op.node().op,
                     op.node().name, id);
}

Status InferQuantize(InferContext& op) {
  MINIM_TRY(const DType dtype, QuantizedType(op));
  if (std::find(kQuantizedTypes.begin(), kQuantizedTypes.end(), dtype) == kQuantizedTypes.end())
    return Unsupported("{} '{}': quantizing to {} is not supported", op.node().op, op.node().name,
                       Name(dtype));
  return op.SetOutput(0, {dtype, op.input(0).shape});
}

Status QuantizeReference(RefContext& op) {
  const RefTensor& x = op.input(0);
  const RefTensor& scale = op.input(1);
  RefTensor& y = op.Output(0);
  MINIM_TRY(const ScaleIndex at, ScaleIndex::Make(op, x.dims(), scale.dims()));
  const int64_t precision = op.attributes().Int("precision", 0);
  const DType divide_in =
      precision == 0 ? scale.dtype : DTypeFromOnnx(static_cast<int>(precision)).value_or(scale.dtype);
  ForEachIndex(x.dims(), [&](int64_t i, const Dims& index) {
    const int64_t s = at(index);
    const int64_t zero = op.has_input(2) ? op.input(2).IntAt(s) : 0;
    y.i64()[i] = QuantizeOne(x.At(i), scale.At(s), zero, divide_in, y.dtype);
  });
  return {};
}

Status InferDequantize(InferContext& op) {
  const int64_t id = op.attributes().Int("output_dtype", 0);
  const auto dtype = id == 0 ? op.dtype(1) : DTypeFromOnnx(static_cast<int>(id));
  if (!dtype || !IsFloat(*dtype)) return op.Error("output element type {} is no float", id);
  return op.SetOutput(0, {*dtype, op.input(0).shape});
}

Status DequantizeReference(RefContext& op) {
  const RefTensor& x = op.input(0);
  const RefTensor& scale = op.input(1);
  RefTensor& y = op.Output(0);
  MINIM_TRY(const ScaleIndex at, ScaleIndex::Make(op, x.dims(), scale.dims()));
  ForEachIndex(x.dims(), [&](int64_t i, const Dims& index) {
    const int64_t s = at(index);
    const int64_t zero = op.has_input(2) ? op.input(2).IntAt(s) : 0;
    y.f64()[i] = static_cast<double>(x.IntAt(i) - zero) * scale.At(s);
  });
  return {};
}

Status InferDynamic(InferContext& op) {
  MINIM_TRY(op.SetOutput(0, {DType::u8, op.input(0).shape}));
  MINIM_TRY(op.SetOutput(1, DType::f32, Shape()));
  return op.SetOutput(2, DType::u8, Shape());
}

Status DynamicReference(RefContext& op) {
  const auto x = op.input(0).f64();
  double low = 0, high = 0;  // the range always includes 0
  for (double v : x) low = std::min(low, v), high = std::max(high, v);
  const auto f32 = [](double v) { return RoundTo(v, DType::f32); };
  double scale = f32(f32(high - low) / 255);
  if (scale == 0) scale = 1;  // all zeros
  const double zero = std::clamp(std::nearbyint(f32(f32(0 - low) / scale)), 0.0, 255.0);
  RefTensor& y = op.Output(0);
  op.Output(1).f64()[0] = scale;
  op.Output(2).i64()[0] = static_cast<int64_t>(zero);
  for (size_t i = 0; i < x.size(); ++i)
    y.i64()[i] = QuantizeOne(x[i], scale, static_cast<int64_t>(zero), DType::f32, DType::u8);
  return {};
}

OpDef Quantize() {
  return {.name = "QuantizeLinear",
          .onnx_since = {10, 13, 19, 21, 23},
          .min_inputs = 2,
          .max_inputs = 3,
          .infer = InferQuantize,
          .reference = QuantizeReference,
          .precision = PrecisionClass::kInteger,
          .samples = "QuantizeLinear(x: f32[2,3], s: f32 = [0.01])\n"
                     "QuantizeLinear(x: f32[2,3], s: f32[3] = [0.01, 0.02, 0.5], z: i8[3] = [0, 1, -5])\n"
                     "QuantizeLinear(x: f32[2,3], s: f32[2] = [0.01, 0.02], z: u8[2] = [128, 3]) {axis=0}\n"
                     "QuantizeLinear(x: f32[2,4], s: f32[2,2] = uniform(0.01,0.1)) {axis=1, block_size=2, output_dtype=i8}\n"
                     "QuantizeLinear(x: f16[5], s: f16 = [0.01], z: i16 = [3]) {precision=f32, saturate=1}\n"
                     "QuantizeLinear(x: f32[0], s: f32 = [0.01])"};
}

OpDef Dequantize() {
  return {.name = "DequantizeLinear",
          .onnx_since = {10, 13, 19, 21, 23},
          .min_inputs = 2,
          .max_inputs = 3,
          .dtypes = kQuantizedTypes,
          .infer = InferDequantize,
          .reference = DequantizeReference,
          .precision = PrecisionClass::kInteger,
          .samples = "DequantizeLinear(x: u8[2,3], s: f32 = [0.01], z: u8 = [128])\n"
                     "DequantizeLinear(x: i8[2,3], s: f32[3] = [0.01, 0.02, 0.5])\n"
                     "DequantizeLinear(x: i32[2,3], s: f32[2] = [0.01, 0.02]) {axis=0}\n"
                     "DequantizeLinear(x: i8[2,4], s: f32[2,2], z: i8[2,2]) {axis=1, block_size=2}\n"
                     "DequantizeLinear(x: i16[0], s: f16 = [0.5])"};
}

OpDef Dynamic() {
  return {.name = "DynamicQuantizeLinear",
          .onnx_since = {11},
          .dtypes = {DType::f32},
          .infer = InferDynamic,
          .reference = DynamicReference,
          .precision = PrecisionClass::kInteger,
          .samples = "y, s, z = DynamicQuantizeLinear(x: f32[3,5])\n"
                     "y, s, z = DynamicQuantizeLinear(x: f32[4] = uniform(1,2))\n"
                     "y, s, z = DynamicQuantizeLinear(x: f32[3] = [0,0,0])"};
}

}  // namespace

std::vector<OpDef> Quantization() { return {Quantize(), Dequantize(), Dynamic()}; }

}  // namespace minim::ops
