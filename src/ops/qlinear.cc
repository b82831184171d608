// com.microsoft's ops on quantized tensors, as ONNX Runtime's quantizers write them: each is its
// float form between DequantizeLinear and QuantizeLinear.
#include "ops/builder.h"
#include "ops/channels_last.h"
#include "ops/infer.h"
#include "ops/quantize.h"

namespace minim::ops {
namespace {

const DTypeList kBytes = {DType::u8, DType::i8};

// Where an op keeps a tensor, its scale and its zero point.
struct Quantized {
  int value, scale, zero;
};

ValueId Dequantized(ExpandContext& e, const Quantized& at) {
  std::vector<ValueId> inputs = {e.input(at.value), e.input(at.scale)};
  if (e.has_input(at.zero)) inputs.push_back(e.input(at.zero));
  return e.Emit("DequantizeLinear", inputs);
}

// An absent zero point is 0 in the dtype of the data.
void SetQuantized(ExpandContext& e, ValueId y, int scale, int zero, DType dtype) {
  const ValueId place = e.has_input(zero) ? e.input(zero) : e.Scalar(0, dtype);
  e.SetOutput(0, e.Emit("QuantizeLinear", {y, e.input(scale), place}));
}

TensorType AsFloat(const TensorType& type) { return {DType::f32, type.shape}; }

// Optional inputs stand among the required ones.
Status Needs(const InferContext& op, std::initializer_list<int> inputs) {
  for (int i : inputs)
    if (!op.has_input(i)) return op.Error("input {} is missing", i);
  return {};
}

// The shape of a float op, in the dtype of input `like`.
Status InferLike(InferContext& op, int like, std::string_view name,
                 const std::vector<TensorType>& inputs, Attributes attributes = {}) {
  MINIM_TRY(TensorType type, TypeOf(name, inputs, std::move(attributes)));
  type.dtype = op.dtype(like);
  return op.SetOutput(0, std::move(type));
}

OpDef Define(std::string name, int min_inputs, int max_inputs,
             std::function<Status(InferContext&)> infer,
             std::function<Status(ExpandContext&)> expand, std::string samples) {
  return {.name = std::move(name),
          .domain = std::string(kMicrosoftDomain),
          .onnx_since = {1},
          .min_inputs = min_inputs,
          .max_inputs = max_inputs,
          .dtypes = kBytes,
          .infer = std::move(infer),
          .expand = std::move(expand),
          .precision = PrecisionClass::kInteger,
          .samples = std::move(samples)};
}

// ---- A, A_scale, A_zero, B, B_scale, B_zero, C_scale, C_zero

OpDef Pair(const std::string& name, const std::string& plain) {
  return Define(
      name, 2, 8,
      [plain](InferContext& op) -> Status {
        MINIM_TRY(Needs(op, {3, 4, 6}));
        MINIM_TRY(op.SameDType(0, 3));
        return InferLike(op, 0, plain, {AsFloat(op.input(0)), AsFloat(op.input(3))});
      },
      [plain](ExpandContext& e) -> Status {
        const ValueId y = e.Emit(plain, {Dequantized(e, {0, 1, 2}), Dequantized(e, {3, 4, 5})});
        SetQuantized(e, y, 6, 7, e.dtype(e.input(0)));
        return {};
      },
      name +
          "(a: u8[2,3], as: f32 = [0.1], az: u8 = [3], b: u8[3], bs: f32 = [0.2], bz: u8 = [7], "
          "cs: f32 = [0.3], cz: u8 = [9])\n" +
          name +
          "(a: i8[2,3], as: f32 = [0.1], _, b: i8[2,1], bs: f32 = [0.2], _, cs: f32 = [0.3])\n");
}

// ---- X, X_scale, X_zero, Y_scale, Y_zero

using FloatForm = std::function<ValueId(ExpandContext&, ValueId)>;

OpDef Single(const std::string& name, const std::function<Status(InferContext&)>& infer,
             const FloatForm& form, std::string samples) {
  return Define(
      name, 2, 5,
      [infer](InferContext& op) -> Status {
        MINIM_TRY(Needs(op, {3}));
        return infer(op);
      },
      [form](ExpandContext& e) -> Status {
        if (!e.type(e.input(0)).ranked())
          return Unsupported("{} '{}': needs an input of known rank", e.node().op, e.node().name);
        SetQuantized(e, form(e, Dequantized(e, {0, 1, 2})), 3, 4, e.dtype(e.input(0)));
        return {};
      },
      std::move(samples));
}

Status InferPooled(InferContext& op, std::string_view name) {
  TensorType x = AsFloat(op.input(0));
  if (!x.ranked()) return op.SetUnknown(0, op.dtype(0));
  const bool last = IsChannelsLast(op.attributes());
  if (last && x.rank() < 3)
    return op.Error("input has shape {}, expected rank 3 or more", ToString(*x.shape));
  Attributes attributes = WithoutLayout(op.attributes());
  if (last) {
    MINIM_TRY(x, TypeOf("Transpose", {x}, {{"perm", ChannelsFirst(x.rank())}}));
  }
  MINIM_TRY(TensorType y, TypeOf(name, {x}, std::move(attributes)));
  if (last) {
    MINIM_TRY(y, TypeOf("Transpose", {y}, {{"perm", ChannelsLast(x.rank())}}));
  }
  y.dtype = op.dtype(0);
  return op.SetOutput(0, std::move(y));
}

OpDef Pooled(const std::string& name, std::string plain, std::string samples) {
  return Single(
      name, [plain](InferContext& op) { return InferPooled(op, plain); },
      [plain](ExpandContext& e, ValueId x) {
        const bool last = IsChannelsLast(e.attributes());
        const int rank = e.rank(x);
        if (last) x = e.Transpose(x, ChannelsFirst(rank));
        const ValueId y = e.Emit(plain, {x}, WithoutLayout(e.attributes()));
        return last ? e.Transpose(y, ChannelsLast(rank)) : y;
      },
      std::move(samples));
}

// Before opset 13 every axis from `axis` on was one; the op says which rule it follows.
ValueId SoftmaxForm(ExpandContext& e, ValueId x) {
  const Attributes& a = e.attributes();
  const int rank = e.rank(x);
  const int64_t axis = a.Int("axis", -1), place = axis < 0 ? axis + rank : axis;
  if (a.Int("opset", 13) >= 13 || place == rank - 1)
    return e.Emit("Softmax", {x}, {{"axis", axis}});
  const ValueId flat = e.Emit("Flatten", {x}, {{"axis", place}});
  return e.Emit("Reshape", {e.Emit("Softmax", {flat}), e.Emit("Shape", {x})});
}

std::vector<OpDef> Singles() {
  const std::string arguments =
      "(x: u8[2,3], s: f32 = [0.1], z: u8 = [3], ys: f32 = [0.2], yz: u8 = [7])";
  const std::string signed_ones = "(x: i8[2,3], s: f32 = [0.1], _, ys: f32 = [0.2])";
  return {
      Single(
          "QLinearSigmoid", InferSameAsFirst,
          [](ExpandContext& e, ValueId x) { return e.Emit("Sigmoid", {x}); },
          "QLinearSigmoid" + arguments + "\nQLinearSigmoid" + signed_ones + "\n"),
      Single(
          "QLinearLeakyRelu", InferSameAsFirst,
          [](ExpandContext& e, ValueId x) {
            return e.Emit("LeakyRelu", {x}, {{"alpha", e.attributes().Float("alpha", 0.01f)}});
          },
          "QLinearLeakyRelu" + arguments + " {alpha=0.25}\nQLinearLeakyRelu" + signed_ones + "\n"),
      Single("QLinearSoftmax", InferSameAsFirst, SoftmaxForm,
             "QLinearSoftmax" + arguments + " {axis=1, opset=13}\n" +
                 "QLinearSoftmax(x: i8[2,3,2], s: f32 = [0.1], z: i8 = [0], ys: f32 = [0.004], "
                 "yz: i8 = [-128]) {axis=1, opset=12}\n"),
      Pooled(
          "QLinearGlobalAveragePool", "GlobalAveragePool",
          "QLinearGlobalAveragePool(x: u8[1,2,3,3], s: f32 = [0.1], z: u8 = [3], ys: f32 = [0.21], "
          "yz: u8 = [7])\n"
          "QLinearGlobalAveragePool(x: i8[1,3,3,2], s: f32 = [0.1], z: i8 = [3], ys: f32 = [0.21], "
          "yz: i8 = [7]) {channels_last=1}\n"),
      Pooled("QLinearAveragePool", "AveragePool",
             "QLinearAveragePool(x: u8[1,2,5,5], s: f32 = [0.1], z: u8 = [3], ys: f32 = [0.21], "
             "yz: u8 = [7]) {kernel_shape=[3,3], strides=[2,2], pads=[1,1,0,0]}\n"
             "QLinearAveragePool(x: i8[1,5,2], s: f32 = [0.1], _, ys: f32 = [0.21]) "
             "{kernel_shape=[3], channels_last=1, count_include_pad=1, pads=[1,1]}\n"),
  };
}

// ---- QLinearConcat: Y_scale, Y_zero, then a tensor, its scale and zero point, over and over

Status InferConcat(InferContext& op) {
  const int count = (op.input_count() - 2) / 3;
  if (op.input_count() % 3 != 2)
    return op.Error("has {} inputs, expected 2 and 3 for each tensor", op.input_count());
  std::vector<TensorType> types;
  for (int k = 0; k < count; ++k) {
    if (!op.has_input(2 + 3 * k)) return op.Error("input {} is missing", 2 + 3 * k);
    types.push_back(AsFloat(op.input(2 + 3 * k)));
  }
  return InferLike(op, 1, "Concat", types, {{"axis", op.attributes().Int("axis", 0)}});
}

Status ExpandConcat(ExpandContext& e) {
  std::vector<ValueId> parts;
  for (int i = 2; i < static_cast<int>(e.node().inputs.size()); i += 3)
    parts.push_back(Dequantized(e, {i, i + 1, i + 2}));
  const ValueId y = e.Emit("Concat", parts, {{"axis", e.attributes().Int("axis", 0)}});
  SetQuantized(e, y, 0, 1, e.dtype(e.input(1)));
  return {};
}

OpDef Concat() {
  OpDef concat = Define(
      "QLinearConcat", 5, -1, InferConcat, ExpandConcat,
      "QLinearConcat(ys: f32 = [0.2], yz: u8 = [7], a: u8[2,1], as: f32 = [0.1], az: u8 = [3], "
      "b: u8[2,3], bs: f32 = [0.2], bz: u8 = [7]) {axis=1}\n"
      "QLinearConcat(ys: f32 = [0.2], yz: i8 = [7], a: i8[2], as: f32 = [0.1], az: i8 = [3]) "
      "{axis=0}\n");
  concat.dtypes = {DType::f32};
  return concat;
}

// ---- com.microsoft's QuantizeLinear and DequantizeLinear are ONNX's of opset 13

std::vector<TensorType> InputTypes(const InferContext& op) {
  std::vector<TensorType> types;
  for (int i = 0; i < op.input_count() && op.has_input(i); ++i) types.push_back(op.input(i));
  return types;
}

// The domain has one version; the second, which no file names, has every import lift the node to
// ONNX's, where passes look for it.
OpDef Alias(const std::string& name, std::string samples) {
  return {.name = name,
          .domain = std::string(kMicrosoftDomain),
          .onnx_since = {1, 2},
          .min_inputs = 2,
          .max_inputs = 3,
          .infer = [name](InferContext& op) -> Status {
            MINIM_TRY(TensorType type, TypeOf(name, InputTypes(op), op.attributes()));
            return op.SetOutput(0, std::move(type));
          },
          .expand = [name](ExpandContext& e) -> Status {
            e.SetOutput(0, e.Emit(name, e.node().inputs, e.attributes()));
            return {};
          },
          .upgrade = [](UpgradeContext& u) -> Status {
            u.node.domain.clear();
            return {};
          },
          .precision = PrecisionClass::kFp32,
          .samples = std::move(samples)};
}

// ---- DynamicQuantizeLSTM: LSTM's inputs, its weights [D,I,4H] and [D,H,4H] transposed and stored
// as integers, then their scales and zero points, [D] or [D,4H]

enum LstmInput { kWeight = 1, kRecurrence = 2, kWeightScale = 8 };

// The stored weights as LSTM takes them.
ValueId LstmWeights(ExpandContext& e, int weight, int scale) {
  const Dims dims = e.DimsOf(e.input(weight));
  const auto spread = [&](ValueId x) {
    const int64_t count = e.DimsOf(x).Elements();
    return e.Reshape(e.Cast(x, DType::f32), Dims({dims[0], 1, count / dims[0]}));
  };
  const ValueId whole = e.Cast(e.input(weight), DType::f32);
  const ValueId centred = e.Sub(whole, spread(e.input(scale + 1)));
  return e.Transpose(e.Mul(centred, spread(e.input(scale))), {0, 2, 1});
}

Status CheckLstm(InferContext& op) {
  for (int weight : {kWeight, kRecurrence}) {
    const int scale = kWeightScale + 2 * (weight - kWeight);
    MINIM_TRY(Needs(op, {scale, scale + 1}));
    MINIM_TRY(op.HasRank(weight, 3));
    if (!op.input(weight).Static()) return op.Error("weight {} has no static shape", weight);
    const Dims dims = op.input(weight).dims();
    for (int i : {scale, scale + 1}) {
      const auto count = op.input(i).ranked() ? ElementsOf(*op.input(i).shape) : std::nullopt;
      if (!count || dims[0] < 1 || (*count != dims[0] && *count != dims[0] * dims[2]))
        return op.Error("input {} has type {} for weights {}", i, op.input(i).ToString(),
                        op.input(weight).ToString());
    }
  }
  return {};
}

// The types of the LSTM whose weights these are; its own checks hold for every other input.
Status InferLstm(InferContext& op) {
  MINIM_TRY(CheckLstm(op));
  Graph graph;
  Node lstm{.op = "LSTM", .attributes = op.attributes()};
  for (int i = 0; i < kWeightScale && i < op.input_count(); ++i) {
    TensorType type = op.has_input(i) ? op.input(i) : TensorType{};
    if (i == kWeight || i == kRecurrence) {
      type.dtype = op.dtype(0);
      std::swap((*type.shape)[1], (*type.shape)[2]);
    }
    lstm.inputs.push_back(op.has_input(i) ? graph.AddValue("", type) : kNoValue);
  }
  while (lstm.inputs.back() == kNoValue) lstm.inputs.pop_back();
  for (int i = 0; i < 3; ++i) lstm.outputs.push_back(graph.AddValue("", {}));
  MINIM_TRY(Annotate(InferNode(graph, lstm), "DynamicQuantizeLSTM"));
  for (int i = 0; i < 3; ++i) MINIM_TRY(op.SetOutput(i, graph.type(lstm.outputs[i])));
  return {};
}

// ONNX Runtime quantizes X and H on the way; minim leaves them float, which is nearer to the model
// that was quantized.
Status ExpandLstm(ExpandContext& e) {
  std::vector<ValueId> inputs(e.node().inputs.begin(), e.node().inputs.begin() + kWeightScale);
  inputs[kWeight] = LstmWeights(e, kWeight, kWeightScale);
  inputs[kRecurrence] = LstmWeights(e, kRecurrence, kWeightScale + 2);
  while (inputs.back() == kNoValue) inputs.pop_back();
  const int count = static_cast<int>(e.node().outputs.size());
  const auto outputs = e.EmitMany("LSTM", inputs, count, e.attributes());
  for (int i = 0; i < count; ++i) e.SetOutput(i, outputs[i]);
  return {};
}

OpDef DynamicLstm() {
  OpDef lstm = Define(
      "DynamicQuantizeLSTM", 3, 12, InferLstm, ExpandLstm,
      "y, h, c = DynamicQuantizeLSTM(x: f32[3,2,4], w: i8[1,4,12], r: i8[1,3,12], b: f32[1,24], _, "
      "_, _, _, ws: f32[1] = [0.05], wz: i8[1] = [0], rs: f32[1,12] = uniform(0.01,0.05), "
      "rz: i8[1,12]) {hidden_size=3}\n"
      "DynamicQuantizeLSTM(x: f32[2,1,3], w: u8[2,3,8], r: u8[2,2,8], _, _, _, _, _, "
      "ws: f32[2] = [0.05,0.1], wz: u8[2] = [5,5], rs: f32[2] = [0.05,0.1], rz: u8[2] = [4,5]) "
      "{hidden_size=2, direction=\"bidirectional\"}\n");
  lstm.dtypes = {DType::f32};
  return lstm;
}

}  // namespace

std::vector<OpDef> QLinearOps() {
  std::vector<OpDef> defs = Singles();
  defs.push_back(Pair("QLinearAdd", "Add"));
  defs.push_back(Pair("QLinearMul", "Mul"));
  defs.push_back(Concat());
  defs.push_back(Alias("QuantizeLinear",
                       "QuantizeLinear(x: f32[2,3], s: f32 = [0.1], z: u8 = [3])\n"
                       "QuantizeLinear(x: f32[2,3], s: f32[3] = uniform(0.1,1)) {axis=1}\n"));
  defs.push_back(Alias("DequantizeLinear",
                       "DequantizeLinear(x: u16[2,3], s: f32 = [0.1], z: u16 = [3])\n"
                       "DequantizeLinear(x: i8[2,3], s: f32[3] = uniform(0.1,1)) {axis=1}\n"));
  defs.push_back(DynamicLstm());
  return defs;
}

}  // namespace minim::ops
