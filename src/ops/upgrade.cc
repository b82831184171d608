#include "ops/upgrade.h"

namespace minim::ops {

ValueId EmitBefore(UpgradeContext& u, std::string_view op, std::vector<ValueId> inputs, DType dtype,
                   Attributes attributes) {
  const ValueId y = u.graph.AddValue("", {dtype, std::nullopt});
  u.before.push_back({.op = std::string(op),
                      .name = "",
                      .inputs = std::move(inputs),
                      .outputs = {y},
                      .attributes = std::move(attributes)});
  return y;
}

Status AlignOperand(UpgradeContext& u, int64_t axis) {
  if (u.node.inputs.size() != 2 || u.node.input(0) == kNoValue || u.node.input(1) == kNoValue)
    return InvalidArgument("{} inputs, expected 2", u.node.inputs.size());
  const TensorType a = u.graph.type(u.node.inputs[0]), b = u.graph.type(u.node.inputs[1]);
  if (!a.ranked() || !b.ranked())
    return Unsupported("broadcasts along axis {} of an input whose rank is not known", axis);
  const int64_t rank = b.rank(), first = axis < 0 ? axis + a.rank() : axis;
  if (first < 0 || first > a.rank() - rank)
    return InvalidArgument("cannot place {} at axis {} of {}", ToString(*b.shape), axis,
                           ToString(*a.shape));
  std::vector<int64_t> axes;
  for (int64_t i = rank; first + i < a.rank(); ++i) axes.push_back(i);
  if (axes.empty()) return {};
  const auto count = static_cast<int64_t>(axes.size());
  const ValueId places = u.graph.AddConstant("", Tensor::From<int64_t>({count}, axes));
  u.node.inputs[1] = EmitBefore(u, "Unsqueeze", {u.node.inputs[1], places}, b.dtype);
  return {};
}

Status BroadcastUpgrade(UpgradeContext& u) {
  if (u.from_version >= 7) return {};
  const bool stretched = u.node.attributes.Int("broadcast", 0) != 0;
  const bool placed = u.node.attributes.Has("axis");
  const int64_t axis = u.node.attributes.Int("axis", 0);
  u.node.attributes.Erase("broadcast");
  u.node.attributes.Erase("axis");
  return stretched && placed ? AlignOperand(u, axis) : Status();
}

}  // namespace minim::ops
