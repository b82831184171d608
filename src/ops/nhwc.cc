// com.microsoft's QLinearConv, NhwcMaxPool and NhwcFusedConv, which ONNX Runtime's layout optimizer
// writes, and what our own pass writes: ONNX's ops between transpositions.
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

constexpr int kConvInputs = 9;  // of QLinearConv

Status InferConv(InferContext& op, bool last) {
  std::vector<TensorType> types;
  for (int i = 0; i < std::min(op.input_count(), kConvInputs); ++i) {
    if (!op.has_input(i) && i < 8) return op.Error("input {} is missing", i);
    if (op.has_input(i)) types.push_back(op.input(i));
  }
  return InferTurned(op, "QLinearConv", std::move(types), last);
}

// QLinearConv's inputs; then Z, an image of the result's dims, with its scale and zero point, and
// the scale and zero point of the sum.
Status InferNhwcQLinearConv(InferContext& op) {
  MINIM_TRY(InferConv(op, true));
  if (!op.has_input(kConvInputs)) return {};
  for (int i = kConvInputs + 1; i < kConvInputs + 5; ++i)
    if (!op.has_input(i)) return op.Error("input {} is missing", i);
  TensorType y = op.outputs()[0];
  if (op.input(kConvInputs).Static() && y.Static() && op.input(kConvInputs).dims() != y.dims())
    return op.Error("cannot add {} to {}", ToString(*op.input(kConvInputs).shape),
                    ToString(*y.shape));
  y.dtype = op.dtype(kConvInputs + 4);
  return op.SetOutput(0, std::move(y));
}

Status ExpandNhwcQLinearConv(ExpandContext& e) {
  if (!e.has_input(kConvInputs)) return ExpandTurned(e, "QLinearConv", true);
  std::vector<ValueId> inputs = e.node().inputs;
  if (!e.type(inputs[0]).ranked())
    return Unsupported("NhwcQLinearConv '{}': needs an input of known rank", e.node().name);
  const int rank = e.rank(inputs[0]);
  const std::vector<ValueId> z(inputs.begin() + kConvInputs, inputs.end());
  inputs.resize(kConvInputs);
  const ValueId y_scale = inputs[6], y_zero = inputs[7];
  inputs[0] = e.Transpose(inputs[0], ChannelsFirst(rank));
  Attributes attributes = e.attributes();
  attributes.Erase("activation");
  const ValueId y = e.Transpose(e.Emit("QLinearConv", std::move(inputs), std::move(attributes)),
                                ChannelsLast(rank));
  ValueId sum = e.Add(e.Emit("DequantizeLinear", {y, y_scale, y_zero}),
                      e.Emit("DequantizeLinear", {z[0], z[1], z[2]}));
  if (e.attributes().String("activation", "") == "Relu") sum = e.Emit("Relu", {sum});
  e.SetOutput(0, e.Emit("QuantizeLinear", {sum, z[3], z[4]}));
  return {};
}

// X, W, B, Z: FusedConv with the channels of X, Z and the result last, and of W first.
Status InferFusedConv(InferContext& op) {
  std::vector<TensorType> types = {op.input(0), op.input(1)};
  if (op.has_input(2)) types.push_back(op.input(2));
  MINIM_TRY(InferTurned(op, "Conv", std::move(types), true));
  const TensorType& y = op.outputs()[0];
  if (!op.has_input(3) || !op.input(3).Static() || !y.Static() || op.input(3).dims() == y.dims())
    return {};
  return op.Error("cannot add {} to {}", ToString(*op.input(3).shape), ToString(*y.shape));
}

