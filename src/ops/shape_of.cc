// Ops that make tensors from shapes and attributes: Constant, ConstantOfShape, Shape, Size, Range,
// EyeLike.
#include <cmath>

#include "ops/elementwise.h"
#include "ops/host.h"
#include "ops/movement.h"

namespace minim::ops {
namespace {

// The tensor that a Constant node means; undefined when no attribute gives it.
Tensor ConstantValue(const Attributes& a) {
  if (Tensor value = a.Tensor("value"); value.defined()) return value;
  if (a.Has("value_float")) return Tensor::Scalar<float>(a.Float("value_float", 0));
  if (a.Has("value_int")) return Tensor::Scalar<int64_t>(a.Int("value_int", 0));
  if (a.Has("value_floats")) {
    const auto values = a.Floats("value_floats");
    return Tensor::From<float>({static_cast<int64_t>(values.size())}, values);
  }
  if (a.Has("value_string")) return Tensor::Scalar<std::string>(a.String("value_string", ""));
  if (a.Has("value_strings")) {
    const auto values = a.Strings("value_strings");
    return Tensor::From<std::string>({static_cast<int64_t>(values.size())}, values);
  }
  if (!a.Has("value_ints")) return {};
  const auto values = a.Ints("value_ints");
  return Tensor::From<int64_t>({static_cast<int64_t>(values.size())}, values);
}

Status InferConstant(InferContext& op) {
  const Tensor value = ConstantValue(op.attributes());
  if (!value.defined())
    return Unsupported(
        "Constant '{}': has none of value, value_int(s), value_float(s), "
        "value_string(s)",
        op.node().name);
  return op.SetOutput(0, value.dtype(), ToShape(value.dims()));
}

Status ConstantReference(RefContext& op) {
  ConvertElements(ConstantValue(op.attributes()).view(), op.Output(0).wide.view());
  return {};
}

Tensor FillValue(const Attributes& a) {
  return a.Has("value") ? a.Tensor("value") : Tensor::Scalar<float>(0);
}

Status InferConstantOfShape(InferContext& op) {
  const Tensor value = FillValue(op.attributes());
  if (!value.defined()) return op.Error("value is not a tensor");
  if (value.size() != 1) return op.Error("value has {} elements, expected 1", value.size());
  const auto dims = op.IntsInput(0);
  if (!dims) return op.SetUnknown(0, value.dtype());
  for (int64_t dim : *dims)
    if (dim < 0) return op.Error("the shape holds {}, expected no negative size", dim);
  return op.SetOutput(0, value.dtype(), Shape(dims->begin(), dims->end()));
}

Status ConstantOfShapeReference(RefContext& op) {
  RefTensor& y = op.Output(0);
  const RefTensor value = ToReference(FillValue(op.attributes()));
  CopyElements(value, y, [](const Dims&) { return 0; });
  return {};
}

// The clamped range [start, end) of axes.
std::pair<int64_t, int64_t> AxisRange(const Attributes& a, int64_t rank) {
  const auto clamp = [&](int64_t v) { return std::clamp<int64_t>(v < 0 ? v + rank : v, 0, rank); };
  const int64_t start = clamp(a.Int("start", 0)), end = clamp(a.Int("end", rank));
  return {start, std::max(start, end)};
}

Status InferShape(InferContext& op) {
  if (!op.input(0).ranked()) return op.SetOutput(0, DType::i64, Shape(1));
  const auto [start, end] = AxisRange(op.attributes(), op.input(0).rank());
  return op.SetOutput(0, DType::i64, Shape{Dim(end - start)});
}

Status ShapeReference(RefContext& op) {
  const auto [start, end] = AxisRange(op.attributes(), op.dims(0).rank());
  RefTensor& y = op.Output(0);
  for (int64_t i = start; i < end; ++i) y.i64()[i - start] = op.dims(0)[static_cast<int>(i)];
  return {};
}

Status SizeReference(RefContext& op) {
  op.Output(0).i64()[0] = op.input(0).size();
  return {};
}

// max(ceil((limit - start) / delta), 0)
int64_t RangeCount(const Tensor& start, const Tensor& limit, const Tensor& delta) {
  if (IsFloat(start.dtype())) {
    const auto value = [](const Tensor& t) {
      return Converted(t.view(), DType::f64).as<double>()[0];
    };
    const double count = std::ceil((value(limit) - value(start)) / value(delta));
    return count > 0 && std::isfinite(count) ? static_cast<int64_t>(count) : 0;
  }
  const auto value = [](const Tensor& t) {
    return Converted(t.view(), DType::i64).as<int64_t>()[0];
  };
  const int64_t step = value(delta), span = value(limit) - value(start);
  if (step == 0 || (span > 0) != (step > 0)) return 0;
  return span / step + (span % step != 0);
}

Status InferRange(InferContext& op) {
  const Tensor* parts[3];
  for (int i = 0; i < 3; ++i) {
    MINIM_TRY(op.SameDType(0, i));
    // The specification wants scalars; exporters also give tensors of one element.
    if (op.input(i).ranked() && op.input(i).rank() > 1)
      return op.Error("input {} has shape {}, expected a scalar", i, ToString(*op.input(i).shape));
    parts[i] = op.ConstantInput(i);
    if (parts[i] != nullptr && parts[i]->size() != 1)
      return op.Error("input {} has {} elements, expected 1", i, parts[i]->size());
  }
  if (!parts[0] || !parts[1] || !parts[2]) return op.SetOutput(0, op.dtype(0), Shape(1));
  return op.SetOutput(0, op.dtype(0), Shape{Dim(RangeCount(*parts[0], *parts[1], *parts[2]))});
}

Status RangeReference(RefContext& op) {
  RefTensor& y = op.Output(0);
  VisitWideNumber(y.wide.dtype(), [&]<typename T>() {
    const T start = op.input(0).wide.as<T>()[0], delta = op.input(2).wide.as<T>()[0];
    for (int64_t i = 0; i < y.size(); ++i)
      y.wide.as<T>()[i] = WrapAdd(start, WrapMul(static_cast<T>(i), delta));
  });
  return {};
}

Status InferEyeLike(InferContext& op) {
  MINIM_TRY(op.HasRank(0, 2));
  const auto to =
      DTypeFromOnnx(static_cast<int>(op.attributes().Int("dtype", OnnxId(op.dtype(0)))));
  if (!to) return op.Error("dtype {} is unknown", op.attributes().Int("dtype", 0));
  return op.SetOutput(0, *to, op.input(0).ranked() ? *op.input(0).shape : Shape(2));
}

Status EyeLikeReference(RefContext& op) {
  RefTensor& y = op.Output(0);
  const int64_t k = op.attributes().Int("k", 0);
  VisitWide(y.wide.dtype(), [&]<typename T>() {
    ForEachIndex(y.dims(), [&](int64_t flat, const Dims& at) {
      y.wide.as<T>()[flat] = static_cast<T>(at[1] - at[0] == k);
    });
  });
  return {};
}

std::vector<OpDef> Constants() {
  return {
      {.name = "Constant",
       .onnx_since = {1, 9, 11, 12, 13, 19, 21, 23},
       .min_inputs = 0,
       .max_inputs = 0,
       .infer = InferConstant,
       .reference = ConstantReference,
       .host = [](HostContext& op) -> Status {
         op.SetOutput(0, ConstantValue(op.attributes()));
         return {};
       },
       .samples = "Constant() {value=tensor f32[2,2] [1,2,3,4]}\nConstant() {value_int=3}\n"
                  "Constant() {value=tensor u8[0] []}\nConstant() {value_float=0.5}\n"
                  "Constant() {value_ints=[1,2]}\nConstant() {value_floats=[1.5,2.5]}\n"},
      {.name = "ConstantOfShape",
       .onnx_since = {9, 20, 21, 23},
       .dtypes = {DType::i64},
       .infer = InferConstantOfShape,
       .reference = ConstantOfShapeReference,
       .samples = "ConstantOfShape(s: i64[2] = [2,3]) {value=tensor i32[1] [7]}\n"
                  "ConstantOfShape(s: i64[0] = [])\nConstantOfShape(s: i64[2] = [0,2])\n"},
  };
}

}  // namespace

std::vector<OpDef> ShapeOps() {
  std::vector<OpDef> defs = Constants();
  defs.push_back({.name = "Shape",
                  .onnx_since = {1, 13, 15, 19, 21, 23},
                  .infer = InferShape,
                  .reference = ShapeReference,
                  .precision = PrecisionClass::kInteger,
                  .traits = OpTrait::kStrings,
                  .samples = "Shape(x: f32[2,3,4])\nShape(x: f32)\nShape(x: u8[0,2]) {start=-1}\n"
                             "Shape(x: f32[2,3,4]) {start=1, end=2}\n"});
  defs.push_back({.name = "Size",
                  .onnx_since = {1, 13, 19, 21, 23},
                  .infer = [](InferContext& op) { return op.SetOutput(0, DType::i64, Shape()); },
                  .reference = SizeReference,
                  .precision = PrecisionClass::kInteger,
                  .traits = OpTrait::kStrings,
                  .samples = "Size(x: f32[2,3])\nSize(x: bool[0])\nSize(x: i8)\n"});
  defs.push_back({.name = "Range",
                  .onnx_since = {11},
                  .min_inputs = 3,
                  .max_inputs = 3,
                  .dtypes = {DType::f64, DType::f32, DType::f16, DType::bf16, DType::i64,
                             DType::i32, DType::i16},
                  .infer = InferRange,
                  .reference = RangeReference,
                  .samples = "Range(s: i64 = [2], l: i64 = [11], d: i64 = [3])\n"
                             "Range(s: i32 = [10], l: i32 = [6], d: i32 = [-3])\n"
                             "Range(s: f32 = const [1], l: f32 = const [5], d: f32 = const [2])\n"
                             "Range(s: i16 = [3], l: i16 = [3], d: i16 = [1])\n"});
  defs.push_back({.name = "EyeLike",
                  .onnx_since = {9, 22},
                  .infer = InferEyeLike,
                  .reference = EyeLikeReference,
                  .samples = "EyeLike(x: f32[3,4])\nEyeLike(x: i32[3,4]) {dtype=f64, k=1}\n"
                             "EyeLike(x: bool[2,2]) {k=-1}\nEyeLike(x: u64[0,2])\n"});
  return defs;
}

}  // namespace minim::ops
