// QuantizeLinear, DequantizeLinear, DynamicQuantizeLinear.
#include "ops/quantize.h"

#include <algorithm>
#include <cmath>

#include "core/small_float.h"
#include "ops/elementwise.h"
#include "ops/movement.h"

namespace minim::ops {

double RoundHalfEven(double x) { return std::isfinite(x) ? x - std::remainder(x, 1.0) : x; }

int64_t Saturate(double value, DType dtype) {
  if (IsSmallInt(dtype)) {
    const int range = 1 << FileBits(dtype);
    const int lowest = dtype == DType::i4 || dtype == DType::i2 ? -range / 2 : 0;
    return std::clamp<int64_t>(ConvertTo<int64_t>(value), lowest, lowest + range - 1);
  }
  return Visit(dtype, [&]<typename T>() -> int64_t {
    if constexpr (std::is_integral_v<T>)
      return static_cast<int64_t>(ConvertTo<T>(value));
    else
      return 0;
  });
}

Status CheckQuantized(const InferContext& op, int value, int scale, int zero) {
  const auto given = [&](int i) { return i >= 0 && op.has_input(i); };
  for (int i : {value, zero})
    if (given(i) && op.dtype(i) != DType::i8 && op.dtype(i) != DType::u8)
      return op.Error("input {} is {}, expected i8 or u8", i, Name(op.dtype(i)));
  if (given(value) && given(zero)) MINIM_TRY(op.SameDType(value, zero));
  if (given(scale) && !IsFloat(op.dtype(scale)))
    return op.Error("scale {} is {}, expected a float", scale, Name(op.dtype(scale)));
  return {};
}

namespace {

const DTypeList kQuantized = {DType::i8,         DType::u8,       DType::i16,        DType::u16,
                              DType::i32,        DType::f8e4m3fn, DType::f8e4m3fnuz, DType::f8e5m2,
                              DType::f8e5m2fnuz, DType::u4,       DType::i4,         DType::f4e2m1,
                              DType::u2,         DType::i2};

bool IsQuantized(DType dtype) {
  return std::find(kQuantized.begin(), kQuantized.end(), dtype) != kQuantized.end();
}

bool IsScale(DType dtype) { return IsFloat(dtype) || dtype == DType::f8e8m0; }

// The float type that attribute `name` names, or `fallback`.
Result<DType> FloatAttribute(const InferContext& op, std::string_view name, DType fallback) {
  const int64_t id = op.attributes().Int(name, 0);
  const auto dtype = id == 0 ? fallback : DTypeFromOnnx(static_cast<int>(id));
  if (dtype && IsFloat(*dtype)) return *dtype;
  return op.Error("{} is {}, expected a float type that can be computed in", name, id);
}

// Which scale goes with each element: one for all, one per place on `axis`, or one per block.
struct Scales {
  Dims strides;
  int axis = 0;
  int64_t block = 0;

