// Group normalization as exporters write it, an InstanceNormalization between two Reshapes and a
// scale and shift of each channel, becomes one GroupNorm.
#include <algorithm>
#include <map>
#include <optional>

#include "passes/neighbours.h"
#include "passes/passes.h"

namespace minim {
namespace {

struct GroupNorm {
  ValueId x = kNoValue;             // the image
  bool widened = false;             // it is BF16, the result FP32
  std::vector<double> gamma, beta;  // by channel
  bool silu = false;
  int last = -1;  // the node whose output it makes
};

class GroupNormFuser {
 public:
  explicit GroupNormFuser(Graph& graph) : graph_(graph), near_(graph) {}

  bool Run() {
    std::map<int, Node> before;  // Casts to come before nodes
    bool changed = false;
    for (size_t i = 0; i < graph_.nodes.size(); ++i) {
      if (!graph_.nodes[i].Is("InstanceNormalization")) continue;
      std::optional<GroupNorm> norm = Match(graph_.nodes[i]);
      if (!norm) continue;
      Replace(graph_.nodes[i], *std::move(norm), &before);
      changed = true;
    }
    if (before.empty()) return changed;
    const std::vector<Node> nodes = std::exchange(graph_.nodes, {});
    for (size_t i = 0; i < nodes.size(); ++i) {
      if (const auto cast = before.find(static_cast<int>(i)); cast != before.end())
        graph_.nodes.push_back(cast->second);
      graph_.nodes.push_back(nodes[i]);
    }
    return true;
  }

 private:
  const Node* NodeAt(int index) const { return index < 0 ? nullptr : &graph_.nodes[index]; }
  bool IsCast(const Node& node, DType from, DType to) const {
    return node.Is("Cast") && graph_.type(node.input(0)).dtype == from &&
           graph_.type(node.output(0)).dtype == to;
  }

  std::optional<GroupNorm> Match(const Node& instance) const {
    const TensorType& grouped = graph_.type(instance.input(0));
    if (!grouped.Static() || grouped.dtype != DType::f32 || grouped.dims().Elements() == 0)
      return std::nullopt;
    GroupNorm norm{.x = instance.input(0)};
    if (!MatchImage(&norm)) return std::nullopt;
    const TensorType& image = graph_.type(norm.x);
    const int64_t channels = image.rank() < 3 ? 0 : image.dims()[1], groups = grouped.dims()[1];
    if (channels % std::max<int64_t>(1, groups) != 0 || image.dims()[0] != grouped.dims()[0] ||
        channels < groups)
      return std::nullopt;
    const auto scale = PerChannel(instance.input(1), groups),
               bias = PerChannel(instance.input(2), groups);
    norm.last = near_.SoleReader(instance.output(0));
    const Node* back = NodeAt(norm.last);
    if (!scale || !bias || back == nullptr || !back->Is("Reshape") ||
        !graph_.type(back->output(0)).Static() ||
        graph_.type(back->output(0)).dims() != image.dims())
      return std::nullopt;
    for (int64_t c = 0; c < channels; ++c) {
      norm.gamma.push_back((*scale)[c * groups / channels]);
      norm.beta.push_back((*bias)[c * groups / channels]);
    }
    TakeScaleAndShift(&norm);
    TakeSilu(&norm);
    TakeNarrowing(&norm);
    return norm;
  }

  // From what is normalized up to the image: one Reshape and perhaps a Cast.
  bool MatchImage(GroupNorm* norm) const {
    bool reshaped = false;
    for (const Node* node = near_.Producer(norm->x); node != nullptr;
         node = near_.Producer(norm->x)) {
      const bool widens = !norm->widened && IsCast(*node, DType::bf16, DType::f32);
      if (!widens && (reshaped || !node->Is("Reshape"))) break;
      widens ? norm->widened = true : reshaped = true;
      norm->x = node->input(0);
    }
    return reshaped && graph_.type(norm->x).Static();
  }

