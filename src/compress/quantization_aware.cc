#include "compress/quantization_aware.h"

#include <algorithm>
#include <cmath>

#include "compress/quantize.h"
#include "compress/weight_codes.h"
#include "ops/builder.h"
#include "passes/passes.h"

namespace minim {
namespace {

constexpr std::string_view kSuffix = "_quantized";

// A DequantizeLinear of constant integers, by its output: a weight (s8) or a bias (s32).
struct Stored {
  size_t node = 0;
  ValueId values = kNoValue;
  ValueId scale = kNoValue;
  int axis = 0;                  // of the scales; -1: one for all
  ValueId parameter = kNoValue;  // that stands for it while it is trained
};

// Symmetric, with one scale or one an index of its axis.
std::optional<Stored> StoredBy(const Graph& graph, size_t index) {
  const Node& node = graph.nodes[index];
  if (!node.Is("DequantizeLinear") || node.attributes.Int("block_size", 0) != 0) return {};
  const Tensor *values = graph.constant(node.input(0)), *scale = graph.constant(node.input(1));
  if (values == nullptr || scale == nullptr || scale->dtype() != DType::f32) return {};
  if (values->dtype() != DType::i8 && values->dtype() != DType::i32) return {};
  if (node.input(2) != kNoValue) {
    const Tensor* zero = graph.constant(node.input(2));
    if (zero == nullptr) return {};
    const auto* bytes = static_cast<const char*>(zero->data());
    if (std::any_of(bytes, bytes + zero->bytes(), [](char byte) { return byte != 0; })) return {};
  }
  const int64_t axis = node.attributes.Int("axis", 1);
  const int rank = values->dims().rank();
  return Stored{.node = index,
                .values = node.input(0),
                .scale = node.input(1),
                .axis = scale->size() == 1 ? -1 : static_cast<int>(axis < 0 ? axis + rank : axis)};
}

// The scale of each element.
float ScaleAt(const Tensor& scale, const Dims& dims, int axis, int64_t i) {
  if (axis < 0) return scale.as<float>()[0];
  return scale.as<float>()[i / dims.Elements(axis + 1, dims.rank()) % dims[axis]];
}

Tensor Dequantized(const Tensor& values, const Tensor& scale, int axis) {
  Tensor result(DType::f32, values.dims());
  const bool bytes = values.dtype() == DType::i8;
  for (int64_t i = 0; i < values.size(); ++i) {
    const double value = bytes ? values.as<int8_t>()[i] : values.as<int32_t>()[i];
    result.as<float>()[i] = static_cast<float>(value * ScaleAt(scale, values.dims(), axis, i));
  }
  return result;
}

class QuantizedTraining {
 public:
  QuantizedTraining(const Graph& prepared, const Graph& quantized)
      : prepared_(prepared), quantized_(quantized) {}

  // The graph to train: weights in FP32 behind their rounding, biases in FP32.
  Result<Graph> Open() {
    Graph graph = quantized_;
    Builder builder(graph);
    const std::vector<Node> nodes = std::move(graph.nodes);
    graph.nodes.clear();
    for (size_t i = 0; i < nodes.size(); ++i) {
      std::optional<Stored> stored = StoredBy(quantized_, i);
      if (!stored) {
        graph.nodes.push_back(nodes[i]);
        continue;
      }
      const ValueId y = nodes[i].output(0);
      Tensor start = Start(*stored);
      if (quantized_.constant(stored->values)->dtype() == DType::i32) {
        stored->parameter = y;
        graph.value(y).type = {DType::f32, ToShape(start.dims())};
        graph.constants.emplace(y, std::move(start));
        biases_[y] = *stored;
      } else {
        stored->parameter = graph.AddConstant(NameOf(*stored), std::move(start));
        Round(builder, *stored, y);
        weights_[y] = *stored;
      }
    }
    MINIM_TRY(builder.status());
    if (weights_.empty())
      return Unsupported(
          "no weight is quantized: there is no DequantizeLinear of constant int8 values");
    MINIM_TRY(EliminateDeadCode(graph, {}));
    MINIM_TRY(Verify(graph));
    return graph;
  }

  // `quantized` with what was trained.
  Result<Graph> Close(const Graph& trained) const {
    Graph graph = quantized_;
    std::map<ValueId, std::vector<float>> least = LeastScales(trained);
    std::map<ValueId, std::vector<float>> scales;
    for (const auto& [y, weight] : weights_) {
      const QuantizedWeights rounded =
          QuantizeWeights(*trained.constant(weight.parameter), weight.axis, least[y]);
      const Dims dims = graph.constant(weight.scale)->dims();
      Put(graph, weight.node, 0, rounded.values);
      Put(graph, weight.node, 1, Tensor::From<float>(dims, std::span<const float>(rounded.scales)));
      scales[y] = rounded.scales;
    }
    for (const auto& [y, bias] : biases_) CloseBias(trained, y, bias, scales, graph);
    MINIM_TRY(EliminateDeadCode(graph, {}));
    MINIM_TRY(Verify(graph));
    return graph;
  }

 private:
  std::string NameOf(const Stored& stored) const {
    std::string name = quantized_.value(stored.values).name;
    if (name.ends_with(kSuffix)) name.resize(name.size() - kSuffix.size());
    return name;
  }

