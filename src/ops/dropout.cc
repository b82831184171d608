// Dropout. Its mask is a pure function of (seed, step, element index), so a recomputed forward
// pass and the gradient see the same mask.
#include "core/philox.h"
#include "ops/builder.h"
#include "ops/infer.h"
#include "ops/reference.h"

namespace minim::ops {
namespace {

constexpr double kDefaultRatio = 0.5;

Status Infer(InferContext& op) {
  MINIM_TRY(InferSameAsFirst(op));
  return op.SetOutput(1, {DType::bool_, op.input(0).shape});
}

// Input 3, minim's own, is the step: another value draws another mask from the same seed.
Status Reference(RefContext& op) {
  const double ratio = op.has_input(1) ? op.input(1).At(0) : kDefaultRatio;
  const bool training = op.has_input(2) && op.input(2).b()[0] && ratio > 0;
  if (ratio < 0 || ratio >= 1) return op.Error("ratio is {}, expected [0, 1)", ratio);
  const auto step = static_cast<uint64_t>(op.has_input(3) ? op.input(3).IntAt(0) : 0);
  const Philox rng(static_cast<uint64_t>(op.attributes().Int("seed", 0)), step);
  RefTensor& y = op.Output(0);
  std::vector<bool> keep(y.size(), true);
  for (int64_t i = 0; training && i < y.size(); ++i) keep[i] = rng.Uniform(i) >= ratio;
  const double scale = training ? 1 / (1 - ratio) : 1;
  for (int64_t i = 0; i < y.size(); ++i) y.f64()[i] = keep[i] ? op.input(0).f64()[i] * scale : 0;
  if (!op.has_output(1)) return {};
  RefTensor& mask = op.Output(1);
  for (int64_t i = 0; i < mask.size(); ++i) mask.b()[i] = keep[i];
  return {};
}

Status Gradient(GradContext& g) {  // linear in x, with the same mask
  std::vector<ValueId> inputs = g.node().inputs;
  inputs[0] = g.output_grad(0);
  g.SetInputGrad(0, g.Emit("Dropout", inputs, g.attributes()));
  return {};
}

// Before 12 the ratio was an attribute, and before 10 the mask had the dtype of the data. Files of
// those opsets are read for inference, whatever is_test says.
Status Upgrade(UpgradeContext& u) {
  u.node.attributes.Erase("is_test");
  if (u.from_version < 12 && u.node.attributes.Has("ratio")) {
    u.SetInput(1, Tensor::Scalar<float>(u.node.attributes.Float("ratio", kDefaultRatio)));
    u.node.attributes.Erase("ratio");
  }
  const ValueId mask = u.node.output(1);
  if (u.from_version >= 10 || mask == kNoValue) return {};
  u.node.outputs[1] = u.graph.AddValue("", {DType::bool_, std::nullopt});
  const int64_t dtype = OnnxId(u.graph.type(u.node.input(0)).dtype);
  u.after.push_back({.op = "Cast",
                     .name = "",
                     .inputs = {u.node.outputs[1]},
                     .outputs = {mask},
                     .attributes = {{"to", dtype}}});
  return {};
}

}  // namespace

OpDef Dropout() {
  return {.name = "Dropout",
          .onnx_since = {1, 6, 7, 10, 12, 13, 22},
          .max_inputs = 4,
          .dtypes = kFloatTypes,
          .infer = Infer,
          .gradient = Gradient,
          .reference = Reference,
          .upgrade = Upgrade,
          .traits = OpTrait::kRandom,
          .samples =
              "Dropout(x: f32[3,5])\n"
              "y, mask = Dropout(x: f32[7,5], r: f32 = const [0.25], t: bool = const [1]) "
              "{seed=7}\n"
              "y, mask = Dropout(x: f16[9], r: f32 = const [0.25])\n"
              "Dropout(x: bf16[0], _, t: bool = const [1])\n"
              "Dropout(x: f32[9], _, t: bool = const [1], step: i64 = const [3])\n"};
}

}  // namespace minim::ops
