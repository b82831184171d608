#include <algorithm>
#include <cmath>

#include "core/dtype.h"
#include "passes/passes.h"

namespace minim {
namespace {

struct Affine {  // y = scale * x + shift, per channel
  std::vector<double> scale, shift;
};

std::optional<Affine> AffineOf(const Graph& graph, const Node& node) {
  if (node.attributes.Int("training_mode", 0) != 0) return std::nullopt;
  std::vector<std::vector<double>> p;
  for (int i = 1; i <= 4; ++i) {
    const Tensor* tensor = graph.constant(node.input(i));
    if (tensor == nullptr) return std::nullopt;
    const Tensor wide = Converted(tensor->view(), DType::f64);
    p.emplace_back(wide.as<double>().begin(), wide.as<double>().end());
  }
  const double epsilon = node.attributes.Float("epsilon", 1e-5f);
  Affine affine;
  for (size_t c = 0; c < p[0].size(); ++c) {
    affine.scale.push_back(p[0][c] / std::sqrt(p[3][c] + epsilon));
    affine.shift.push_back(p[1][c] - p[2][c] * affine.scale.back());
  }
  return affine;
}

Tensor ScaledWeights(const Tensor& weights, const Affine& affine) {
  Tensor scaled = weights.Clone();
  const int64_t per_channel = weights.dims().Elements(1, weights.dims().rank());
  for (int64_t i = 0; i < scaled.size(); ++i)
    scaled.as<float>()[i] =
        static_cast<float>(weights.as<float>()[i] * affine.scale[i / per_channel]);
  return scaled;
}

Tensor ScaledBias(const Tensor* bias, const Affine& affine) {
  Tensor result(DType::f32, {static_cast<int64_t>(affine.scale.size())});
  for (size_t c = 0; c < affine.scale.size(); ++c) {
    const double before = bias == nullptr ? 0.0 : bias->as<float>()[c];
    result.as<float>()[c] = static_cast<float>(before * affine.scale[c] + affine.shift[c]);
  }
  return result;
}

// The values of a constant f32 [C,1,1] or [1,C,1,1] beside x, one per channel; empty if it is none.
std::vector<double> PerChannel(const Graph& graph, ValueId x, ValueId id) {
  const Tensor* tensor = graph.constant(id);
  if (tensor == nullptr || tensor->dtype() != DType::f32 || !graph.type(x).ranked()) return {};
  const int rank = graph.type(x).rank(), spatial = rank - 2;
  const Dims& dims = tensor->dims();
  const int axis = dims.rank() - 1 - spatial;  // of the channels
  if (spatial < 1 || dims.rank() > rank || axis < 0 || dims[axis] != tensor->size()) return {};
  return {tensor->as<float>().begin(), tensor->as<float>().end()};
}

// A node that only scales and shifts channels, and the value it does that to.
struct Scaling {
  ValueId x = kNoValue;
  Affine affine;
};

std::optional<Scaling> ScalingOf(const Graph& graph, const Node& node) {
  if (node.Is("BatchNormalization")) {
    auto affine = AffineOf(graph, node);
    if (!affine) return std::nullopt;
    return Scaling{node.input(0), std::move(*affine)};
  }
  const bool mul = node.Is("Mul");
  if (!mul && !node.Is("Add")) return std::nullopt;
  for (int side = 0; side < 2; ++side) {
    const ValueId x = node.input(side);
    std::vector<double> values = PerChannel(graph, x, node.input(1 - side));
    if (values.empty() || graph.constant(x) != nullptr) continue;
    const size_t n = values.size();
    if (mul) return Scaling{x, {std::move(values), std::vector<double>(n, 0)}};
    return Scaling{x, {std::vector<double>(n, 1), std::move(values)}};
  }
  return std::nullopt;
}

bool FoldIntoConv(Graph& graph, Node& conv, const Affine& affine) {
  const Tensor* weights = graph.constant(conv.input(1));
  const Tensor* bias = conv.input(2) == kNoValue ? nullptr : graph.constant(conv.input(2));
  if (weights == nullptr || weights->dtype() != DType::f32) return false;
  if (conv.input(2) != kNoValue && (bias == nullptr || bias->dtype() != DType::f32)) return false;
  if (static_cast<int64_t>(affine.scale.size()) != weights->dims()[0]) return false;
  Tensor new_weights = ScaledWeights(*weights, affine), new_bias = ScaledBias(bias, affine);
  conv.inputs.resize(3, kNoValue);
  conv.inputs[1] =
      graph.AddConstant(graph.value(conv.inputs[1]).name + "_bn", std::move(new_weights));
  conv.inputs[2] = graph.AddConstant("", std::move(new_bias));
  return true;
}

// scale and bias of the normalization take over what follows it.
bool FoldIntoNorm(Graph& graph, Node& norm, const Affine& affine) {
  const Tensor *scale = graph.constant(norm.input(1)), *bias = graph.constant(norm.input(2));
  if (norm.attributes.Int("training_mode", 0) != 0 || scale == nullptr || bias == nullptr ||
      scale->dtype() != DType::f32 || bias->dtype() != DType::f32 ||
      scale->size() != static_cast<int64_t>(affine.scale.size()))
    return false;
  Tensor new_scale = ScaledWeights(*scale, affine), new_bias = ScaledBias(bias, affine);
  norm.inputs[1] = graph.AddConstant("", std::move(new_scale));
  norm.inputs[2] = graph.AddConstant("", std::move(new_bias));
  return true;
}

}  // namespace

Result<bool> FoldBatchNorm(Graph& graph, const PassContext&) {
  std::vector<int> producers = graph.Producers();
  const std::vector<int> uses = graph.UseCounts();
  std::vector<bool> gone(graph.nodes.size(), false);
  bool changed = false;
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    const Node node = graph.nodes[i];
    const auto scaling = ScalingOf(graph, node);
    if (!scaling || uses[scaling->x] != 1 || producers[scaling->x] < 0) continue;
    Node& producer = graph.nodes[producers[scaling->x]];
    gone[i] = producer.Is("Conv") ? FoldIntoConv(graph, producer, scaling->affine)
                                  : producer.Is("BatchNormalization") &&
                                        FoldIntoNorm(graph, producer, scaling->affine);
    if (!gone[i]) continue;
    changed = true;
    producer.outputs[0] = node.outputs[0];
    producers[node.outputs[0]] = producers[scaling->x];
  }
  size_t index = 0;
  graph.RemoveNodes([&](const Node&) { return gone[index++]; });
  return changed;
}

