#include "train/model_builder.h"

#include <algorithm>
#include <cmath>

#include "core/philox.h"
#include "ops/builder.h"

namespace minim {
namespace {

class LayerWriter {
 public:
  LayerWriter(Graph& graph, uint64_t seed) : builder_(graph), seed_(seed) {}

  Result<ValueId> Write(const std::vector<LayerSpec>& layers, ValueId x) {
    for (const LayerSpec& layer : layers) {
      name_ = fmt::format("layer{}_{}", index_++, layer.kind);
      MINIM_TRY(x, WriteLayer(layer, x));
      if (!builder_.status().ok()) return Annotate(builder_.status(), name_);
    }
    return x;
  }

 private:
  Result<ValueId> WriteLayer(const LayerSpec& layer, ValueId x) {
    if (layer.kind == "relu") return builder_.Emit("Relu", {x});
    if (layer.kind == "sigmoid") return builder_.Emit("Sigmoid", {x});
    if (layer.kind == "tanh") return builder_.Emit("Tanh", {x});
    if (layer.kind == "flatten") return builder_.Emit("Flatten", {x});
    if (layer.kind == "global_average_pool") return builder_.Emit("GlobalAveragePool", {x});
    if (layer.kind == "max_pool") return Pool("MaxPool", layer, x);
    if (layer.kind == "average_pool") return Pool("AveragePool", layer, x);
    if (layer.kind == "batch_norm") return BatchNorm(x);
    if (layer.kind == "dropout") return Dropout(layer, x);
    if (layer.kind == "conv") return Conv(layer, x);
    if (layer.kind == "linear") return Linear(layer, x);
    return InvalidArgument(
        "{}: unknown layer '{}'; expected conv, linear, relu, sigmoid, tanh, max_pool, "
        "average_pool, global_average_pool, batch_norm, dropout or flatten",
        name_, layer.kind);
  }

  // The size of an axis, which must be known.
  Result<int64_t> SizeOfAxis(ValueId x, int axis, int rank) {
    const TensorType& type = builder_.type(x);
    if (!type.ranked() || type.rank() != rank || !(*type.shape)[axis].known())
      return InvalidArgument("{}: needs an input of rank {}, found {}", name_, rank,
                             type.ToString());
    return (*type.shape)[axis].value();
  }

  ValueId Weights(const Dims& dims, int64_t fan_in) {
    Tensor tensor(DType::f32, dims);
    const Philox rng(seed_, static_cast<uint64_t>(index_));
    const float scale = std::sqrt(2.0f / static_cast<float>(fan_in));
    for (int64_t i = 0; i < tensor.size(); ++i) tensor.as<float>()[i] = scale * rng.Normal(i);
    return builder_.graph().AddConstant(name_ + "_weight", std::move(tensor));
  }

  ValueId Filled(const std::string& suffix, int64_t size, float value) {
    Tensor tensor(DType::f32, {size});
    for (float& v : tensor.as<float>()) v = value;
    return builder_.graph().AddConstant(name_ + suffix, std::move(tensor));
  }

  Result<ValueId> Conv(const LayerSpec& layer, ValueId x) {
    MINIM_TRY(const int64_t channels, SizeOfAxis(x, 1, 4));
    if (layer.units < 1 || layer.kernel < 1)
      return InvalidArgument("{}: needs channels and kernel of at least 1", name_);
    const int64_t k = layer.kernel;
    std::vector<ValueId> inputs = {x, Weights({layer.units, channels, k, k}, channels * k * k)};
    if (layer.bias) inputs.push_back(Filled("_bias", layer.units, 0));
    return Slide("Conv", layer, inputs, layer.stride ? layer.stride : 1);
  }

  Result<ValueId> Linear(const LayerSpec& layer, ValueId x) {
    MINIM_TRY(const int64_t features, SizeOfAxis(x, 1, 2));
    if (layer.units < 1) return InvalidArgument("{}: needs at least 1 output", name_);
    std::vector<ValueId> inputs = {x, Weights({layer.units, features}, features)};
    if (layer.bias) inputs.push_back(Filled("_bias", layer.units, 0));
    return builder_.Emit("Gemm", inputs, {{"transB", int64_t{1}}});
  }

  Result<ValueId> Pool(std::string_view op, const LayerSpec& layer, ValueId x) {
    if (layer.kernel < 1) return InvalidArgument("{}: needs a kernel of at least 1", name_);
    return Slide(op, layer, {x}, layer.stride ? layer.stride : layer.kernel);
  }

