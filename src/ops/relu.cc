// Relu: everything minim knows about it except its kernels.
#include <cmath>

#include "ops/builder.h"
#include "ops/infer.h"
#include "ops/reference.h"

namespace minim::ops {
namespace {

Status Gradient(GradContext& g) {  // dx = dy where y > 0, else 0
  g.SetInputGrad(0, g.Select(g.Greater(g.output(0), 0.0), g.output_grad(0), 0.0));
  return {};
}

Status Reference(RefContext& op) {  // NaN in, NaN out
  RefTensor& y = op.Output(0);
  VisitWide(y.wide.dtype(), [&]<typename T>() {
    const auto x = op.input(0).wide.as<T>();
    for (int64_t i = 0; i < y.size(); ++i) y.wide.as<T>()[i] = x[i] < T{} ? T{} : x[i];
  });
  return {};
}

}  // namespace

OpDef Relu() {
  return {.name = "Relu",
          .onnx_since = {1, 6, 13, 14},  // import lifts older forms to the last, which stays open
          .dtypes = kSignedTypes,
          .infer = InferSameAsFirst,
          .gradient = Gradient,
          .reference = Reference,
          .traits = OpTrait::kElementwise,
          .samples =
              "Relu(x: f32[0])\n"
              "Relu(x: i8[5])\n"
              "Relu(x: f32[3,257] = away_from(0))"};
}

}  // namespace minim::ops