  int64_t At(const Dims& index) const {
    int64_t offset = 0;
    for (int i = 0; i < index.rank(); ++i)
      offset += (i == axis && block > 0 ? index[i] / block : index[i]) * strides[i];
    return offset;
  }
};

Scales ScalesOf(const Attributes& a, const Dims& x, const Dims& scale) {
  Scales s{.strides = Dims::Filled(x.rank(), 0), .block = a.Int("block_size", 0)};
  if (scale.Elements() == 1 && s.block == 0) return s;
  s.axis = Positive(a.Int("axis", 1), x.rank());
  if (s.block > 0)
    s.strides = RowMajorStrides(scale);
  else
    s.strides[s.axis] = 1;
  return s;
}

// One zero point for each scale.
Status CheckZeroPoint(const InferContext& op) {
  if (!op.has_input(2) || !op.input(1).Static() || !op.input(2).Static()) return {};
  if (op.input(1).dims().Elements() == op.input(2).dims().Elements()) return {};
  return op.Error("zero point {} does not fit scale {}", ToString(*op.input(2).shape),
                  ToString(*op.input(1).shape));
}

Status CheckScale(InferContext& op) {
  MINIM_TRY(CheckZeroPoint(op));
  const TensorType &x = op.input(0), &scale = op.input(1);
  if (!IsScale(scale.dtype)) return op.Error("scale is {}, expected a float", Name(scale.dtype));
  if (!x.ranked() || !scale.ranked()) return {};
  const int64_t block = op.attributes().Int("block_size", 0);
  if (block < 0) return op.Error("block_size is {}, expected 0 or more", block);
  if (scale.rank() == 0 || (scale.rank() == 1 && (*scale.shape)[0] == Dim(1) && block == 0))
    return {};
  MINIM_TRY(const int axis, op.Axis(op.attributes().Int("axis", 1), x.rank()));
  if (block > 0) {
    MINIM_TRY(op.HasRank(1, x.rank()));
    for (int i = 0; i < x.rank(); ++i) {
      const Dim blocks =
          i != axis ? (*x.shape)[i]
                    : (*x.shape)[i].Map([&](int64_t n) { return n / block + (n % block != 0); });
      if (!blocks.Compatible((*scale.shape)[i]))
        return op.Error("scale {} does not fit {} in blocks of {}", ToString(*scale.shape),
                        ToString(*x.shape), block);
    }
    return {};
  }
  if (scale.rank() != 1 || !(*scale.shape)[0].Compatible((*x.shape)[axis]))
    return op.Error("scale {} does not fit axis {} of {}", ToString(*scale.shape), axis,
                    ToString(*x.shape));
  return {};
}

Status InferQuantize(InferContext& op) {
  MINIM_TRY(CheckScale(op));
  MINIM_TRY(FloatAttribute(op, "precision", DType::f32));
  DType dtype = DType::u8;
  if (const int64_t id = op.attributes().Int("output_dtype", 0); id != 0) {
    const auto named = DTypeFromOnnx(static_cast<int>(id));
    if (!named)
      return Unsupported("QuantizeLinear '{}': output_dtype {} is not known", op.node().name, id);
    dtype = *named;
  }
  if (op.has_input(2)) dtype = op.dtype(2);
  if (!IsQuantized(dtype)) return op.Error("does not quantize to {}", Name(dtype));
  if (!op.input(0).ranked()) return op.SetUnknown(0, dtype);
  return op.SetOutput(0, dtype, *op.input(0).shape);
}

Status QuantizeReference(RefContext& op) {
  RefTensor& y = op.Output(0);
  const Scales scales = ScalesOf(op.attributes(), op.dims(0), op.dims(1));
  // The quotient is rounded in the type of the scale, as the rule says.
  const DType scale = IsFloat(op.input(1).dtype) ? op.input(1).dtype : DType::f32;
  const int precision = static_cast<int>(op.attributes().Int("precision", 0));
  const DType division = DTypeFromOnnx(precision).value_or(scale);
  const SmallCast cast{.saturate = op.attributes().Int("saturate", 1) != 0};
  ForEachIndex(y.dims(), [&](int64_t flat, const Dims& at) {
    const int64_t s = scales.At(at);
    double quotient = op.input(0).At(flat) / op.input(1).At(s);
    VisitFloat(division,
               [&]<typename T>() { quotient = ConvertTo<double>(ConvertTo<T>(quotient)); });
    const double zero = op.has_input(2) ? op.input(2).At(s) : 0;
    if (y.is_float())
      y.f64()[flat] = CastToSmall(quotient + zero, y.dtype, cast);
    else
      y.i64()[flat] = Saturate(RoundHalfEven(quotient) + zero, y.dtype);
  });
  return {};
}

Status InferDequantize(InferContext& op) {
  MINIM_TRY(CheckScale(op));
  if (op.has_input(2)) MINIM_TRY(op.SameDType(0, 2));
  MINIM_TRY(const DType dtype, FloatAttribute(op, "output_dtype", op.dtype(1)));
  if (!op.input(0).ranked()) return op.SetUnknown(0, dtype);
  return op.SetOutput(0, dtype, *op.input(0).shape);
}

Status DequantizeReference(RefContext& op) {
  RefTensor& y = op.Output(0);
  const Scales scales = ScalesOf(op.attributes(), op.dims(0), op.dims(1));
  ForEachIndex(y.dims(), [&](int64_t flat, const Dims& at) {
    const int64_t s = scales.At(at);
    const double zero = op.has_input(2) ? op.input(2).At(s) : 0;
    y.f64()[flat] = (op.input(0).At(flat) - zero) * op.input(1).At(s);
  });
  return {};
}

Status InferDynamic(InferContext& op) {
  MINIM_TRY(op.SetOutput(0, {DType::u8, op.input(0).shape}));
  MINIM_TRY(op.SetOutput(1, DType::f32, Shape()));
  return op.SetOutput(2, DType::u8, Shape());
}

Status DynamicReference(RefContext& op) {
  const DynamicScale dynamic = DynamicScaleOf(op.input(0).f64());
  RefTensor& y = op.Output(0);
  for (int64_t i = 0; i < y.size(); ++i) y.i64()[i] = dynamic.Quantize(op.input(0).f64()[i]);
  op.Output(1).f64()[0] = dynamic.scale;
  op.Output(2).i64()[0] = dynamic.zero;
  return {};
}

}  // namespace

// In f32, as the ONNX function body computes it.
DynamicScale DynamicScaleOf(std::span<const double> x) {
  float low = 0, high = 0;
  for (double value : x) {
    low = std::min(low, static_cast<float>(value));
    high = std::max(high, static_cast<float>(value));
  }
  DynamicScale dynamic;
  dynamic.scale = (high - low) / 255.0f;
  if (dynamic.scale == 0) return {.scale = 1, .zero = 0};  // all zeros: any scale serves
  dynamic.zero = Saturate(RoundHalfEven(-low / dynamic.scale), DType::u8);
  return dynamic;
}

int64_t DynamicScale::Quantize(double x) const {
  const double quotient = static_cast<float>(x) / scale;
  return Saturate(RoundHalfEven(quotient) + static_cast<double>(zero), DType::u8);
}

namespace {

// Both directions, every granularity and every small type that they take.
std::string SmallSamples(std::string_view op, std::string_view plain) {
  std::string text;
  for (DType small : kQuantized) {
    if (!IsSmall(small)) continue;
    const std::string_view x = plain.empty() ? Name(small) : plain, z = Name(small);
    const std::string_view to = plain.empty() ? "f16" : Name(small);
    text += fmt::format("{}(x: {}[2,9], s: f32 = [0.3], z: {} = [1])\n", op, x, z);
    text +=
        fmt::format("{}(x: {}[2,3,2], s: f32[3] = [0.1,0.2,0.5], z: {}[3] = [0,1,0])\n", op, x, z);
    text += fmt::format(
        "{}(x: {}[2,5], s: f32[2,3] = uniform(0.1,0.2), z: {}[2,3]) "
        "{{axis=-1, block_size=2}}\n",
        op, x, z);
    text += fmt::format("{}(x: {}[3], s: f16 = [0.3]) {{output_dtype={}}}\n", op, x, to);
  }
  return text;
}

}  // namespace

std::vector<OpDef> QuantizeOps() {
  return {
      {.name = "QuantizeLinear",
       .onnx_since = {10, 13, 19, 21, 23},
       .min_inputs = 2,
       .max_inputs = 3,
       .dtypes = {DType::f64, DType::f32, DType::f16, DType::bf16, DType::i32},
       .infer = InferQuantize,
       .reference = QuantizeReference,
       .precision = PrecisionClass::kFp32,
       .samples =
           "QuantizeLinear(x: f32[2,9], s: f32 = [0.01], z: u8 = [120])\n"
           "QuantizeLinear(x: f32[2,3,2], s: f32[3] = [0.01,0.02,0.5], z: i8[3] = [0,1,-3]) "
           "{axis=1}\n"
           "QuantizeLinear(x: f32[2,5], s: f32[2,3] = uniform(0.1,0.2), z: i16[2,3]) {axis=-1, "
           "block_size=2}\n"
           "QuantizeLinear(x: f32[0], s: f32 = [0.01])\nQuantizeLinear(x: f32[3], s: f32 = [0.01]) "
           "{output_dtype=i8}\n"
           "QuantizeLinear(x: f16[3], s: f16 = [0.01], z: u16 = [9]) {saturate=1, precision=f32}\n"
           "QuantizeLinear(x: i32[3], s: f32 = [2], z: i8 = [1])\n"
           "QuantizeLinear(x: f32[3] = [1e4,-1e9,2], s: f32 = [1], z: f8e5m2 = [0]) {saturate=0}\n"
           "QuantizeLinear(x: f32[3], s: f8e8m0 = [0.25], z: f4e2m1 = [0])\n" +
           SmallSamples("QuantizeLinear", "f32")},
      {.name = "DequantizeLinear",
       .onnx_since = {10, 13, 19, 21, 23},
       .min_inputs = 2,
       .max_inputs = 3,
       .dtypes = kQuantized,
       .infer = InferDequantize,
       .reference = DequantizeReference,
       .precision = PrecisionClass::kFp32,
       .samples = "DequantizeLinear(x: u8[2,9], s: f32 = [0.01], z: u8 = [120])\n"
                  "DequantizeLinear(x: i8[2,3,2], s: f32[3] = [0.01,0.02,0.5], z: i8[3] = "
                  "[0,1,-3]) {axis=1}\n"
                  "DequantizeLinear(x: i16[2,5], s: f16[2,3], z: i16[2,3]) {axis=1, block_size=2}\n"
                  "DequantizeLinear(x: i32[0], s: f32 = [0.01])\nDequantizeLinear(x: u16[3], s: "
                  "f32[1] = [0.5])\n"
                  "DequantizeLinear(x: i8[3], s: f32 = [0.5]) {output_dtype=f16}\n"
                  "DequantizeLinear(x: f4e2m1[3], s: f8e8m0 = [0.25]) {output_dtype=f32}\n" +
                  SmallSamples("DequantizeLinear", "")},
      {.name = "DynamicQuantizeLinear",
       .onnx_since = {11},
       .dtypes = {DType::f32},
       .infer = InferDynamic,
       .reference = DynamicReference,
       .precision = PrecisionClass::kFp32,
       .samples = "y, s, z = DynamicQuantizeLinear(x: f32[2,9])\n"
                  "y, s, z = DynamicQuantizeLinear(x: f32[3] = [0,0,0])\n"
                  "y, s, z = DynamicQuantizeLinear(x: f32[0])\n"},
  };
}

}  // namespace minim::ops