Result<bool> LowerBatchNorm(Graph& graph, const PassContext&) {
  const std::vector<Node> nodes = std::exchange(graph.nodes, {});
  bool changed = false;
  for (const Node& node : nodes) {
    const TensorType* x = node.Is("BatchNormalization") ? &graph.type(node.input(0)) : nullptr;
    const bool fits = x && x->dtype == DType::f32 && x->ranked() && x->rank() >= 2;
    const auto affine = fits ? AffineOf(graph, node) : std::nullopt;
    if (!affine) {
      graph.nodes.push_back(node);
      continue;
    }
    Dims dims = Dims::Filled(x->rank() - 1, 1);
    dims[0] = static_cast<int64_t>(affine->scale.size());
    const auto constant = [&](const std::vector<double>& values) {
      Tensor tensor(DType::f32, dims);
      std::copy(values.begin(), values.end(), tensor.as<float>().begin());
      return graph.AddConstant("", std::move(tensor));
    };
    const TensorType type = *x;
    const ValueId scale = constant(affine->scale), shift = constant(affine->shift);
    const ValueId scaled = graph.AddNode("Mul", {node.input(0), scale}, 1).output(0);
    graph.value(scaled).type = type;
    graph.AddNode("Add", {scaled, shift}, 0).outputs = {node.output(0)};
    changed = true;
  }
  return changed;
}

}  // namespace minim