  // Of a constant with a value for each of `count`, or for all of them.
  std::optional<std::vector<double>> PerChannel(ValueId id, int64_t count) const {
    const Tensor* tensor = graph_.constant(id);
    if (tensor == nullptr || (tensor->size() != count && tensor->size() != 1)) return std::nullopt;
    const Tensor wide = Converted(tensor->view(), DType::f64);
    std::vector<double> values(count, wide.as<double>()[0]);
    if (tensor->size() == count) std::copy_n(wide.as<double>().data(), count, values.data());
    return values;
  }
  // The constant beside `id` in a node: scalar, or one value for each channel of the image.
  std::optional<std::vector<double>> Line(const Node& node, ValueId id) const {
    const ValueId other = node.input(node.input(0) == id ? 1 : 0);
    const Tensor* tensor = other == id ? nullptr : graph_.constant(other);
    if (tensor == nullptr) return std::nullopt;
    const Dims image = graph_.type(id).dims(), &dims = tensor->dims();
    const int axis = 1 - image.rank() + dims.rank();  // of the channels, in the constant
    if (dims.rank() > image.rank() ||
        (tensor->size() != 1 && (axis < 0 || dims[axis] != tensor->size())))
      return std::nullopt;
    return PerChannel(other, image[1]);
  }

  void TakeScaleAndShift(GroupNorm* norm) const {
    for (const char* op : {"Mul", "Add"}) {
      const ValueId y = graph_.nodes[norm->last].output(0);
      const int next = near_.SoleReader(y);
      const Node* node = NodeAt(next);
      if (node == nullptr || !node->Is(op)) continue;
      const auto line = Line(*node, y);
      if (!line) return;
      for (size_t c = 0; c < line->size(); ++c) {
        if (node->Is("Mul")) norm->gamma[c] *= (*line)[c];
        norm->beta[c] = node->Is("Mul") ? norm->beta[c] * (*line)[c] : norm->beta[c] + (*line)[c];
      }
      norm->last = next;
    }
  }

  // y * Sigmoid(y)
  void TakeSilu(GroupNorm* norm) const {
    const ValueId y = graph_.nodes[norm->last].output(0);
    const int next = near_.LastReader(y);
    if (near_.Uses(y) != 2 || next < 0 || !graph_.nodes[next].Is("Mul")) return;
    const Node& product = graph_.nodes[next];
    const Node* sigmoid = near_.SoleProducer(product.input(product.input(0) == y ? 1 : 0));
    if (sigmoid == nullptr || !sigmoid->Is("Sigmoid") || sigmoid->input(0) != y) return;
    norm->silu = true;
    norm->last = next;
  }

  void TakeNarrowing(GroupNorm* norm) const {
    if (!norm->widened) return;
    const int next = near_.SoleReader(graph_.nodes[norm->last].output(0));
    if (next < 0 || !IsCast(graph_.nodes[next], DType::f32, DType::bf16)) return;
    norm->widened = false;
    norm->last = next;
  }

  ValueId Constant(const std::vector<double>& values) {
    Tensor tensor(DType::f32, {static_cast<int64_t>(values.size())});
    std::copy(values.begin(), values.end(), tensor.as<float>().data());
    return graph_.AddConstant("", std::move(tensor));
  }

  void Replace(const Node& instance, GroupNorm norm, std::map<int, Node>* before) {
    Node fused{.op = "GroupNorm", .domain = std::string(kMicrosoftDomain)};
    fused.name = instance.name;
    fused.attributes.Set("groups", graph_.type(instance.input(0)).dims()[1]);
    fused.attributes.Set("epsilon", instance.attributes.Float("epsilon", 1e-5f));
    fused.attributes.Set("activation", int64_t{norm.silu});
    fused.attributes.Set("channels_last", int64_t{0});
    if (norm.widened) {
      Node cast{.op = "Cast"};
      cast.attributes.Set("to", int64_t{OnnxId(DType::f32)});
      cast.inputs = {norm.x};
      norm.x = graph_.AddValue("", {DType::f32, graph_.type(norm.x).shape});
      cast.outputs = {norm.x};
      before->emplace(norm.last, std::move(cast));
    }
    fused.inputs = {norm.x, Constant(norm.gamma), Constant(norm.beta)};
    fused.outputs = graph_.nodes[norm.last].outputs;
    graph_.nodes[norm.last] = std::move(fused);
  }

  Graph& graph_;
  const Neighbours near_;
};

}  // namespace

Result<bool> FuseGroupNorm(Graph& graph, const PassContext& context) {
  if (!context.has_kernel("GroupNorm")) return false;
  return GroupNormFuser(graph).Run();
}

}  // namespace minim
