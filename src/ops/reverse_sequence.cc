// ReverseSequence: of each batch entry, the first steps in reverse.
#include "ops/movement.h"

namespace minim::ops {
namespace {

int64_t BatchAxis(const Attributes& a) { return a.Int("batch_axis", 1); }
int64_t TimeAxis(const Attributes& a) { return a.Int("time_axis", 0); }

Status Infer(InferContext& op) {
  const int64_t batch = BatchAxis(op.attributes()), time = TimeAxis(op.attributes());
  if (std::min(batch, time) != 0 || std::max(batch, time) != 1)
    return op.Error("batch_axis is {} and time_axis {}, expected 0 and 1 in some order", batch,
                    time);
  const TensorType& x = op.input(0);
  if (x.ranked() && x.rank() < 2)
    return op.Error("input has shape {}, expected rank 2 or more", ToString(*x.shape));
  MINIM_TRY(op.HasRank(1, 1));
  if (x.ranked() && op.input(1).ranked() &&
      !(*op.input(1).shape)[0].Compatible((*x.shape)[static_cast<int>(batch)]))
    return op.Error("{} lengths for shape {}", ToString(*op.input(1).shape), ToString(*x.shape));
  return InferSameAsFirst(op);
}

Status Reference(RefContext& op) {
  const int batch = static_cast<int>(BatchAxis(op.attributes()));
  const int time = static_cast<int>(TimeAxis(op.attributes()));
  const std::vector<int64_t> lengths = op.Ints(1);
  for (int64_t length : lengths)
    if (length < 0 || length > op.dims(0)[time])
      return op.Error("length {} is outside [0, {}]", length, op.dims(0)[time]);
  const Dims strides = RowMajorStrides(op.dims(0));
  CopyElements(op.input(0), op.Output(0), [&](const Dims& at) {
    const int64_t length = lengths[at[batch]], step = at[time];
    const int64_t from = step < length ? length - 1 - step : step;
    return OffsetOf(at, strides) + (from - step) * strides[time];
  });
  return {};
}

Status Gradient(GradContext& g) {  // its own inverse
  g.SetInputGrad(0, g.Emit("ReverseSequence", {g.output_grad(0), g.input(1)}, g.attributes()));
  return {};
}

}  // namespace

OpDef ReverseSequence() {
  return {.name = "ReverseSequence",
          .onnx_since = {10},  // 28 only adds bf16
          .min_inputs = 2,
          .max_inputs = 2,
          .infer = Infer,
          .gradient = Gradient,
          .reference = Reference,
          .samples =
              "ReverseSequence(x: f32[4,3], l: i64[3] = [0,4,2])\n"
              "ReverseSequence(x: i8[2,4,2], l: i64[2] = [3,1]) {batch_axis=0, "
              "time_axis=1}\n"};
}

}  // namespace minim::ops
