// Networks that normalize before they convolve scale, shift and rectify images with the channels
// last, which they often put together for that alone: one ConcatScale from where the parts lie.
#include <algorithm>
#include <optional>

#include "passes/neighbours.h"
#include "passes/passes.h"

namespace minim {
namespace {

// What a FusedElementwise does if it is x * scale + shift, perhaps with a Relu after it, in FP32:
// values outside the body.
struct Scaling {
  ValueId x = kNoValue, scale = kNoValue, shift = kNoValue;
  bool rectifies = false;
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
  bool Fits(const Scaling& s, const Node& node) const {
    const TensorType &x = graph_.type(s.x), &y = graph_.type(node.output(0));
    return (x.dtype == DType::f32 || x.dtype == DType::bf16) && y.dtype == x.dtype && x.Static() &&
           x.dims() == y.dims() && graph_.constant(s.x) == nullptr;
  }

  // The images that a value is put together from, side by side in the last axis.
  void AppendParts(ValueId id, std::vector<ValueId>* parts) const {
    const Node* concat = near_.Producer(id);
    const int rank = graph_.type(id).rank();
    if (concat == nullptr || !concat->Is("Concat") ||
        (concat->attributes.Int("axis", 0) + rank) % rank != rank - 1)
      return parts->push_back(id);
    for (const ValueId part : concat->inputs) AppendParts(part, parts);
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
    AppendParts(s.x, &node.inputs);
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
