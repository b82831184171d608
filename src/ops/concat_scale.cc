// minim's ConcatScale: what networks that activate before they convolve do to a growing list of
// images, in one pass.
#include "ops/builder.h"
#include "ops/infer.h"

namespace minim::ops {
namespace {

constexpr int kImages = 2;  // the first one's place among the inputs

Status Infer(InferContext& op) {
  const TensorType& first = op.input(kImages);
  if (!first.ranked()) return op.SetUnknown(0, first.dtype);
  const int rank = first.rank();
  if (rank < 1) return op.Error("image 0 is a scalar");
  Shape shape = *first.shape;
  int64_t channels = 0;
  for (int i = kImages; i < op.input_count(); ++i) {
    if (!op.has_input(i)) return op.Error("image {} is missing", i - kImages);
    MINIM_TRY(op.SameDType(kImages, i));
    MINIM_TRY(op.HasRank(i, rank));
    if (!op.input(i).ranked()) return op.SetUnknown(0, first.dtype);
    const Shape& dims = *op.input(i).shape;
    for (int k = 0; k + 1 < rank; ++k)
      if (dims[k].known() && shape[k].known() && dims[k].value() != shape[k].value())
        return op.Error("images of {} and {}", ToString(*first.shape), ToString(dims));
    if (!dims[rank - 1].known()) return op.SetUnknown(0, first.dtype);
    channels += dims[rank - 1].value();
  }
  shape[rank - 1] = Dim(channels);
  MINIM_TRY(op.HasShape(0, {Dim(channels)}));
  MINIM_TRY(op.HasShape(1, {Dim(channels)}));
  return op.SetOutput(0, first.dtype, std::move(shape));
}

Status Expand(ExpandContext& e) {
  const std::vector<ValueId> images(e.node().inputs.begin() + kImages, e.node().inputs.end());
  ValueId y = e.Emit("Concat", images, {{"axis", int64_t{-1}}});
  const DType dtype = e.dtype(images[0]);
  if (dtype != DType::f32) y = e.Cast(y, DType::f32);
  y = e.Add(e.Mul(y, e.input(0)), e.input(1));
  if (e.attributes().String("activation", "") == "Relu") y = e.Emit("Relu", {y});
  e.SetOutput(0, dtype == DType::f32 ? y : e.Cast(y, dtype));
  return {};
}

}  // namespace

/// Images X[i] of shape [..., C_i], the C_i adding up to C; scale and shift f32 [C]. The result, of
/// shape [..., C], is activation(scale * concat(X, axis=-1) + shift), summed in FP32 and rounded
/// once; `activation` is Relu or nothing.
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
              "{activation=\"Relu\"}\n"};
}

}  // namespace minim::ops