  // A window that is larger than the image would leave nothing of it.
  Result<ValueId> Slide(std::string_view op, const LayerSpec& layer, std::vector<ValueId> inputs,
                        int64_t stride) {
    const int64_t k = layer.kernel, p = layer.padding;
    const ValueId y = builder_.Emit(op, inputs,
                                    {{"kernel_shape", std::vector<int64_t>{k, k}},
                                     {"strides", std::vector<int64_t>{stride, stride}},
                                     {"pads", std::vector<int64_t>{p, p, p, p}}});
    MINIM_TRY(Annotate(builder_.status(), name_));
    for (const Dim& dim : *builder_.type(y).shape)
      if (dim.known() && dim.value() < 1)
        return InvalidArgument("{}: a kernel of {} does not fit into {}", name_, k,
                               builder_.type(inputs[0]).ToString());
    return y;
  }

  Result<ValueId> Dropout(const LayerSpec& layer, ValueId x) {
    if (!(layer.ratio >= 0 && layer.ratio < 1))
      return InvalidArgument("{}: the ratio is {}, expected at least 0 and below 1", name_,
                             layer.ratio);
    return builder_.Emit("Dropout", {x, builder_.Scalar(layer.ratio, DType::f32)});
  }

  Result<ValueId> BatchNorm(ValueId x) {
    const TensorType& type = builder_.type(x);
    MINIM_TRY(const int64_t channels, SizeOfAxis(x, 1, type.ranked() ? type.rank() : 0));
    return builder_.Emit("BatchNormalization",
                         {x, Filled("_scale", channels, 1), Filled("_shift", channels, 0),
                          Filled("_mean", channels, 0), Filled("_variance", channels, 1)});
  }

  Builder builder_;
  uint64_t seed_;
  int index_ = 0;
  std::string name_;
};

// Outputs of the last layer with units are the model's own.
std::vector<LayerSpec> RoundedUp(std::vector<LayerSpec> layers, int64_t multiple) {
  LayerSpec* last = nullptr;
  for (LayerSpec& layer : layers) {
    if (layer.units < 1) continue;
    if (last != nullptr) last->units = (last->units + multiple - 1) / multiple * multiple;
    last = &layer;
  }
  return layers;
}

}  // namespace

Result<Graph> BuildModel(const ModelSpec& spec, uint64_t seed) {
  if (spec.input.empty() || spec.layers.empty())
    return InvalidArgument("the model needs an input shape and at least one layer");
  Graph graph;
  graph.name = "minim";
  Shape shape = {Dim::Symbol("N")};
  for (int64_t size : spec.input) shape.push_back(size);
  ValueId x = graph.AddInput("input", {DType::f32, shape});
  if (spec.input_scale != 1) {
    Builder builder(graph);
    x = builder.Mul(x, builder.Scalar(spec.input_scale, DType::f32));
  }
  const std::vector<LayerSpec> layers =
      spec.round_up_channels > 1 ? RoundedUp(spec.layers, spec.round_up_channels) : spec.layers;
  MINIM_TRY(const ValueId y, LayerWriter(graph, seed).Write(layers, x));
  // The last value takes the name that clients see.
  const ValueId logits = graph.AddValue("logits", graph.type(y));
  for (ValueId& output : graph.nodes.back().outputs)
    if (output == y) output = logits;
  graph.outputs = {logits};
  return graph;
}

Status Standardize(Graph& graph, const FeatureStatistics& features) {
  const ValueId input = graph.inputs[0];
  const size_t before = graph.nodes.size();
  Builder builder(graph);
  const auto literal = [&](const char* name, const std::vector<double>& values) {
    Tensor tensor(DType::f32, features.shape);
    std::copy(values.begin(), values.end(), tensor.as<float>().begin());
    const ValueId id = graph.AddConstant(name, std::move(tensor));
    graph.literals.insert(id);
    return id;
  };
  const ValueId raw = graph.AddValue("", graph.type(input));  // stands for the input meanwhile
  const ValueId centred = builder.Sub(raw, literal("feature_mean", features.mean));
  const ValueId scaled = builder.Div(centred, literal("feature_deviation", features.deviation));
  MINIM_TRY(builder.status());
  graph.ReplaceUses(input, scaled);
  graph.ReplaceUses(raw, input);
  std::rotate(graph.nodes.begin(), graph.nodes.begin() + static_cast<ptrdiff_t>(before),
              graph.nodes.end());
  return Verify(graph);
}

}  // namespace minim
