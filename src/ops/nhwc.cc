// com.microsoft's QLinearConv and NhwcMaxPool, which ONNX Runtime's layout optimizer writes, and
// what our own pass writes: ONNX's ops between transpositions.
#include "ops/channels_last.h"

namespace minim::ops {
namespace {

// The type that `name` gives for these inputs, input 0 with its channels last if `last`.
Status InferTurned(InferContext& op, std::string_view name, std::vector<TensorType> inputs,
                   bool last) {
  TensorType& x = inputs[0];
  if (!x.ranked()) return op.SetUnknown(0, op.dtype(0));
  const int rank = x.rank();
  if (rank < 3) return op.Error("input has shape {}, expected rank 3 or more", ToString(*x.shape));
  if (last) {
    MINIM_TRY(x, TypeOf("Transpose", {x}, {{"perm", ChannelsFirst(rank)}}));
  }
  MINIM_TRY(TensorType y, TypeOf(name, inputs, WithoutLayout(op.attributes())));
  if (last) {
    MINIM_TRY(y, TypeOf("Transpose", {y}, {{"perm", ChannelsLast(rank)}}));
  }
  return op.SetOutput(0, std::move(y));
}

Status ExpandTurned(ExpandContext& e, std::string_view name, bool last) {
  std::vector<ValueId> inputs = e.node().inputs;
  if (!e.type(inputs[0]).ranked())
    return Unsupported("{} '{}': needs an input of known rank", e.node().op, e.node().name);
  const int rank = e.rank(inputs[0]);
  if (last) inputs[0] = e.Transpose(inputs[0], ChannelsFirst(rank));
  const ValueId y = e.Emit(name, std::move(inputs), WithoutLayout(e.attributes()));
  e.SetOutput(0, last ? e.Transpose(y, ChannelsLast(rank)) : y);
  return {};
}

Status InferConv(InferContext& op, bool last) {
  std::vector<TensorType> types;
  for (int i = 0; i < op.input_count(); ++i) {
    if (!op.has_input(i) && i < 8) return op.Error("input {} is missing", i);
    if (op.has_input(i)) types.push_back(op.input(i));
  }
  return InferTurned(op, "QLinearConv", std::move(types), last);
}

OpDef Define(std::string name, std::string_view domain, int min_inputs, int max_inputs,
             std::function<Status(InferContext&)> infer,
             std::function<Status(ExpandContext&)> expand, std::string samples) {
  return {.name = std::move(name),
          .domain = std::string(domain),
          .onnx_since = {1},
          .min_inputs = min_inputs,
          .max_inputs = max_inputs,
          .dtypes = {DType::u8, DType::i8},
          .infer = std::move(infer),
          .expand = std::move(expand),
          .precision = PrecisionClass::kInteger,
          .samples = std::move(samples)};
}

}  // namespace

std::vector<OpDef> NhwcOps() {
  return {
      Define(
          "QLinearConv", kMicrosoftDomain, 8, 9,
          [](InferContext& op) { return InferConv(op, IsChannelsLast(op.attributes())); },
          [](ExpandContext& e) {
            return ExpandTurned(e, "QLinearConv", IsChannelsLast(e.attributes()));
          },
          "QLinearConv(x: u8[1,4,5,2], xs: f32 = [0.1], xz: u8 = [3], w: i8[3,2,2,2], ws: f32[3] = "
          "[0.2,0.1,0.3], wz: i8[3] = [0,0,0], ys: f32 = [0.5], yz: u8 = [20], b: i32[3]) "
          "{pads=[1,0,0,1], channels_last=1}\n"
          "QLinearConv(x: i8[1,2,5], xs: f32 = [0.1], xz: i8 = [3], w: i8[3,2,2], ws: f32 = [0.2], "
          "wz: i8 = [0], ys: f32 = [0.5], yz: i8 = [20])\n"),
      Define(
          "NhwcQLinearConv", kMinimDomain, 8, 9,
          [](InferContext& op) { return InferConv(op, true); },
          [](ExpandContext& e) { return ExpandTurned(e, "QLinearConv", true); },
          "NhwcQLinearConv(x: u8[1,4,5,4], xs: f32 = [0.1], xz: u8 = [3], w: i8[3,4,2,2] = const, "
          "ws: "
          "f32[3] = [0.2,0.1,0.3], wz: i8[3] = [0,0,0], ys: f32 = [0.47], yz: u8 = [20], b: "
          "i32[3]) {pads=[1,0,0,1]}\n"
          "NhwcQLinearConv(x: u8[2,5,4,3], xs: f32 = [0.1], xz: u8 = [130], w: i8[5,3,2,2] = "
          "const, ws: "
          "f32 = [0.2], wz: i8 = [0], ys: f32 = [0.5], yz: i8 = [-7]) {strides=[1,2], "
          "dilations=[2,2]}\n"),
      Define(
          "NhwcMaxPool", kMicrosoftDomain, 1, 1,
          [](InferContext& op) { return InferTurned(op, "MaxPool", {op.input(0)}, true); },
          [](ExpandContext& e) { return ExpandTurned(e, "MaxPool", true); },
          "NhwcMaxPool(x: u8[1,4,5,2]) {kernel_shape=[2,3], strides=[2,1], pads=[0,1,0,1]}\n"
          "NhwcMaxPool(x: i8[1,5,2]) {kernel_shape=[2]}\n"),
  };
}

}  // namespace minim::ops
