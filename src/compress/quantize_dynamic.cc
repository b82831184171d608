#include "compress/quantizable.h"
#include "compress/quantize.h"
#include "compress/value_choice.h"
#include "compress/weight_codes.h"
#include "ops/builder.h"
#include "passes/passes.h"

namespace minim {
namespace {

// Below this many units a step gains nothing from bytes.
constexpr int64_t kLeastLstmUnits = 64;

bool LstmWorthBytes(const Graph& graph, const Node& node) {
  return node.Is("LSTM") && RecurrentWithWeights(graph, node) &&
         node.attributes.Int("layout", 0) == 0 &&
         graph.constant(node.input(2))->dims()[2] >= kLeastLstmUnits;
}

class DynamicQuantizer {
 public:
  DynamicQuantizer(Graph& graph, const std::set<std::string>& keep_float)
      : graph_(graph), keep_float_(keep_float), builder_(graph) {}

  Result<bool> Run() {
    const std::vector<Node> nodes = std::move(graph_.nodes);
    graph_.nodes.clear();
    bool changed = false;
    for (const Node& node : nodes) {
      const bool kept = keep_float_.contains(OpName(graph_, node));
      if (!kept && LstmWorthBytes(graph_, node)) {
        RewriteLstm(node);
        changed = true;
        continue;
      }
      const int axis = kept || node.Is("Conv") ? -1 : ChannelAxis(graph_, node);
      if (axis < 0) {
        graph_.nodes.push_back(node);
        continue;
      }
      Rewrite(node, axis);
      changed = true;
    }
    MINIM_TRY(builder_.status());
    return changed;
  }

 private:
  // The form that FuseRowQuantized recognises; every op of it is standard.
  void Rewrite(const Node& node, int axis) {
    const Tensor& weights = *graph_.constant(node.input(1));
    QuantizedWeights quantized = QuantizeWeights(weights, axis);
    if (axis == 0) quantized.values = Transposed(quantized.values);
    const std::string name = graph_.value(node.input(1)).name;
    const ValueId w = graph_.AddConstant(name + "_quantized", quantized.values);
    const ValueId w_scale = graph_.AddConstant(
        name + "_scale", Tensor::From<float>({static_cast<int64_t>(quantized.scales.size())},
                                             std::span<const float>(quantized.scales)));
    const ValueId x = node.input(0);
    const ValueId most = builder_.Emit(
        "ReduceMax", {builder_.Emit("Abs", {x}), builder_.Ints({-1})}, {{"keepdims", int64_t{1}}});
    const ValueId scale = builder_.Div(most, builder_.Scalar(127, DType::f32));
    const ValueId is_zero = builder_.Emit("Equal", {scale, builder_.Scalar(0, DType::f32)});
    const ValueId safe = builder_.Select(is_zero, builder_.Scalar(1, DType::f32), scale);
    const ValueId q = builder_.Cast(builder_.Emit("Round", {builder_.Div(x, safe)}), DType::i8);
    const ValueId sum = builder_.Cast(builder_.Emit("MatMulInteger", {q, w}), DType::f32);
    ValueId y = builder_.Mul(builder_.Mul(sum, safe), w_scale);
    if (node.input(2) != kNoValue) y = builder_.Add(y, node.input(2));
    graph_.nodes.back().outputs = node.outputs;  // the last node writes the original value
  }

  // DynamicQuantizeLSTM takes [D, k, gates] with a scale and a zero point per direction and gate.
  void RewriteLstm(const Node& node) {
    Node lstm = node;
    lstm.op = "DynamicQuantizeLSTM";
    lstm.domain = std::string(kMicrosoftDomain);
    lstm.inputs.resize(8, kNoValue);
    for (int i : {1, 2}) {
      const std::string name = graph_.value(node.input(i)).name;
      const Tensor& weights = *graph_.constant(node.input(i));
      const Dims dims = weights.dims();
      const QuantizedWeights rows = QuantizeWeights(
          Tensor::Copy({weights.data(), DType::f32, {dims[0] * dims[1], dims[2]}}), 0);
      const Dims parameters = {dims[0], dims[1]};
      lstm.inputs[i] = graph_.AddConstant(name + "_quantized", DirectionsTransposed(rows, dims));
      lstm.inputs.push_back(graph_.AddConstant(
          name + "_scale", Tensor::From<float>(parameters, std::span<const float>(rows.scales))));
      lstm.inputs.push_back(
          graph_.AddConstant(name + "_zero_point", Tensor(DType::i8, parameters)));
    }
    graph_.nodes.push_back(std::move(lstm));
  }

  static Tensor DirectionsTransposed(const QuantizedWeights& weights, const Dims& dims) {
    Tensor result(DType::i8, {dims[0], dims[2], dims[1]});
    const auto from = weights.values.as<int8_t>();
    auto to = result.as<int8_t>();
    for (int64_t d = 0; d < dims[0]; ++d)
      for (int64_t row = 0; row < dims[1]; ++row)
        for (int64_t k = 0; k < dims[2]; ++k)
          to[(d * dims[2] + k) * dims[1] + row] = from[(d * dims[1] + row) * dims[2] + k];
    return result;
  }

  static Tensor Transposed(const Tensor& matrix) {
    const int64_t rows = matrix.dims()[0], columns = matrix.dims()[1];
    Tensor result(DType::i8, {columns, rows});
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < columns; ++j)
        result.as<int8_t>()[j * rows + i] = matrix.as<int8_t>()[i * columns + j];
    return result;
  }

  Graph& graph_;
  const std::set<std::string>& keep_float_;
  Builder builder_;
};

}  // namespace

Result<Graph> QuantizeDynamic(const Graph& graph, const std::set<std::string>& keep_float) {
  Graph result = graph;
  MINIM_TRY(FoldConstants(result, {}));
  MINIM_TRY(CheckKeepFloat(result, keep_float));
  MINIM_TRY(const bool any, DynamicQuantizer(result, keep_float).Run());
  if (!any)
    return Unsupported("nothing to quantize: no Gemm, MatMul or LSTM with constant weights");
  DropUnread(result);
  MINIM_TRY(Verify(result));
  return result;
}

}  // namespace minim