  // What the integers were made of, if it can be found.
  Tensor Start(const Stored& stored) const {
    const Tensor& values = *quantized_.constant(stored.values);
    const Tensor* made_of = prepared_.constant(prepared_.FindValue(NameOf(stored)));
    if (made_of != nullptr && made_of->dtype() == DType::f32 && made_of->dims() == values.dims())
      return made_of->Clone();
    return Dequantized(values, *quantized_.constant(stored.scale), stored.axis);
  }

  // y = round(w / s) s with s = max|w| / 127.
  static void Round(Builder& b, const Stored& weight, ValueId y) {
    const ValueId w = weight.parameter;
    const int rank = b.rank(w);
    std::vector<int64_t> axes;
    for (int axis = 0; axis < rank; ++axis)
      if (axis != weight.axis) axes.push_back(axis);
    const Attributes flat = {{"keepdims", int64_t{0}}};
    const ValueId most = b.Emit("ReduceMax", {b.Emit("Abs", {w}), b.Ints(axes)}, flat);
    const ValueId step = b.Div(most, b.Scalar(127, DType::f32));
    const ValueId scale = b.Emit("Max", {step, b.Scalar(1e-30, DType::f32)});  // of zeros only
    const bool whole = weight.axis < 0;
    const ValueId zero =
        b.Constant(Tensor(DType::i8, whole ? Dims() : Dims{b.type(w).dims()[weight.axis]}));
    const Attributes axis = {{"axis", int64_t{whole ? 0 : weight.axis}}};
    const ValueId q = b.Emit("QuantizeLinear", {w, scale, zero}, axis);
    b.graph().AddNode("DequantizeLinear", {q, scale, zero}, 0, axis).outputs = {y};
  }

  // The layer that reads a bias; null if it is not the one that reads stored weights too.
  const Node* LayerOf(ValueId bias) const {
    for (const Node& node : quantized_.nodes)
      if (node.input(2) == bias && weights_.contains(node.input(1))) return &node;
    return nullptr;
  }

  // The scale of what a layer multiplies its weights with; 0 if it is not quantized per tensor.
  float InputScale(const Node& layer) const {
    for (const Node& node : quantized_.nodes) {
      if (!node.Is("DequantizeLinear") || node.output(0) != layer.input(0)) continue;
      const Tensor* scale = quantized_.constant(node.input(1));
      if (scale != nullptr && scale->dtype() == DType::f32 && scale->size() == 1)
        return scale->as<float>()[0];
    }
    return 0;
  }

  // Below these scales of weights, biases would overflow their integers.
  std::map<ValueId, std::vector<float>> LeastScales(const Graph& trained) const {
    std::map<ValueId, std::vector<float>> least;
    for (const auto& [y, bias] : biases_) {
      const Node* layer = LayerOf(y);
      const float x_scale = layer == nullptr ? 0 : InputScale(*layer);
      if (x_scale <= 0) continue;
      std::vector<float>& scales = least[layer->input(1)];
      for (float value : trained.constant(bias.parameter)->as<float>())
        scales.push_back(std::fabs(value) / (kMostBias * x_scale));
      if (weights_.at(layer->input(1)).axis < 0)
        scales = {*std::max_element(scales.begin(), scales.end())};
    }
    return least;
  }

  // At the scale s_x * s_w of its layer, or where it has none at the scale that it had.
  void CloseBias(const Graph& trained, ValueId y, const Stored& bias,
                 const std::map<ValueId, std::vector<float>>& scales, Graph& graph) const {
    const Tensor& values = *trained.constant(bias.parameter);
    const Node* layer = LayerOf(y);
    const float x_scale = layer == nullptr ? 0 : InputScale(*layer);
    Tensor scale = graph.constant(bias.scale)->Clone();
    if (x_scale > 0) {
      const std::vector<float>& of_weights = scales.at(layer->input(1));
      const auto count = static_cast<int64_t>(of_weights.size());
      for (int64_t c = 0; c < scale.size(); ++c)
        scale.as<float>()[c] = x_scale * of_weights[static_cast<size_t>(count == 1 ? 0 : c)];
    }
    Tensor rounded(DType::i32, values.dims());
    for (int64_t i = 0; i < values.size(); ++i) {
      const float steps =
          std::nearbyint(values.as<float>()[i] / ScaleAt(scale, values.dims(), bias.axis, i));
      rounded.as<int32_t>()[i] = static_cast<int32_t>(std::clamp(steps, -kMostBias, kMostBias));
    }
    Put(graph, bias.node, 0, rounded);
    Put(graph, bias.node, 1, scale);
  }

  // Replaces a constant for this node alone.
  static void Put(Graph& graph, size_t node, size_t input, const Tensor& tensor) {
    const ValueId old = graph.nodes[node].inputs[input];
    if (graph.UseCounts()[old] == 1) {
      graph.constants.at(old) = tensor;
      return;
    }
    const ValueId fresh = graph.AddConstant(graph.value(old).name, tensor);
    graph.nodes[node].inputs[input] = fresh;
  }

  const Graph& prepared_;
  const Graph& quantized_;
  std::map<ValueId, Stored> weights_, biases_;  // by the dequantized value
};

}  // namespace

Result<FineTuned> FineTuneQuantized(const Graph& prepared, const Graph& quantized,
                                    DataSource& train, const FineTuneOptions& options) {
  QuantizedTraining training(prepared, quantized);
  MINIM_TRY(const Graph graph, training.Open());
  MINIM_TRY(FineTuned tuned, FineTune(graph, train, options));
  MINIM_TRY(tuned.graph, training.Close(tuned.graph));
  return tuned;
}

}  // namespace minim