Status ExpandFusedConv(ExpandContext& e) {
  std::vector<ValueId> inputs = e.node().inputs;
  if (!e.type(inputs[0]).ranked())
    return Unsupported("NhwcFusedConv '{}': needs an input of known rank", e.node().name);
  const int rank = e.rank(inputs[0]);
  inputs[0] = e.Transpose(inputs[0], ChannelsFirst(rank));
  if (e.has_input(3)) inputs[3] = e.Transpose(inputs[3], ChannelsFirst(rank));
  const ValueId y = e.Emit("FusedConv", std::move(inputs), e.attributes(), kMicrosoftDomain);
  e.SetOutput(0, e.Transpose(y, ChannelsLast(rank)));
  return {};
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

// ONNX's pool `of` images with their channels last.
OpDef DefinePool(std::string name, std::string_view domain, std::string of, std::string samples) {
  return Define(
      std::move(name), domain, 1, 1,
      [of](InferContext& op) { return InferTurned(op, of, {op.input(0)}, true); },
      [of](ExpandContext& e) { return ExpandTurned(e, of, true); }, std::move(samples));
}

OpDef MaxPool() {
  OpDef pool = DefinePool(
      "NhwcMaxPool", kMicrosoftDomain, "MaxPool",
      "NhwcMaxPool(x: u8[1,4,5,2]) {kernel_shape=[2,3], strides=[2,1], pads=[0,1,0,1]}\n"
      "NhwcMaxPool(x: i8[1,5,2]) {kernel_shape=[2]}\n"
      "NhwcMaxPool(x: f32[1,5,4,3]) {kernel_shape=[4,3], strides=[2,2], pads=[1,1,1,1]}\n"
      "NhwcMaxPool(x: bf16[1,5,4,3]) {kernel_shape=[2,2]}\n");
  pool.dtypes = {DType::u8, DType::i8, DType::f32, DType::bf16};
  return pool;
}

OpDef AveragePool() {
  OpDef pool = DefinePool(
      "NhwcAveragePool", kMinimDomain, "AveragePool",
      "NhwcAveragePool(x: f32[2,5,6,3]) {kernel_shape=[3,2], strides=[2,2], pads=[1,0,1,1]}\n"
      "NhwcAveragePool(x: f32[1,7,20]) {kernel_shape=[3], strides=[3], pads=[1,1], ceil_mode=1, "
      "count_include_pad=1}\n"
      "NhwcAveragePool(x: bf16[1,5,5,35]) {kernel_shape=[2,2], dilations=[1,2], "
      "auto_pad=\"SAME_LOWER\"}\n"
      "NhwcAveragePool(x: bf16[1,2,4,4,16]) {kernel_shape=[2,2,2], strides=[1,2,2]}\n");
  pool.dtypes = {DType::f32, DType::bf16};
  pool.precision = PrecisionClass::kWidest;
  return pool;
}

}  // namespace

std::vector<OpDef> NhwcOps() {
  OpDef conv = Define(
      "NhwcFusedConv", kMicrosoftDomain, 2, 4, InferFusedConv, ExpandFusedConv,
      "NhwcFusedConv(x: f32[2,4,5,3], w: f32[5,3,2,2] = const, b: f32[5], z: f32[2,4,5,5]) "
      "{pads=[1,0,0,1], activation=\"Relu\"}\n"
      "NhwcFusedConv(x: f32[1,9,13,8], w: f32[70,8,3,3] = const, b: f32[70]) {pads=[1,1,1,1], "
      "activation=\"Clip\", activation_params=[-1.0,1.0]}\n"
      "NhwcFusedConv(x: f32[1,5,7], w: f32[2,7,3], _, z: f32[1,3,2]) {activation=\"Tanh\"}\n"
      "NhwcFusedConv(x: f16[1,4,3,2], w: f16[4,2,2,2], b: f16[4])\n"
      "NhwcFusedConv(x: bf16[1,4,3,2], w: bf16[4,2,2,2] = const, b: bf16[4])\n"
      "NhwcFusedConv(x: f32[2,5,7,70], w: f32[70,1,3,3] = const, b: f32[70], z: f32[2,3,4,70]) "
      "{group=70, strides=[2,2], pads=[1,1,1,1], activation=\"Relu\"}\n"
      "NhwcFusedConv(x: bf16[1,5,4,9], w: bf16[9,1,2,5] = const) {group=9, pads=[1,2,0,2], "
      "dilations=[2,1], activation=\"Clip\", activation_params=[-1.0,0.5]}\n");
  conv.dtypes = {DType::f32, DType::f16, DType::bf16};
  conv.precision = PrecisionClass::kLower;
  return {
      std::move(conv),
      MaxPool(),
      AveragePool(),
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
          "NhwcQLinearConv", kMinimDomain, 8, kConvInputs + 5, InferNhwcQLinearConv,
          ExpandNhwcQLinearConv,
          "NhwcQLinearConv(x: u8[1,4,5,4], xs: f32 = [0.1], xz: u8 = [3], w: i8[3,4,2,2] = const, "
          "ws: "
          "f32[3] = [0.2,0.1,0.3], wz: i8[3] = [0,0,0], ys: f32 = [0.47], yz: u8 = [20], b: "
          "i32[3]) {pads=[1,0,0,1]}\n"
          "NhwcQLinearConv(x: u8[2,5,4,3], xs: f32 = [0.1], xz: u8 = [130], w: i8[5,3,2,2] = "
          "const, ws: "
          "f32 = [0.2], wz: i8 = [0], ys: f32 = [0.5], yz: i8 = [-7]) {strides=[1,2], "
          "dilations=[2,2]}\n"
          "NhwcQLinearConv(x: u8[1,4,5,4], xs: f32 = [0.1], xz: u8 = [3], w: i8[3,4,2,2] = const, "
          "ws: f32 = [0.02], wz: i8 = [0], ys: f32 = [0.47], yz: u8 = [20], _, z: u8[1,3,4,3], zs: "
          "f32 = [0.3], zz: u8 = [100], ss: f32 = [0.6], sz: u8 = [10]) {activation=\"Relu\"}\n"),
  };
}

}  // namespace minim::ops
