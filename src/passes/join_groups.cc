#include <cstring>

#include "passes/neighbours.h"
#include "passes/passes.h"

namespace minim {
namespace {

// Products by tiles cost a sixteenth of those of floats: more groups multiply too many zeros.
constexpr int64_t kMostGroups = 8;

bool IsConv(const Node& node) { return node.Is("Conv") || node.Is("FusedConv", kMicrosoftDomain); }

// A Reshape to g groups, their transposition, and a Reshape back, each read by the next alone.
struct Shuffle {
  int group = -1, turn = -1, join = -1;  // nodes
  int64_t groups = 1;
};

class GroupJoiner {
 public:
  explicit GroupJoiner(Graph& graph) : graph_(graph), near_(graph) {}

  bool Run() {
    bool changed = false;
    std::vector<bool> gone(graph_.nodes.size(), false);
    for (Node& node : graph_.nodes) {
      if (!Joins(node)) continue;
      node.inputs[1] = Joined(node);
      node.attributes.Set("group", int64_t{1});
      changed = true;
      const Shuffle shuffle = ShuffleAfter(node);
      if (shuffle.groups == 1) continue;
      for (int i : {1, 2})
        if (node.input(i) != kNoValue) node.inputs[i] = ShuffledRows(node.input(i), shuffle.groups);
      gone[shuffle.group] = gone[shuffle.turn] = gone[shuffle.join] = true;
      node.outputs = graph_.nodes[shuffle.join].outputs;
    }
    std::vector<Node> nodes = std::exchange(graph_.nodes, {});
    for (size_t i = 0; i < nodes.size(); ++i)
      if (!gone[i]) graph_.nodes.push_back(std::move(nodes[i]));
    return changed;
  }

 private:
  bool Joins(const Node& node) const {
    if (!IsConv(node)) return false;
    const int64_t groups = node.attributes.Int("group", 1);
    const Tensor *w = graph_.constant(node.input(1)), *bias = graph_.constant(node.input(2));
    return w != nullptr && w->dtype() == DType::f32 && w->dims().rank() == 4 && groups > 1 &&
           groups <= kMostGroups && w->dims()[1] > 1 && w->dims()[0] % groups == 0 &&
           (node.input(2) == kNoValue || bias != nullptr);
  }

  // Filters of all channels: zeros for those of other groups.
  ValueId Joined(const Node& node) {
    const Tensor& w = *graph_.constant(node.input(1));
    const Dims& d = w.dims();
    const int64_t groups = node.attributes.Int("group", 1), taps = d[2] * d[3];
    Tensor joined(DType::f32, {d[0], d[1] * groups, d[2], d[3]});
    std::memset(joined.data(), 0, joined.bytes());
    for (int64_t f = 0; f < d[0]; ++f) {
      const int64_t group = f / (d[0] / groups);
      std::memcpy(joined.as<float>().data() + (f * groups + group) * d[1] * taps,
                  w.as<float>().data() + f * d[1] * taps,
                  static_cast<size_t>(d[1] * taps) * sizeof(float));
    }
    return graph_.AddConstant(graph_.value(node.input(1)).name + "_joined", std::move(joined));
  }

  // Channels [g, k] in the order of [k, g].
  ValueId ShuffledRows(ValueId id, int64_t groups) {
    const Tensor& from = *graph_.constant(id);
    const int64_t rows = from.dims()[0], each = rows / groups;
    const size_t bytes = from.bytes() / static_cast<size_t>(rows);
    Tensor to = from.Clone();
    for (int64_t g = 0; g < groups; ++g)
      for (int64_t k = 0; k < each; ++k)
        std::memcpy(static_cast<std::byte*>(to.data()) + (k * groups + g) * bytes,
                    static_cast<const std::byte*>(from.data()) + (g * each + k) * bytes, bytes);
    return graph_.AddConstant(graph_.value(id).name + "_shuffled", std::move(to));
  }

  bool Known(ValueId id, int axis) const {
    return graph_.type(id).ranked() && axis < graph_.type(id).rank() &&
           (*graph_.type(id).shape)[axis].known();
  }
  int64_t Size(ValueId id, int axis) const { return (*graph_.type(id).shape)[axis].value(); }

  // Of the channels of the node's result; one of 1 group if there is none, or the node adds a value
  // whose channels would have to follow.
  Shuffle ShuffleAfter(const Node& node) const {
    const ValueId y = node.output(0);
    Shuffle s{.group = near_.SoleReader(y)};
    if (node.input(3) != kNoValue || s.group < 0 || !graph_.nodes[s.group].Is("Reshape") ||
        graph_.nodes[s.group].input(0) != y)
      return {};
    const ValueId parts = graph_.nodes[s.group].output(0);
    s.turn = near_.SoleReader(parts);
    if (s.turn < 0 || !graph_.nodes[s.turn].Is("Transpose") ||
        graph_.nodes[s.turn].attributes.Ints("perm") != std::vector<int64_t>{0, 2, 1, 3, 4})
      return {};
    s.join = near_.SoleReader(graph_.nodes[s.turn].output(0));
    if (s.join < 0 || !graph_.nodes[s.join].Is("Reshape") ||
        graph_.nodes[s.join].input(0) != graph_.nodes[s.turn].output(0))
      return {};
    const ValueId joined = graph_.nodes[s.join].output(0);
    if (!graph_.type(parts).ranked() || graph_.type(parts).rank() != 5 ||
        !graph_.type(y).ranked() || graph_.type(y).rank() != 4 ||
        graph_.type(joined).shape != graph_.type(y).shape)
      return {};
    for (const int axis : {1, 2, 3, 4})
      if (!Known(parts, axis) || (axis < 4 && !Known(y, axis))) return {};
    if (Size(parts, 1) * Size(parts, 2) != Size(y, 1) || Size(parts, 3) != Size(y, 2) ||
        Size(parts, 4) != Size(y, 3))
      return {};
    s.groups = Size(parts, 1);
    return s;
  }

  Graph& graph_;
  const Neighbours near_;
};

}  // namespace

Result<bool> JoinGroups(Graph& graph, const PassContext& context) {
  if (context.precision != DType::bf16 || context.isa < Isa::kAmx) return false;
  return GroupJoiner(graph).Run();
}

}  // namespace minim
