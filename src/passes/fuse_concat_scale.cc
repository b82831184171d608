// Networks that normalize before they convolve scale, shift and rectify images with the channels
// last, which they often put together for that alone: one ConcatScale from where the parts lie,
// their bytes dequantized and the result quantized on the way.
#include <algorithm>
#include <optional>

#include "passes/neighbours.h"
#include "passes/passes.h"

namespace minim {
namespace {

constexpr size_t kMostParts = 1024;  // beyond which lists within lists are images of their own

// A scalar scale and a zero point.
struct Steps {
  ValueId scale = kNoValue, zero = kNoValue;
};

// What a FusedElementwise does if it is x * scale + shift, perhaps with a Relu after it, in FP32:
// values outside the body.
struct Scaling {
  ValueId x = kNoValue, scale = kNoValue, shift = kNoValue;
  bool rectifies = false;
  Steps quantized = {};  // of the result, if it is
};

class Matcher {
 public:
  Matcher(const Graph& graph, const Node& node, const Graph& body)
      : graph_(graph), node_(node), body_(body), near_(body) {}

  std::optional<Scaling> Match() const {
    if (body_.outputs.size() != 1) return std::nullopt;
    Scaling found;
    size_t nodes = 0;
    ValueId at = Above(body_.outputs[0], "Cast", &nodes);
    if (const Node* quantize = near_.Producer(at); quantize && quantize->Is("QuantizeLinear")) {
      found.quantized = {Outside(quantize->input(1)), Outside(quantize->input(2))};
      at = Above(at, "QuantizeLinear", &nodes);
    }
    const ValueId rectified = Above(at, "Relu", &nodes);
    found.rectifies = rectified != at;
    at = rectified;
    for (const auto& [op, line] :
         {std::pair("Add", &found.shift), std::pair("Mul", &found.scale)}) {
      const Node* node = near_.Producer(at);
      if (node == nullptr || !node->Is(op)) return std::nullopt;
      const int other = IsLine(Outside(node->input(1))) ? 1 : 0;
      *line = Outside(node->input(other));
      at = node->input(1 - other);
      if (!IsLine(*line)) return std::nullopt;
      ++nodes;
    }
    found.x = Outside(Above(at, "Cast", &nodes));
    if (found.x == kNoValue || nodes != body_.nodes.size()) return std::nullopt;
    return found;
  }

 private:
  // What the node of this op takes, if one makes the value; else the value.
  ValueId Above(ValueId id, std::string_view op, size_t* nodes) const {
    const Node* node = near_.Producer(id);
    if (node == nullptr || !node->Is(op)) return id;
    ++*nodes;
    return node->input(0);
  }
  ValueId Outside(ValueId id) const {
    const auto at = std::find(body_.inputs.begin(), body_.inputs.end(), id);
    return at == body_.inputs.end() ? kNoValue : node_.input(at - body_.inputs.begin());
  }
  // FP32 constants, one for each place of the result's last axis.
  bool IsLine(ValueId id) const {
    const Tensor* tensor = id == kNoValue ? nullptr : graph_.constant(id);
    if (tensor == nullptr || tensor->dtype() != DType::f32 || tensor->dims().rank() == 0)
      return false;
    const Dims& y = graph_.type(node_.output(0)).dims();
    const int64_t channels = y.rank() == 0 ? 0 : y[y.rank() - 1];
    return tensor->size() == channels && tensor->dims()[tensor->dims().rank() - 1] == channels;
  }

  const Graph& graph_;
  const Node& node_;
  const Graph& body_;
  const Neighbours near_;
};

class ConcatScaleFuser {
 public:
  explicit ConcatScaleFuser(Graph& graph) : graph_(graph), near_(graph) {}

  bool Run() {
    bool changed = false;
    for (Node& node : graph_.nodes) {
      const auto body = node.subgraphs.find("body");
      if (!node.Is("FusedElementwise", kMinimDomain) || body == node.subgraphs.end()) continue;
      const std::optional<Scaling> scaling = Matcher(graph_, node, *body->second).Match();
      if (!scaling || !Fits(*scaling, node)) continue;
      node = Fused(*scaling, node);
      changed = true;
    }
    return changed;
  }

