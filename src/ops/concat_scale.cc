// minim's ConcatScale: what networks that activate before they convolve do to a growing list of
// images, in one pass.
#include "ops/builder.h"
#include "ops/infer.h"

namespace minim::ops {
namespace {

constexpr int kImages = 2;  // the first one's place among the inputs

Status CheckSteps(const InferContext& op) {
  const int images = op.input_count() - kImages;
  const std::vector<int64_t> zeros = op.attributes().Ints("x_zero_points");
  const std::vector<float> scales = op.attributes().Floats("x_scales");
  for (int i = 0; i < images; ++i) {
    if (op.dtype(i + kImages) != DType::u8) continue;
    if (static_cast<int>(scales.size()) != images || static_cast<int>(zeros.size()) != images)
      return op.Error("{} x_scales and {} x_zero_points for {} images", scales.size(), zeros.size(),
                      images);
    if (zeros[i] < 0 || zeros[i] > 255) return op.Error("image {}: zero point {}", i, zeros[i]);
  }
  const int64_t zero = op.attributes().Int("y_zero_point", 0);
  return zero < 0 || zero > 255 ? op.Error("y_zero_point {}", zero) : Status();
}

Status CheckDTypes(const InferContext& op, DType result) {
  for (int i = 0; i < kImages; ++i)
    if (op.dtype(i) != DType::f32)
      return op.Error("input {} is {}, expected f32", i, Name(op.dtype(i)));
  const bool narrow = op.dtype(kImages) == DType::bf16;
  for (int i = kImages; i < op.input_count(); ++i) {
    const DType dtype = op.dtype(i);
    const bool fits = narrow ? dtype == DType::bf16 && result == DType::bf16
                             : dtype == DType::f32 || dtype == DType::u8;
    if (!fits)
      return op.Error("image {} is {}, image 0 {}, the result {}", i - kImages, Name(dtype),
                      Name(op.dtype(kImages)), Name(result));
  }
  return {};
}

Status Infer(InferContext& op) {
  const TensorType& first = op.input(kImages);
  DType dtype = first.dtype == DType::u8 ? DType::f32 : first.dtype;
  if (op.attributes().Has("y_scale")) dtype = DType::u8;
  MINIM_TRY(CheckDTypes(op, dtype));
  if (!first.ranked()) return op.SetUnknown(0, dtype);
  const int rank = first.rank();
  if (rank < 1) return op.Error("image 0 is a scalar");
  Shape shape = *first.shape;
  int64_t channels = 0;
  for (int i = kImages; i < op.input_count(); ++i) {
    MINIM_TRY(op.HasRank(i, rank));
    if (!op.input(i).ranked()) return op.SetUnknown(0, dtype);
    const Shape& dims = *op.input(i).shape;
    for (int k = 0; k + 1 < rank; ++k)
      if (dims[k].known() && shape[k].known() && dims[k].value() != shape[k].value())
        return op.Error("images of {} and {}", ToString(*first.shape), ToString(dims));
    if (!dims[rank - 1].known()) return op.SetUnknown(0, dtype);
    channels += dims[rank - 1].value();
  }
  MINIM_TRY(CheckSteps(op));
  shape[rank - 1] = Dim(channels);
  MINIM_TRY(op.HasShape(0, {Dim(channels)}));
  MINIM_TRY(op.HasShape(1, {Dim(channels)}));
  return op.SetOutput(0, dtype, std::move(shape));
}

ValueId ZeroPoint(ExpandContext& e, int64_t zero) {
  return e.Scalar(static_cast<double>(zero), DType::u8);
}

Status Expand(ExpandContext& e) {
  const Attributes& attributes = e.attributes();
  std::vector<ValueId> images(e.node().inputs.begin() + kImages, e.node().inputs.end());
  const bool narrow = e.dtype(images[0]) == DType::bf16;
  for (size_t i = 0; i < images.size(); ++i) {
    if (e.dtype(images[i]) != DType::u8) continue;
    const ValueId scale = e.Scalar(attributes.Floats("x_scales")[i], DType::f32),
                  zero = ZeroPoint(e, attributes.Ints("x_zero_points")[i]);
    images[i] = e.Emit("DequantizeLinear", {images[i], scale, zero});
  }
  ValueId y = e.Emit("Concat", std::move(images), {{"axis", int64_t{-1}}});
  if (narrow) y = e.Cast(y, DType::f32);
  y = e.Add(e.Mul(y, e.input(0)), e.input(1));
  if (attributes.String("activation", "") == "Relu") y = e.Emit("Relu", {y});
  if (attributes.Has("y_scale")) {
    const ValueId scale = e.Scalar(attributes.Float("y_scale", 1), DType::f32),
                  zero = ZeroPoint(e, attributes.Int("y_zero_point", 0));
    y = e.Emit("QuantizeLinear", {y, scale, zero});
  }
  e.SetOutput(0, narrow ? e.Cast(y, DType::bf16) : y);
  return {};
}

}  // namespace

/// Images X[i] of shape [..., C_i], the C_i adding up to C; scale and shift f32 [C]. The result, of
/// shape [..., C], is activation(scale * concat(X, axis=-1) + shift), computed in FP32 and rounded
/// once; `activation` is Relu or nothing. Images are BF16, as the result then is, or each FP32 or
/// U8, which its x_scales and x_zero_points dequantize; with a y_scale the result is quantized to
/// U8 by it and y_zero_point.
OpDef ConcatScale() {
  return {.name = "ConcatScale",
          .domain = std::string(kMinimDomain),
          .min_inputs = 3,
          .max_inputs = -1,
          .dtypes = {DType::f32},
          .infer = Infer,
          .expand = Expand,
          .samples =
              "ConcatScale(s: f32[21], b: f32[21], x: f32[2,3,16], y: f32[2,3,5]) "
              "{activation=\"Relu\"}\n"
              "ConcatScale(s: f32[40], b: f32[40], x: f32[1,2,3,40])\n"
              "ConcatScale(s: f32[35], b: f32[35], x: bf16[5,1], y: bf16[5,32], z: bf16[5,2]) "
              "{activation=\"Relu\"}\n"
              "ConcatScale(s: f32[21], b: f32[21], x: u8[2,3,16], y: f32[2,3,5]) "
              "{x_scales=[0.03,1.0], x_zero_points=[100,0]}\n"
              "ConcatScale(s: f32[38], b: f32[38], x: f32[3,16], y: u8[3,19], z: u8[3,3]) "
              "{x_scales=[1.0,0.02,0.01], x_zero_points=[0,3,130], y_scale=0.043, "
              "y_zero_point=20, activation=\"Relu\"}\n"
              "ConcatScale(s: f32[2], b: f32[2], x: f32[5,2]) {y_scale=1e-22}\n"};
}

}  // namespace minim::ops
