#include "compress/quantize.h"

#include <algorithm>
#include <cmath>

#include "compress/value_choice.h"
#include "core/dtype.h"
#include "ops/builder.h"
#include "ops/infer.h"
#include "passes/passes.h"

namespace minim {
namespace {

constexpr float kMaxBias = 2147483000.0f;  // safely inside int32 after rounding

// Below this many units a step gains nothing from bytes.
constexpr int64_t kLeastLstmUnits = 64;

// LSTM, GRU or RNN whose weights are constant FP32.
bool RecurrentWithWeights(const Graph& graph, const Node& node) {
  if (!node.Is("LSTM") && !node.Is("GRU") && !node.Is("RNN")) return false;
  const Tensor *w = graph.constant(node.input(1)), *r = graph.constant(node.input(2));
  return w != nullptr && r != nullptr && w->dtype() == DType::f32 && r->dtype() == DType::f32;
}

bool LstmWorthBytes(const Graph& graph, const Node& node) {
  return node.Is("LSTM") && RecurrentWithWeights(graph, node) &&
         node.attributes.Int("layout", 0) == 0 &&
         graph.constant(node.input(2))->dims()[2] >= kLeastLstmUnits;
}

// The inputs that are weights to store in fewer bytes.
std::vector<int> WeightInputs(const Graph& graph, const Node& node) {
  if (ChannelAxis(graph, node) >= 0) return {1};
  return RecurrentWithWeights(graph, node) ? std::vector<int>{1, 2} : std::vector<int>{};
}

int64_t ChannelOf(int64_t flat, const Dims& dims, int axis) {
  const int64_t inner = dims.Elements(axis + 1, dims.rank());
  return flat / inner % dims[axis];
}

struct ActivationParams {
  ValueId scale = kNoValue;
  ValueId zero = kNoValue;
  float scale_value = 1;
};

class StaticQuantizer {
 public:
  StaticQuantizer(const Graph& source, Graph& target)
      : source_(source), target_(target), builder_(target), choice_(ChooseQuantized(source)) {}

  Result<bool> Run(const Dataset& calibration) {
    std::vector<ValueId> values;
    for (const auto& [root, sources] : choice_.sources)
      values.insert(values.end(), sources.begin(), sources.end());
    if (values.empty()) return false;
    MINIM_TRY(const auto ranges, CalibrateMinMax(source_, values, calibration));
    for (const auto& [root, sources] : choice_.sources) {
      Range whole = ranges.at(sources[0]);
      for (ValueId id : sources) whole = whole.Union(ranges.at(id));
      params_[root] = MakeParams(root, whole);
    }
    const std::vector<Node> nodes = std::move(target_.nodes);
    target_.nodes.clear();
    for (ValueId id : source_.inputs)
      if (choice_.Chosen(id)) Pair(id);
    for (const Node& node : nodes) Rewrite(node);
    MINIM_TRY(builder_.status());
    return true;
  }

 private:
  ActivationParams MakeParams(ValueId id, const Range& range) {
    const float spread = range.high - range.low;
    const float scale = spread > 0 ? spread / 255 : 1;
    const float zero = std::clamp(std::nearbyint(-range.low / scale), 0.0f, 255.0f);
    const std::string& name = source_.value(id).name;
    return {target_.AddConstant(name + "_scale", Tensor::Scalar(scale)),
            target_.AddConstant(name + "_zero_point", Tensor::Scalar(static_cast<uint8_t>(zero))),
            scale};
  }

  // Q and DQ right after the definition of `id`.
  void Pair(ValueId id) {
    const ActivationParams& p = params_.at(choice_.root.at(id));
    const ValueId q = builder_.Emit("QuantizeLinear", {id, p.scale, p.zero});
    paired_[id] = builder_.Emit("DequantizeLinear", {q, p.scale, p.zero});
  }

  void Rewrite(const Node& original) {
    Node node = original;
    const int axis = ChannelAxis(source_, original);
    for (size_t i = 0; i < node.inputs.size(); ++i)
      if (ReadsRounded(source_, choice_, original, static_cast<int>(i)))
        node.inputs[i] = paired_.at(original.inputs[i]);
    if (axis >= 0) QuantizeParameters(original, axis, node);
    target_.nodes.push_back(node);
    for (ValueId id : original.outputs)
      if (id != kNoValue && choice_.Chosen(id)) Pair(id);
  }

  void QuantizeParameters(const Node& original, int axis, Node& node) {
    const float x_scale = params_.at(choice_.root.at(original.input(0))).scale_value;
    const Tensor& weights = *source_.constant(original.input(1));
    const Tensor* bias =
        original.input(2) == kNoValue ? nullptr : source_.constant(original.input(2));
    const int64_t channels = weights.dims()[axis];
    // A bias that would overflow int32 asks for a larger weight scale.
    std::vector<float> least(static_cast<size_t>(channels), 0);
    if (bias != nullptr && bias->size() == channels)
      for (int64_t c = 0; c < channels; ++c)
        least[c] = std::fabs(bias->as<float>()[c]) / (kMaxBias * x_scale);
    const QuantizedWeights quantized = QuantizeWeights(weights, axis, least);
    const std::string& name = source_.value(original.input(1)).name;
    const ValueId scale = target_.AddConstant(
        name + "_scale", Tensor::From<float>({channels}, std::span<const float>(quantized.scales)));
    const ValueId values = target_.AddConstant(name + "_quantized", quantized.values);
    node.inputs[1] = builder_.Emit("DequantizeLinear", {values, scale}, {{"axis", int64_t{axis}}});
    if (bias != nullptr && bias->size() == channels)
      node.inputs[2] =
          IntegerBias(*bias, quantized.scales, x_scale, source_.value(original.input(2)).name);
  }

