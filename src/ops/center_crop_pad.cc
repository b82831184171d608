// CenterCropPad: one Pad whose negative pads crop.
#include "ops/movement.h"

namespace minim::ops {
namespace {

std::vector<int64_t> AxesOf(const Attributes& a, int rank) {
  std::vector<int64_t> axes = a.Ints("axes");
  for (int i = 0; !a.Has("axes") && i < rank; ++i) axes.push_back(i);
  return axes;
}

Status Infer(InferContext& op) {
  const TensorType& x = op.input(0);
  const auto sizes = op.IntsInput(1);
  if (!x.ranked()) return op.SetUnknown(0, x.dtype);
  MINIM_TRY(const std::vector<int> axes, Axes(op, AxesOf(op.attributes(), x.rank()), x.rank()));
  Shape shape = *x.shape;
  if (sizes && sizes->size() != axes.size())
    return op.Error("{} sizes for {} axes", sizes->size(), axes.size());
  for (size_t i = 0; i < axes.size(); ++i) {
    if (sizes && ((*sizes)[i] < 0 || (*sizes)[i] > INT32_MAX))
      return op.Error("the shape holds {}, expected 0 or more", (*sizes)[i]);
    shape[axes[i]] = sizes ? Dim((*sizes)[i]) : Dim();
  }
  return op.SetOutput(0, x.dtype, std::move(shape));
}

Status Expand(ExpandContext& e) {
  const Tensor* shape = e.graph().constant(e.input(1));
  if (shape == nullptr || !e.type(e.input(0)).Static())
    return Unsupported("CenterCropPad '{}': needs static shapes", e.node().name);
  const Tensor sizes = Converted(shape->view(), DType::i64);
  const Dims x = e.type(e.input(0)).dims();
  const std::vector<int64_t> axes = AxesOf(e.attributes(), x.rank());
  std::vector<int64_t> pads(2 * x.rank());
  for (size_t i = 0; i < axes.size(); ++i) {
    const int axis = Positive(axes[i], x.rank());
    const int64_t more = sizes.as<int64_t>()[i] - x[axis];
    pads[axis] = more / 2;  // an odd element is added or cut at the end
    pads[x.rank() + axis] = more - more / 2;
  }
  e.SetOutput(0, e.Emit("Pad", {e.input(0), e.Ints(pads)}));
  return {};
}

}  // namespace

OpDef CenterCropPad() {
  return {.name = "CenterCropPad",
          .onnx_since = {18},
          .min_inputs = 2,
          .max_inputs = 2,
          .infer = Infer,
          .expand = Expand,
          .samples =
              "CenterCropPad(x: f32[5,4,3], s: i64[3] = [2,7,3])\n"
              "CenterCropPad(x: i8[5,4,3], s: i32[2] = [6,1]) {axes=[-1,0]}\n"
              "CenterCropPad(x: f16[2], s: i64[1] = [5])\n"};
}

}  // namespace minim::ops
