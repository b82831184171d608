// StraightThrough: the value of its first input with the gradient of its second. Training puts it
// behind a rounding, whose own gradient is zero (Bengio et al., "Estimating or Propagating
// Gradients Through Stochastic Neurons", 2013).
#include "ops/builder.h"
#include "ops/infer.h"

namespace minim::ops {
namespace {

Status Infer(InferContext& op) {
  MINIM_TRY(op.SameDType(0, 1));
  if (op.input(0).Static() && op.input(1).Static() && op.input(0).dims() != op.input(1).dims())
    return op.Error("{} cannot take the gradient of {}", op.input(0).ToString(),
                    op.input(1).ToString());
  return InferSameAsFirst(op);
}

}  // namespace

OpDef StraightThrough() {
  return {.name = "StraightThrough",
          .domain = std::string(kMinimDomain),
          .min_inputs = 2,
          .max_inputs = 2,
          .dtypes = kFloatTypes,
          .infer = Infer,
          .gradient = [](GradContext& g) -> Status {
            g.SetInputGrad(1, g.output_grad(0));
            return {};
          },
          .surrogate_gradient = true,
          .expand = [](ExpandContext& e) -> Status {
            e.SetOutput(0, e.input(0));
            return {};
          },
          .samples =
              "StraightThrough(rounded: f32[2,3], x: f32[2,3])\n"
              "StraightThrough(rounded: f16[0], x: f16[0])\n"};
}

}  // namespace minim::ops