 private:
  // Constants by which bytes are quantized as a whole.
  bool AreSteps(const Steps& steps) const {
    const Tensor* scale = graph_.constant(steps.scale);
    const Tensor* zero = steps.zero == kNoValue ? nullptr : graph_.constant(steps.zero);
    return scale != nullptr && scale->size() == 1 && scale->dtype() == DType::f32 &&
           zero != nullptr && zero->size() == 1 && zero->dtype() == DType::u8;
  }
  float ScaleOf(const Steps& s) const { return graph_.constant(s.scale)->as<float>()[0]; }
  int64_t ZeroOf(const Steps& s) const { return graph_.constant(s.zero)->as<uint8_t>()[0]; }

  bool Fits(const Scaling& s, const Node& node) const {
    const TensorType &x = graph_.type(s.x), &y = graph_.type(node.output(0));
    const bool quantizes = s.quantized.scale != kNoValue;
    return (x.dtype == DType::f32 || x.dtype == DType::bf16) &&
           (quantizes ? AreSteps(s.quantized) && x.dtype == DType::f32 && y.dtype == DType::u8
                      : y.dtype == x.dtype) &&
           x.Static() && x.dims() == y.dims() && graph_.constant(s.x) == nullptr;
  }

  // The images that a value is put together from, side by side in the last axis.
  void AppendParts(ValueId id, std::vector<ValueId>* parts) const {
    const Node* concat = near_.Producer(id);
    const int rank = graph_.type(id).rank();
    if (concat == nullptr || !concat->Is("Concat") ||
        (concat->attributes.Int("axis", 0) + rank) % rank != rank - 1 ||
        parts->size() + concat->inputs.size() > kMostParts)
      return parts->push_back(id);
    for (const ValueId part : concat->inputs) AppendParts(part, parts);
  }
  // The DequantizeLinear that makes a part of bytes in FP32; null for others.
  const Node* Dequantizing(ValueId part) const {
    const Node* node = near_.Producer(part);
    return node != nullptr && node->Is("DequantizeLinear") &&
                   graph_.type(part).dtype == DType::f32 &&
                   AreSteps({node->input(1), node->input(2)})
               ? node
               : nullptr;
  }

  ValueId Line(ValueId id) {
    const int64_t channels = graph_.constant(id)->size();
    return graph_.AddConstant("", graph_.constant(id)->Reshaped(Dims{channels}));
  }

  Node Fused(const Scaling& s, const Node& scaling) {
    Node node;
    node.name = scaling.name;
    node.op = "ConcatScale";
    node.domain = std::string(kMinimDomain);
    node.inputs = {Line(s.scale), Line(s.shift)};
    std::vector<ValueId> parts;
    AppendParts(s.x, &parts);
    std::vector<float> scales(parts.size(), 1.0f);
    std::vector<int64_t> zeros(parts.size(), 0);
    for (size_t i = 0; i < parts.size(); ++i) {
      const Node* bytes = Dequantizing(parts[i]);
      if (bytes == nullptr) continue;
      const Steps steps = {bytes->input(1), bytes->input(2)};
      scales[i] = ScaleOf(steps);
      zeros[i] = ZeroOf(steps);
      parts[i] = bytes->input(0);
    }
    node.attributes.Set("x_scales", scales);
    node.attributes.Set("x_zero_points", zeros);
    node.inputs.insert(node.inputs.end(), parts.begin(), parts.end());
    if (s.quantized.scale != kNoValue) {
      node.attributes.Set("y_scale", ScaleOf(s.quantized));
      node.attributes.Set("y_zero_point", ZeroOf(s.quantized));
    }
    node.outputs = scaling.outputs;
    if (s.rectifies) node.attributes.Set("activation", std::string("Relu"));
    return node;
  }

  Graph& graph_;
  const Neighbours near_;
};

}  // namespace

Result<bool> FuseConcatScale(Graph& graph, const PassContext& context) {
  if (context.isa < Isa::kAvx512 || !context.has_kernel("ConcatScale")) return false;
  return ConcatScaleFuser(graph).Run();
}

}  // namespace minim
