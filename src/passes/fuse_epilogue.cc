#include <algorithm>

#include "passes/passes.h"

namespace minim {
namespace {

// Activations that the fused kernels apply, with their attributes in the order of
// com.microsoft.FusedConv's activation_params.
struct Activation {
  std::string_view op;
  std::vector<std::pair<std::string_view, float>> params;
  bool of_convolutions = true;  // else what stores their sums only clamps
};
const Activation kActivations[] = {
    {"Relu", {}},
    {"Sigmoid", {}},
    {"Tanh", {}},
    {"LeakyRelu", {{"alpha", 0.01f}}},
    {"HardSigmoid", {{"alpha", 0.2f}, {"beta", 0.5f}}},
    {"Gelu", {}, false},
};

class Epilogue {
 public:
  Epilogue(Graph& graph, const PassContext& context) : graph_(graph), context_(context) {}

  bool Run() {
    bool changed = false;
    for (bool again = true; again; changed = changed || again) again = Sweep();
    return changed;
  }

 private:
  bool Sweep() {
    producers_ = graph_.Producers();
    uses_ = graph_.UseCounts();
    std::vector<bool> gone(graph_.nodes.size(), false);
    bool changed = false;
    for (size_t i = 0; i < graph_.nodes.size(); ++i) {
      const Node node = graph_.nodes[i];
      const bool sum = node.Is("Add");
      gone[i] = sum ? FuseBias(node) : FuseActivation(node);
      const int residual = sum && !gone[i] ? FuseResidual(graph_.nodes[i]) : -1;
      if (residual >= 0) gone[residual] = true;
      if (!gone[i] && residual < 0) continue;
      changed = true;
      break;  // producers and uses have moved
    }
    size_t index = 0;
    graph_.RemoveNodes([&](const Node&) { return gone[index++]; });
    return changed;
  }

  // The node that makes `id` for this one reader, or null.
  Node* SoleProducer(ValueId id) {
    if (id == kNoValue || uses_[id] != 1 || producers_[id] < 0) return nullptr;
    return &graph_.nodes[producers_[id]];
  }

  bool Float(ValueId id) const { return graph_.type(id).dtype == DType::f32; }

  // Add(MatMul(x, W), b) with W [K,N], b [N], x of rank 2 becomes Gemm; Add(Conv(x, W), b[C,1,1])
  // becomes a Conv with bias.
  bool FuseBias(const Node& add) {
    for (int side = 0; side < 2; ++side) {
      Node* producer = SoleProducer(add.input(side));
      const Tensor* bias = graph_.constant(add.input(1 - side));
      if (producer == nullptr || bias == nullptr || bias->dtype() != DType::f32) continue;
      if (producer->Is("MatMul") && MatMulBias(*producer, add, add.input(1 - side), *bias))
        return true;
      if (producer->Is("Conv") && ConvBias(*producer, add, *bias)) return true;
    }
    return false;
  }

  bool MatMulBias(Node& matmul, const Node& add, ValueId bias_id, const Tensor& bias) {
    const TensorType& x = graph_.type(matmul.input(0));
    const TensorType& w = graph_.type(matmul.input(1));
    if (!x.ranked() || x.rank() != 2 || !w.Static() || w.rank() != 2 || !Float(matmul.input(0)))
      return false;
    if (bias.dims().rank() != 1 || bias.dims()[0] != w.dims()[1]) return false;
    matmul.op = "Gemm";
    matmul.inputs.push_back(bias_id);
    matmul.outputs = add.outputs;
    return true;
  }

  bool ConvBias(Node& conv, const Node& add, const Tensor& bias) {
    const TensorType& w = graph_.type(conv.input(1));
    if (conv.input(2) != kNoValue || !w.Static() || !Float(conv.input(0))) return false;
    const Dims dims = bias.dims();
    const int spatial = w.rank() - 2;
    const int64_t channels = w.dims()[0];
    const bool per_channel = (dims.rank() == spatial + 1 && dims[0] == channels) ||
                             (dims.rank() == spatial + 2 && dims[0] == 1 && dims[1] == channels);
    if (!per_channel || bias.size() != channels) return false;
    conv.inputs.resize(3, kNoValue);
    conv.inputs[2] = graph_.AddConstant("", bias.Reshaped({channels}));
    conv.outputs = add.outputs;
    return true;
  }

