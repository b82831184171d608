// Shortcuts around quantized convolutions with the channels last: the sum with another image and
// its quantization are made of a convolution's sums, while these are in registers.
#include <algorithm>
#include <array>
#include <cstring>
#include <optional>

#include "passes/passes.h"

namespace minim {
namespace {

constexpr size_t kInputs = 14, kOwnScale = 6, kOther = 9;

// What a FusedElementwise does if it is Q(DQ(a) + DQ(b)), perhaps with a Relu before Q. Inputs of
// each DQ, then what Q takes besides the sum: values outside the body, kNoValue where left out.
struct Shortcut {
  std::array<std::array<ValueId, 3>, 2> images;
  ValueId scale = kNoValue, zero = kNoValue;
  bool rectifies = false;
};

class Matcher {
 public:
  Matcher(const Node& node, const Graph& body)
      : node_(node), body_(body), producers_(body.Producers()) {}

  std::optional<Shortcut> Match() const {
    if (body_.outputs.size() != 1) return std::nullopt;
    const Node* quantize = Made(body_.outputs[0], "QuantizeLinear");
    if (quantize == nullptr) return std::nullopt;
    const Node* rectify = Made(quantize->input(0), "Relu");
    const ValueId sum = rectify ? rectify->input(0) : quantize->input(0);
    const Node* add = Made(sum, "Add");
    if (add == nullptr || add->inputs.size() != 2 ||
        body_.nodes.size() != (rectify ? size_t{5} : size_t{4}))
      return std::nullopt;
    Shortcut shortcut{.scale = Outside(quantize->input(1)),
                      .zero = Outside(quantize->input(2)),
                      .rectifies = rectify != nullptr};
    for (int i = 0; i < 2; ++i) {
      const Node* dequantize = Made(add->input(i), "DequantizeLinear");
      if (dequantize == nullptr) return std::nullopt;
      for (int k = 0; k < 3; ++k) shortcut.images[i][k] = Outside(dequantize->input(k));
    }
    return shortcut;
  }

 private:
  const Node* Made(ValueId id, std::string_view op) const {
    if (id == kNoValue || producers_[id] < 0) return nullptr;
    const Node& node = body_.nodes[producers_[id]];
    return node.Is(op) ? &node : nullptr;
  }
  ValueId Outside(ValueId id) const {
    const auto at = std::find(body_.inputs.begin(), body_.inputs.end(), id);
    return id == kNoValue || at == body_.inputs.end() ? kNoValue
                                                      : node_.input(at - body_.inputs.begin());
  }

  const Node& node_;
  const Graph& body_;
  const std::vector<int> producers_;
};

class ShortcutFuser {
 public:
  explicit ShortcutFuser(Graph& graph)
      : graph_(graph), producers_(graph.Producers()), uses_(graph.UseCounts()) {
    for (const ValueId id : graph.outputs) ++uses_[id];
  }

  bool Run() {
    std::vector<bool> gone(graph_.nodes.size(), false);
    bool changed = false;
    for (Node& node : graph_.nodes) {
      const auto body = node.subgraphs.find("body");
      if (!node.Is("FusedElementwise", kMinimDomain) || body == node.subgraphs.end()) continue;
      const std::optional<Shortcut> shortcut = Matcher(node, *body->second).Match();
      if (!shortcut) continue;
      // The later of two convolutions: the other one's image is there by then.
      const int first = Fits(*shortcut, 0, node), second = Fits(*shortcut, 1, node);
      if (std::max(first, second) < 0) continue;
      const int conv = std::max(first, second);
      node = Fused(graph_.nodes[conv], node, *shortcut, conv == first ? 1 : 0);
      gone[conv] = changed = true;
    }
    size_t index = 0;
    graph_.RemoveNodes([&](const Node&) { return gone[index++]; });
    return changed;
  }

 private:
  bool Same(ValueId id, ValueId other) const {
    const Tensor *a = graph_.constant(id), *b = graph_.constant(other);
    return a && b && a->dtype() == b->dtype() && a->size() == 1 && b->size() == 1 &&
           std::memcmp(a->data(), b->data(), a->bytes()) == 0;
  }
  bool IsScalar(ValueId id) const {
    const Tensor* tensor = graph_.constant(id);
    return tensor != nullptr && tensor->size() == 1;
  }
  // Left-out zero points are zero.
  bool IsZeroPoint(ValueId id, DType dtype) const {
    return id == kNoValue || (IsScalar(id) && graph_.type(id).dtype == dtype);
  }
  bool IsZero(ValueId id) const {
    if (id == kNoValue) return true;
    const Tensor* tensor = graph_.constant(id);
    return tensor->size() == 1 && *static_cast<const int8_t*>(tensor->data()) == 0;
  }

  // The convolution that alone makes image `i`, and whose kernel takes the other one; else -1.
  int Fits(const Shortcut& s, int i, const Node& node) const {
    const auto [image, scale, zero] = s.images[i];
    const auto [other, other_scale, other_zero] = s.images[1 - i];
    if (image == kNoValue || other == kNoValue || producers_[image] < 0 || uses_[image] != 1)
      return -1;
    const Node& conv = graph_.nodes[producers_[image]];
    const TensorType &y = graph_.type(image), &z = graph_.type(other),
                     &result = graph_.type(node.output(0));
    const bool fits = conv.Is("NhwcQLinearConv", kMinimDomain) && conv.inputs.size() <= kOther &&
                      y.Static() && z.Static() && y.dims() == z.dims() && y.dtype == z.dtype &&
                      y.dtype == result.dtype && graph_.constant(other) == nullptr &&
                      Same(conv.input(kOwnScale), scale) && IsScalar(conv.input(kOwnScale + 1)) &&
                      (zero == kNoValue ? IsZero(conv.input(kOwnScale + 1))
                                        : Same(conv.input(kOwnScale + 1), zero)) &&
                      IsScalar(other_scale) && IsZeroPoint(other_zero, z.dtype) &&
                      IsScalar(s.scale) && IsZeroPoint(s.zero, result.dtype);
    return fits ? producers_[image] : -1;
  }

  ValueId Scalar(ValueId id, DType dtype) {
    if (id == kNoValue) return graph_.AddConstant("", Tensor(dtype, Dims()));
    Tensor scalar = graph_.constant(id)->Reshaped(Dims());
    return graph_.AddConstant("", std::move(scalar));
  }

  Node Fused(Node conv, const Node& sum, const Shortcut& s, int other) {
    const auto [image, scale, zero] = s.images[other];
    const DType dtype = graph_.type(image).dtype;
    conv.inputs.resize(kInputs, kNoValue);
    conv.inputs[kOther] = image;
    conv.inputs[kOther + 1] = Scalar(scale, DType::f32);
    conv.inputs[kOther + 2] = Scalar(zero, dtype);
    conv.inputs[kOther + 3] = Scalar(s.scale, DType::f32);
    conv.inputs[kOther + 4] = Scalar(s.zero, dtype);
    if (s.rectifies) conv.attributes.Set("activation", std::string("Relu"));
    conv.outputs = sum.outputs;
    return conv;
  }

  Graph& graph_;
  const std::vector<int> producers_;
  std::vector<int> uses_;
};

}  // namespace

Result<bool> FuseShortcut(Graph& graph, const PassContext&) { return ShortcutFuser(graph).Run(); }

}  // namespace minim