  ValueId IntegerBias(const Tensor& bias, const std::vector<float>& w_scales, float x_scale,
                      const std::string& name) {
    Tensor values(DType::i32, bias.dims()), scales(DType::f32, bias.dims());
    for (int64_t c = 0; c < bias.size(); ++c) {
      const float scale = x_scale * w_scales[c];
      scales.as<float>()[c] = scale;
      values.as<int32_t>()[c] = static_cast<int32_t>(std::nearbyint(bias.as<float>()[c] / scale));
    }
    return builder_.Emit("DequantizeLinear",
                         {target_.AddConstant(name + "_quantized", values),
                          target_.AddConstant(name + "_scale", scales)},
                         {{"axis", int64_t{0}}});
  }

  const Graph& source_;
  Graph& target_;
  Builder builder_;
  const ValueChoice choice_;
  std::map<ValueId, ActivationParams> params_;  // by root
  std::map<ValueId, ValueId> paired_;           // value -> its dequantized twin
};

class DynamicQuantizer {
 public:
  explicit DynamicQuantizer(Graph& graph) : graph_(graph), builder_(graph) {}

  Result<bool> Run() {
    const std::vector<Node> nodes = std::move(graph_.nodes);
    graph_.nodes.clear();
    bool changed = false;
    for (const Node& node : nodes) {
      if (LstmWorthBytes(graph_, node)) {
        RewriteLstm(node);
        changed = true;
        continue;
      }
      const int axis = node.Is("Conv") ? -1 : ChannelAxis(graph_, node);
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
  Builder builder_;
};

// Drops constants that nobody reads any more, so that a file holds each weight once.
void DropUnused(Graph& graph) {
  const std::vector<int> uses = graph.UseCounts();
  std::erase_if(graph.constants, [&](const auto& c) { return uses[c.first] == 0; });
}

}  // namespace

QuantizedWeights QuantizeWeights(const Tensor& weights, int axis,
                                 const std::vector<float>& least_scale) {
  const Dims& dims = weights.dims();
  const auto w = weights.as<float>();
  QuantizedWeights result{Tensor(DType::i8, dims), std::vector<float>(dims[axis], 0)};
  for (int64_t i = 0; i < weights.size(); ++i) {
    float& most = result.scales[ChannelOf(i, dims, axis)];
    most = std::max(most, std::fabs(w[i]));
  }
  for (size_t c = 0; c < result.scales.size(); ++c) {
    float& scale = result.scales[c];
    scale /= 127;
    if (c < least_scale.size()) scale = std::max(scale, least_scale[c]);
    if (scale == 0) scale = 1;
  }
  for (int64_t i = 0; i < weights.size(); ++i) {
    const float steps = std::nearbyint(w[i] / result.scales[ChannelOf(i, dims, axis)]);
    result.values.as<int8_t>()[i] = static_cast<int8_t>(std::clamp(steps, -127.0f, 127.0f));
  }
  return result;
}

Result<Graph> QuantizeStatic(const Graph& graph, const Dataset& calibration) {
  Graph source = graph;
  MINIM_TRY(FoldConstants(source, {}));
  MINIM_TRY(FoldBatchNorm(source, {}));  // so that a convolution ends in its activation
  Graph result = source;
  MINIM_TRY(const bool any, StaticQuantizer(source, result).Run(calibration));
  if (!any)
    return Unsupported("nothing to quantize: no Conv, Gemm or MatMul with constant weights");
  DropUnused(result);
  MINIM_TRY(Verify(result));
  return result;
}

Result<Graph> QuantizeDynamic(const Graph& graph) {
  Graph result = graph;
  MINIM_TRY(FoldConstants(result, {}));
  MINIM_TRY(const bool any, DynamicQuantizer(result).Run());
  if (!any)
    return Unsupported("nothing to quantize: no Gemm, MatMul or LSTM with constant weights");
  DropUnused(result);
  MINIM_TRY(Verify(result));
  return result;
}

Result<Graph> StoreWeightsBf16(const Graph& graph) {
  Graph result = graph;
  Builder builder(result);
  const std::vector<Node> nodes = std::move(result.nodes);
  result.nodes.clear();
  bool any = false;
  for (Node node : nodes) {
    for (int i : WeightInputs(graph, node)) {
      const Tensor stored = Converted(graph.constant(node.input(i))->view(), DType::bf16);
      const std::string name = graph.value(node.input(i)).name + "_bf16";
      node.inputs[i] = builder.Cast(result.AddConstant(name, stored), DType::f32);
      any = true;
    }
    result.nodes.push_back(std::move(node));
  }
  MINIM_TRY(builder.status());
  if (!any)
    return Unsupported(
        "nothing to store in BF16: no Conv, Gemm, MatMul, LSTM, GRU or RNN with constant weights");
  DropUnused(result);
  MINIM_TRY(Verify(result));
  return result;
}

}  // namespace minim