  // Add(Conv(x, W, b), z) becomes, in the place of the Add, a FusedConv that adds z itself. Returns
  // the index of the Conv, or -1.
  int FuseResidual(Node& add) {
    if (!context_.has_kernel("FusedConv")) return -1;
    for (int side = 0; side < 2; ++side) {
      const ValueId y = add.input(side), z = add.input(1 - side);
      const Node* conv = SoleProducer(y);
      if (conv == nullptr || !conv->Is("Conv") || !Float(y) || !SameShape(y, z)) continue;
      const int index = producers_[y];
      Node fused = *conv;
      fused.op = "FusedConv";
      fused.domain = std::string(kMicrosoftDomain);
      fused.inputs.resize(3, kNoValue);
      fused.inputs.push_back(z);
      fused.outputs = add.outputs;
      add = std::move(fused);
      return index;
    }
    return -1;
  }

  bool SameShape(ValueId a, ValueId b) const {
    const TensorType &x = graph_.type(a), &y = graph_.type(b);
    if (!x.ranked() || !y.ranked()) return false;  // two dims that nobody named may still differ
    return std::equal(x.shape->begin(), x.shape->end(), y.shape->begin(), y.shape->end(),
                      [](const Dim& left, const Dim& right) { return left.Same(right); });
  }

  bool FuseActivation(const Node& node) {
    std::vector<float> params;
    bool of_convolutions = true;
    if (!ActivationParams(node, params, of_convolutions)) return false;
    Node* producer = SoleProducer(node.input(0));
    if (producer == nullptr || !Float(node.input(0))) return false;
    const bool added = producer->Is("FusedConv", kMicrosoftDomain) &&
                       producer->attributes.String("activation", "").empty();
    const bool conv = added || producer->Is("Conv"), gemm = producer->Is("Gemm");
    const std::string_view fused = conv ? "FusedConv" : "FusedGemm";
    if ((!conv && !gemm) || (conv && !of_convolutions) || !context_.has_kernel(fused)) return false;
    producer->op = std::string(fused);
    producer->domain = std::string(kMicrosoftDomain);
    producer->attributes.Set("activation", node.op);
    if (conv && !params.empty()) producer->attributes.Set("activation_params", params);
    if (gemm && params.size() > 0) producer->attributes.Set("activation_alpha", params[0]);
    if (gemm && params.size() > 1) producer->attributes.Set("activation_beta", params[1]);
    producer->outputs = node.outputs;
    return true;
  }

  bool ActivationParams(const Node& node, std::vector<float>& params, bool& of_convolutions) const {
    if (!node.domain.empty()) return false;
    if (node.op == "Clip") return ClipParams(node, params);
    if (node.attributes.String("approximate", "none") != "none") return false;
    const auto* it = std::find_if(std::begin(kActivations), std::end(kActivations),
                                  [&](const Activation& a) { return a.op == node.op; });
    if (it == std::end(kActivations)) return false;
    for (const auto& [name, fallback] : it->params)
      params.push_back(node.attributes.Float(name, fallback));
    of_convolutions = it->of_convolutions;
    return true;
  }

  bool ClipParams(const Node& node, std::vector<float>& params) const {
    for (int i = 1; i <= 2; ++i) {
      const Tensor* bound = node.input(i) == kNoValue ? nullptr : graph_.constant(node.input(i));
      if (bound == nullptr || bound->dtype() != DType::f32 || bound->size() != 1) return false;
      params.push_back(bound->as<float>()[0]);
    }
    return true;
  }

  Graph& graph_;
  const PassContext& context_;
  std::vector<int> producers_;
  std::vector<int> uses_;
};

}  // namespace

Result<bool> FuseEpilogue(Graph& graph, const PassContext& context) {
  return Epilogue(graph, context).Run();
}

}  // namespace minim
