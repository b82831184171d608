// Fused forms: com.microsoft's and minim's own. All but FusedElementwise are given by expansion.
#include <algorithm>
#include <cmath>

#include "ops/builder.h"
#include "ops/conv.h"
#include "ops/elementwise.h"
#include "ops/quantize.h"

namespace minim::ops {
namespace {

// Emits the activation named by a fused op; `params` in the order of ONNX's attributes.
Result<ValueId> Activate(Builder& b, ValueId x, const std::string& name,
                         const std::vector<float>& params) {
  const auto param = [&](size_t i, float fallback) {
    return i < params.size() ? params[i] : fallback;
  };
  if (name.empty()) return x;
  if (name == "Relu" || name == "Tanh" || name == "Sigmoid" || name == "HardSwish" ||
      name == "Softplus" || name == "Gelu")
    return b.Emit(name, {x});
  if (name == "LeakyRelu") return b.Emit(name, {x}, {{"alpha", param(0, 0.01f)}});
  if (name == "Elu") return b.Emit(name, {x}, {{"alpha", param(0, 1.0f)}});
  if (name == "HardSigmoid")
    return b.Emit(name, {x}, {{"alpha", param(0, 0.2f)}, {"beta", param(1, 0.5f)}});
  if (name == "Clip")
    return b.Emit(name,
                  {x, b.ScalarLike(param(0, -INFINITY), x), b.ScalarLike(param(1, INFINITY), x)});
  return Unsupported("activation '{}' is not one that minim fuses", name);
}

Status ExpandConv(ExpandContext& e) {
  Attributes attributes = e.attributes();
  const std::string activation = attributes.String("activation", "");
  const std::vector<float> params = attributes.Floats("activation_params");
  attributes.Erase("activation");
  attributes.Erase("activation_params");
  std::vector<ValueId> inputs = {e.input(0), e.input(1)};
  if (e.has_input(2)) inputs.push_back(e.input(2));
  ValueId y = e.Emit("Conv", inputs, attributes);
  if (e.has_input(3)) y = e.Add(y, e.input(3));
  MINIM_TRY(y, Activate(e, y, activation, params));
  e.SetOutput(0, y);
  return {};
}

Status ExpandGemm(ExpandContext& e) {
  Attributes attributes = e.attributes();
  const std::string activation = attributes.String("activation", "");
  std::vector<float> params;
  for (const char* name : {"activation_alpha", "activation_beta", "activation_gamma"}) {
    if (attributes.Has(name)) params.push_back(attributes.Float(name, 0));
    attributes.Erase(name);
  }
  attributes.Erase("activation");
  MINIM_TRY(const ValueId y,
            Activate(e, e.Emit("Gemm", e.node().inputs, attributes), activation, params));
  e.SetOutput(0, y);
  return {};
}

// How an operand of FusedMatMul is turned: transBatch brings the first axis behind the batch, then
// trans swaps the last two. Empty if it stays as it is.
std::vector<int64_t> OperandTurn(const Attributes& a, const std::string& side, int rank) {
  const bool batch = a.Int("transBatch" + side, 0) != 0 && rank > 2;
  const bool swap = a.Int("trans" + side, 0) != 0 && rank >= 2;
  if (!batch && !swap) return {};
  std::vector<int64_t> perm(rank);
  for (int k = 0; k < rank; ++k) perm[k] = k;
  if (batch) std::rotate(perm.begin(), perm.begin() + 1, perm.end() - 1);
  if (swap) std::swap(perm[rank - 1], perm[rank - 2]);
  return perm;
}

TensorType Turned(const Attributes& attributes, const std::string& side,
                  const TensorType& operand) {
  TensorType type = operand;
  if (!type.ranked()) return type;
  const auto perm = OperandTurn(attributes, side, type.rank());
  for (size_t k = 0; k < perm.size(); ++k) (*type.shape)[k] = (*operand.shape)[perm[k]];
  return type;
}

Status ExpandMatMul(ExpandContext& e) {
  if (!e.type(e.input(0)).ranked() || !e.type(e.input(1)).ranked())
    return Unsupported("FusedMatMul '{}': needs inputs of known rank", e.node().name);
  const auto operand = [&](int i, const char* side) {
    const auto perm = OperandTurn(e.attributes(), side, e.rank(e.input(i)));
    return perm.empty() ? e.input(i) : e.Transpose(e.input(i), perm);
  };
  const ValueId y = e.Emit("MatMul", {operand(0, "A"), operand(1, "B")});
  const float alpha = e.attributes().Float("alpha", 1.0f);
  e.SetOutput(0, alpha == 1 ? y : e.Mul(y, alpha));
  return {};
}

Status InferFusedConv(InferContext& op) {
  MINIM_TRY(InferConvolution(op, 0, 1, op.dtype(0)));
  MINIM_TRY(CheckConvBias(op, 2));
  const TensorType& y = op.outputs()[0];
  if (!op.has_input(3) || !op.input(3).ranked() || !y.ranked()) return {};
  const auto sum = BroadcastShapes(*y.shape, *op.input(3).shape);
  if (sum.ok() && (!y.Static() || *sum == *y.shape)) return {};
  return op.Error("cannot add {} to {}", ToString(*op.input(3).shape), ToString(*y.shape));
}

// The types of a fused product are those of its plain form.
Status InferAs(InferContext& op, std::string_view name) { return FindOp("", name)->infer(op); }

Status InferFusedMatMul(InferContext& op) {
  MINIM_TRY(TensorType type, TypeOf("MatMul", {Turned(op.attributes(), "A", op.input(0)),
                                               Turned(op.attributes(), "B", op.input(1))}));
  return op.SetOutput(0, std::move(type));
}

Status ExpandGelu(ExpandContext& e, bool tanh) {
  const ValueId x = e.has_input(1) ? e.Add(e.input(0), e.input(1)) : e.input(0);
  e.SetOutput(0, e.Emit("Gelu", {x}, {{"approximate", std::string(tanh ? "tanh" : "none")}}));
  return {};
}

// (A - za) (B - zb) a_scale b_scale + bias, as MatMulInteger and a scaling.
ValueId ScaledIntegers(ExpandContext& e, std::vector<ValueId> operands, ValueId scale,
                       ValueId bias) {
  const ValueId sum = e.Cast(e.Emit("MatMulInteger", std::move(operands)), e.dtype(scale));
  const ValueId y = e.Mul(sum, scale);
  return bias == kNoValue ? y : e.Add(y, bias);
}

Status ExpandIntegerToFloat(ExpandContext& e) {  // A, B, a_scale, b_scale, za, zb, bias
  e.SetOutput(0, ScaledIntegers(e, {e.input(0), e.input(1), e.input(4), e.input(5)},
                                e.Mul(e.input(2), e.input(3)), e.input(6)));
  return {};
}

Status ExpandDynamicMatMul(ExpandContext& e) {  // A, B, b_scale, zb, bias
  const auto q = e.EmitMany("DynamicQuantizeLinear", {e.input(0)}, 3);
  e.SetOutput(0, ScaledIntegers(e, {q[0], e.input(1), q[2], e.input(3)}, e.Mul(q[1], e.input(2)),
                                e.input(4)));
  return {};
}

Status InferFloatProduct(InferContext& op, DType dtype) {
  MINIM_TRY(TensorType type,
            TypeOf("MatMul", {{dtype, op.input(0).shape}, {dtype, op.input(1).shape}}));
  return op.SetOutput(0, std::move(type));
}

Status InferIntegerToFloat(InferContext& op) {
  MINIM_TRY(CheckQuantized(op, 0, 2, 4));
  MINIM_TRY(CheckQuantized(op, 1, 3, 5));
  return InferFloatProduct(op, op.dtype(2));
}

// Scales and zero points of QGemm: one for all, or those of B one for each of `columns`.
Status CheckGemmParameters(const InferContext& op, const Dim& columns) {
  for (int i : {1, 2, 4, 5, 7, 8}) {
    if (!op.has_input(i) || !op.input(i).Static()) continue;
    const int64_t n = op.input(i).dims().Elements();
    if (n == 1 || ((i == 4 || i == 5) && Dim(n).Compatible(columns))) continue;
    return op.Error("input {} has {} elements for {} columns", i, n, columns.ToString());
  }
  return {};
}

// QGemm: A, a_scale, za, B, b_scale, zb, C, y_scale, yz. Without y_scale the result stays float.
Status InferQGemm(InferContext& op) {
  MINIM_TRY(CheckQuantized(op, 0, 1, 2));
  MINIM_TRY(CheckQuantized(op, 3, 4, 5));
  MINIM_TRY(CheckQuantized(op, -1, 7, 8));
  if (op.has_input(6) && op.dtype(6) != DType::i32)
    return op.Error("C is {}, expected i32", Name(op.dtype(6)));
  const Shape a = op.input(0).ranked() ? *op.input(0).shape : Shape(2);
  const Shape b = op.input(3).ranked() ? *op.input(3).shape : Shape(2);
  const bool ta = op.attributes().Int("transA", 0) != 0, tb = op.attributes().Int("transB", 0) != 0;
  MINIM_TRY(op.HasRank(0, 2));
  MINIM_TRY(op.HasRank(3, 2));
  if (!a[!ta].Compatible(b[tb]))
    return op.Error("cannot multiply {} by {}: inner sizes differ", ToString(a), ToString(b));
  MINIM_TRY(CheckGemmParameters(op, b[!tb]));
  if (op.has_input(6) && op.input(6).Static() && a[ta].known() && b[!tb].known()) {
    const Shape product{a[ta], b[!tb]};
    const auto sum = BroadcastShapes(product, *op.input(6).shape);
    if (!sum.ok() || *sum != product)
      return op.Error("cannot add {} to {}", ToString(*op.input(6).shape), ToString(product));
  }
  return op.SetOutput(0, op.has_input(8) ? op.dtype(8) : DType::f32, Shape{a[ta], b[!tb]});
}

Status ExpandQGemm(ExpandContext& e) {
  const auto operand = [&](int i, const char* name) {
    return e.attributes().Int(name, 0) != 0 ? e.Transpose(e.input(i), {1, 0}) : e.input(i);
  };
  const ValueId a = operand(0, "transA"), b = operand(3, "transB");
  ValueId sum = e.Emit("MatMulInteger", {a, b, e.input(2), e.input(5)});
  if (e.has_input(6)) sum = e.Add(sum, e.input(6));
  const float alpha = e.attributes().Float("alpha", 1.0f);
  const ValueId scale = e.Mul(e.Mul(e.input(1), e.input(4)), alpha);
  const ValueId y = e.Mul(e.Cast(sum, e.dtype(scale)), scale);
  e.SetOutput(0, e.has_input(7) ? e.Emit("QuantizeLinear", {y, e.input(7), e.input(8)}) : y);
  return {};
}

Status InferElementwise(InferContext& op) {
  const Graph* body = op.Subgraph("body");
  if (body == nullptr) return op.Error("has no body");
  if (body->inputs.size() != op.node().inputs.size() ||
      body->outputs.size() != op.node().outputs.size())
    return op.Error("has {} inputs and {} outputs, its body {} and {}", op.node().inputs.size(),
                    op.node().outputs.size(), body->inputs.size(), body->outputs.size());
  std::optional<Shape> shape = Shape();
  for (int i = 0; i < op.input_count() && shape; ++i) {
    if (!op.input(i).ranked()) {
      shape.reset();
      break;
    }
    auto merged = BroadcastShapes(*shape, *op.input(i).shape);
    if (!merged.ok()) return op.Error("{}", merged.status().message());
    shape = *std::move(merged);
  }
  for (int k = 0; k < op.output_count(); ++k)
    MINIM_TRY(op.SetOutput(k, {body->type(body->outputs[k]).dtype, shape}));
  return {};
}

Status ElementwiseReference(RefContext& op) {
  const Graph& body = *op.node().subgraphs.at("body");
  std::vector<Tensor> inputs;
  for (int i = 0; i < op.input_count(); ++i) inputs.push_back(FromReference(op.input(i)));
  MINIM_TRY(const std::vector<Tensor> outputs, EvaluateGraph(body, inputs));
  for (int k = 0; k < op.output_count(); ++k) {
    if (!op.has_output(k)) continue;
    RefTensor& y = op.Output(k);
    const RefTensor value = ToReference(outputs[k]);
    const Dims strides = BroadcastStrides(value.dims(), y.dims());
    VisitWide(y.wide.dtype(), [&]<typename T>() {
      ForEachIndex(y.dims(), [&](int64_t flat, const Dims& at) {
        y.wide.as<T>()[flat] = value.wide.as<T>()[OffsetOf(at, strides)];
      });
    });
  }
  return {};
}

OpDef Define(std::string name, int min_inputs, int max_inputs,
             std::function<Status(InferContext&)> infer,
             std::function<Status(ExpandContext&)> expand, PrecisionClass precision,
             std::string samples) {
  return {.name = std::move(name),
          .domain = std::string(kMicrosoftDomain),
          .onnx_since = {1},
          .min_inputs = min_inputs,
          .max_inputs = max_inputs,
          .infer = std::move(infer),
          .expand = std::move(expand),
          .precision = precision,
          .samples = std::move(samples)};
}

OpDef Elementwise() {
  return {.name = "FusedElementwise",
          .domain = std::string(kMinimDomain),
          .max_inputs = -1,
          .infer = InferElementwise,
          .reference = ElementwiseReference,
          .traits = OpTrait::kElementwise,
          .samples =
              "FusedElementwise(x: f32[2,3], b: f32[3]) {body=graph \"b\"(x: f32[2,3], b: f32[3]) "
              "-> (z) { y: f32[2,3] = Add(x, b) z: f32[2,3] = Relu(y) }}\n"};
}

}  // namespace

std::vector<OpDef> FusedOps() {
  const auto lower = PrecisionClass::kLower;
  OpDef conv = Define("FusedConv", 2, 4, InferFusedConv, ExpandConv, lower,
                      "FusedConv(x: f32[1,2,4,4], w: f32[3,2,3,3], b: f32[3], z: f32[1,3,4,4]) "
                      "{pads=[1,1,1,1], activation=\"LeakyRelu\", activation_params=[0.25]}\n"
                      "FusedConv(x: f32[1,2,4,4], w: f32[3,2,3,3], _, z: f32[3,1,1]) {}\n"
                      "FusedConv(x: f32[1,2,4], w: f32[3,2,3]) {activation=\"Relu\"}\n"
                      "FusedConv(x: f32[1,2,4], w: f32[3,2,3]) {activation=\"Clip\", "
                      "activation_params=[0.0,6.0]}\n");
  conv.flops = ConvFlops;
  OpDef gemm = Define(
      "FusedGemm", 2, 3, [](InferContext& op) { return InferAs(op, "Gemm"); }, ExpandGemm, lower,
      "FusedGemm(a: f32[3,5], b: f32[5,2], c: f32[2]) {activation=\"Relu\"}\n"
      "FusedGemm(a: f32[3,5], b: f32[2,5]) {transB=1, activation=\"LeakyRelu\", "
      "activation_alpha=0.5}\n");
  gemm.flops = [](const auto& inputs, const auto& outputs, const Attributes& attributes) {
    return FindOp("", "Gemm")->flops(inputs, outputs, attributes);
  };
  OpDef matmul = Define(
      "FusedMatMul", 2, 2, InferFusedMatMul, ExpandMatMul, lower,
      "FusedMatMul(a: f32[5,3], b: f32[2,5]) {transA=1, transB=1, alpha=0.5}\n"
      "FusedMatMul(a: f32[2,3,5], b: f32[5,2])\n"
      "FusedMatMul(a: f32[2,3,5], b: f32[4,3,5]) {transBatchA=1, transBatchB=1, transB=1}\n");
  matmul.flops = [](const auto& inputs, const auto& outputs, const Attributes& attributes) {
    return FindOp("", "MatMul")
        ->flops({Turned(attributes, "A", inputs[0]), Turned(attributes, "B", inputs[1])}, outputs,
                attributes);
  };
  OpDef gelu = Define(
      "FastGelu", 1, 2, InferBroadcast, [](ExpandContext& e) { return ExpandGelu(e, true); },
      PrecisionClass::kWidest, "FastGelu(x: f32[2,3], b: f32[3])\nFastGelu(x: f32[3])\n");
  OpDef bias_gelu = Define(
      "BiasGelu", 2, 2, InferBroadcast, [](ExpandContext& e) { return ExpandGelu(e, false); },
      PrecisionClass::kWidest, "BiasGelu(x: f32[2,3], b: f32[3])\n");
  gelu.traits = bias_gelu.traits = OpTrait::kElementwise;
  return {
      std::move(conv),
      std::move(gemm),
      std::move(gelu),
      std::move(bias_gelu),
      Elementwise(),
      std::move(matmul),
      Define(
          "MatMulIntegerToFloat", 4, 7, InferIntegerToFloat, ExpandIntegerToFloat,
          PrecisionClass::kInteger,
          "MatMulIntegerToFloat(a: u8[3,5], b: i8[5,2], as: f32 = [0.1], bs: f32[2], za: u8 = [3], "
          "_, c: f32[2])\n"),
      Define(
          "DynamicQuantizeMatMul", 3, 5,
          [](InferContext& op) { return InferFloatProduct(op, DType::f32); }, ExpandDynamicMatMul,
          PrecisionClass::kInteger,
          "DynamicQuantizeMatMul(a: f32[3,5], b: i8[5,2], s: f32[2], _, c: f32[2])\n"),
      Define("QGemm", 6, 9, InferQGemm, ExpandQGemm, PrecisionClass::kInteger,
             "QGemm(a: u8[3,5], as: f32 = [0.1], za: u8 = [3], b: i8[2,5], bs: f32[2], zb: i8[2], "
             "c: i32[2], "
             "ys: f32 = [0.5], yz: u8 = [7]) {transB=1}\n"
             "QGemm(a: u8[5,3], as: f32 = [0.1], za: u8 = [3], b: i8[5,2], bs: f32 = [0.2], zb: i8 "
             "= [0]) "
             "{transA=1, alpha=0.5}\n"),
  };
}

}  // namespace minim::ops
