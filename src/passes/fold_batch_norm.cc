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

bool Fold(Graph& graph, Node& conv, const Node& norm) {
  const Tensor* weights = graph.constant(conv.input(1));
  const Tensor* bias = conv.input(2) == kNoValue ? nullptr : graph.constant(conv.input(2));
  if (weights == nullptr || weights->dtype() != DType::f32) return false;
  if (conv.input(2) != kNoValue && (bias == nullptr || bias->dtype() != DType::f32)) return false;
  const auto affine = AffineOf(graph, norm);
  if (!affine || static_cast<int64_t>(affine->scale.size()) != weights->dims()[0]) return false;
  Tensor new_weights = ScaledWeights(*weights, *affine), new_bias = ScaledBias(bias, *affine);
  conv.inputs.resize(3, kNoValue);
  conv.inputs[1] =
      graph.AddConstant(graph.value(conv.inputs[1]).name + "_bn", std::move(new_weights));
  conv.inputs[2] = graph.AddConstant("", std::move(new_bias));
  conv.outputs[0] = norm.outputs[0];
  return true;
}

}  // namespace

Result<bool> FoldBatchNorm(Graph& graph, const PassContext&) {
  const std::vector<int> producers = graph.Producers();
  const std::vector<int> uses = graph.UseCounts();
  std::vector<bool> gone(graph.nodes.size(), false);
  bool changed = false;
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    const Node norm = graph.nodes[i];
    if (!norm.Is("BatchNormalization") || uses[norm.input(0)] != 1) continue;
    const int producer = producers[norm.input(0)];
    if (producer < 0 || !graph.nodes[producer].Is("Conv")) continue;
    gone[i] = Fold(graph, graph.nodes[producer], norm);
    changed = changed || gone[i];
  }
  size_t index = 0;
  graph.RemoveNodes([&](const Node&) { return gone[index++]; });
  return changed;
}

}  // namespace minim
