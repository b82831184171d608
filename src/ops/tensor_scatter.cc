// TensorScatter: writes an update into a cache, at a place of its own for each batch entry. It is
// a ScatterElements whose indices count up from that place.
#include "ops/movement.h"

namespace minim::ops {
namespace {

Status Infer(InferContext& op) {
  const TensorType &cache = op.input(0), &update = op.input(1);
  MINIM_TRY(op.SameDType(0, 1));
  const std::string mode = op.attributes().String("mode", "linear");
  if (mode != "linear" && mode != "circular") return op.Error("mode '{}' is unknown", mode);
  if (op.has_input(2)) MINIM_TRY(op.HasRank(2, 1));
  if (!cache.ranked()) return op.SetOutput(0, cache);
  MINIM_TRY(const int axis, op.Axis(op.attributes().Int("axis", -2), cache.rank()));
  if (axis == 0) return op.Error("axis is 0, that of the batch");
  MINIM_TRY(op.HasRank(1, cache.rank()));
  for (int i = 0; update.ranked() && i < cache.rank(); ++i) {
    const Dim &have = (*cache.shape)[i], &want = (*update.shape)[i];
    const bool fits = i == axis ? !have.known() || !want.known() || want.value() <= have.value()
                                : have.Compatible(want);
    if (!fits)
      return op.Error("the update has shape {}, the cache {}", ToString(*update.shape),
                      ToString(*cache.shape));
  }
  return op.SetOutput(0, cache);
}

Status Expand(ExpandContext& e) {
  if (!e.type(e.input(0)).Static() || !e.type(e.input(1)).Static())
    return Unsupported("TensorScatter '{}': needs static shapes", e.node().name);
  const Dims cache = e.type(e.input(0)).dims(), update = e.type(e.input(1)).dims();
  const int axis = Positive(e.attributes().Int("axis", -2), cache.rank());
  Dims along = Dims::Filled(cache.rank(), 1), batch = along;
  along[axis] = update[axis];
  batch[0] = cache[0];
  Tensor steps(DType::i64, along);
  for (int64_t i = 0; i < update[axis]; ++i) steps.as<int64_t>()[i] = i;
  ValueId places = e.Constant(std::move(steps));
  if (e.has_input(2)) places = e.Add(places, e.Reshape(e.input(2), batch));
  if (e.attributes().String("mode", "linear") == "circular")
    places = e.Emit("Mod", {places, e.Scalar(static_cast<double>(cache[axis]), DType::i64)});
  places = e.Emit("Expand", {places, e.Ints({update.begin(), update.end()})});
  e.SetOutput(
      0, e.Emit("ScatterElements", {e.input(0), places, e.input(1)}, {{"axis", int64_t{axis}}}));
  return {};
}

}  // namespace

OpDef TensorScatter() {
  return {.name = "TensorScatter",
          .onnx_since = {24},
          .min_inputs = 2,
          .max_inputs = 3,
          .infer = Infer,
          .expand = Expand,
          .samples =
              "TensorScatter(c: f32[2,3,5,4], u: f32[2,3,2,4], i: i64[2] = [1,3])\n"
              "TensorScatter(c: i8[3,4], u: i8[3,2], i: i64[3] = [3,9,0]) {mode=\"circular\", "
              "axis=1}\n"
              "TensorScatter(c: f16[2,5,4], u: f16[2,5,4])\n"};
}

}  // namespace minim::ops
