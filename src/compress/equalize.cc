#include "compress/equalize.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "compress/value_choice.h"
#include "compress/weight_codes.h"
#include "passes/passes.h"

namespace minim {
namespace {

constexpr int kSweeps = 20;          // chains converge in a few
constexpr double kSettled = 1e-3;    // no factor is further from 1
constexpr double kMostFactor = 1e4;  // keeps squares far from the ends of FP32

struct Pair {
  int first = -1, second = -1;
  std::vector<int> adds;  // biases between them
};

class Equalizer {
 public:
  explicit Equalizer(Graph& graph) : graph_(graph), uses_(graph.UseCounts()) {
    readers_.resize(graph.values.size(), -1);
    for (size_t i = 0; i < graph.nodes.size(); ++i)
      for (ValueId id : graph.nodes[i].inputs)
        if (id != kNoValue) readers_[id] = static_cast<int>(i);
  }

  int Run() {
    const std::vector<Pair> pairs = FindPairs();
    std::vector<bool> changed(pairs.size(), false);
    for (int sweep = 0; sweep < kSweeps; ++sweep) {
      double furthest = 0;
      for (size_t i = 0; i < pairs.size(); ++i) {
        const double moved = Equalize(pairs[i]);
        changed[i] = changed[i] || moved > 0;
        furthest = std::max(furthest, moved);
      }
      if (furthest < kSettled) break;
    }
    return static_cast<int>(std::count(changed.begin(), changed.end(), true));
  }

 private:
  std::vector<Pair> FindPairs() const {
    std::vector<Pair> pairs;
    for (size_t i = 0; i < graph_.nodes.size(); ++i) {
      if (ChannelAxis(graph_, graph_.nodes[i]) < 0) continue;
      Pair pair{.first = static_cast<int>(i)};
      if (FollowTo(pair) && Matches(pair)) pairs.push_back(pair);
    }
    return pairs;
  }

  // From the first op through what scales with its channels to the next op with weights.
  bool FollowTo(Pair& pair) const {
    ValueId y = graph_.nodes[pair.first].output(0);
    while (uses_[y] == 1 && readers_[y] >= 0) {
      const int next = readers_[y];
      const Node& node = graph_.nodes[next];
      if (ChannelAxis(graph_, node) >= 0) {
        pair.second = next;
        return node.input(0) == y;
      }
      if (IsChannelBias(node, y)) {
        pair.adds.push_back(next);
      } else if (!Homogeneous(node, graph_.nodes[pair.first].Is("Conv"))) {
        return false;
      }
      y = node.output(0);
    }
    return false;
  }

  // Whether scaling a channel of the input by s > 0 scales the same channel of the output.
  static bool Homogeneous(const Node& node, bool image) {
    constexpr std::string_view kPools[] = {"MaxPool", "AveragePool", "GlobalAveragePool",
                                           "GlobalMaxPool"};
    if (!node.domain.empty() || node.output(1) != kNoValue) return false;
    if (node.op == "Relu" || node.op == "LeakyRelu" || node.op == "Identity") return true;
    return image && std::find(std::begin(kPools), std::end(kPools), node.op) != std::end(kPools);
  }

  // An Add of one constant per channel behind a Gemm or MatMul.
  bool IsChannelBias(const Node& add, ValueId y) const {
    const Tensor* bias = BiasOf(add, y);
    return bias != nullptr && graph_.type(y).ranked() &&
           bias->dims().rank() <= graph_.type(y).rank();
  }

  const Tensor* BiasOf(const Node& add, ValueId y) const {
    if (!add.Is("Add")) return nullptr;
    const Tensor* bias = graph_.constant(add.input(add.input(0) == y ? 1 : 0));
    const bool row = bias != nullptr && bias->dtype() == DType::f32 && bias->dims().rank() > 0 &&
                     bias->dims()[bias->dims().rank() - 1] == bias->size();
    return row ? bias : nullptr;
  }

  const Tensor& WeightsOf(int node) const { return *graph_.constant(graph_.nodes[node].input(1)); }
  int64_t GroupsOf(int node) const { return graph_.nodes[node].attributes.Int("group", 1); }

  // The channels that one makes are those that the other reads, each kind on its own axis.
  bool Matches(const Pair& pair) const {
    const Node &first = graph_.nodes[pair.first], &second = graph_.nodes[pair.second];
    if (first.Is("Conv") != second.Is("Conv")) return false;
    if (first.Is("Conv") && !pair.adds.empty()) return false;
    const int64_t channels = WeightsOf(pair.first).dims()[ChannelAxis(graph_, first)];
    const int axis = 1 - ChannelAxis(graph_, second);
    for (int add : pair.adds) {
      const Tensor* bias = graph_.constant(ConstantSide(add));
      if (bias->size() != channels) return false;
    }
    const Tensor* bias = first.input(2) == kNoValue ? nullptr : graph_.constant(first.input(2));
    const bool fits = bias == nullptr || (bias->size() == channels &&
                                          bias->dims()[bias->dims().rank() - 1] == channels);
    return fits && WeightsOf(pair.second).dims()[axis] * GroupsOf(pair.second) == channels;
  }

  ValueId ConstantSide(int add) const {
    const Node& node = graph_.nodes[add];
    return node.input(graph_.constant(node.input(1)) != nullptr ? 1 : 0);
  }

  // f(channel, first element, elements) for runs of the weights that make a channel.
  template <typename F>
  void ForEachMade(int node, F&& f) const {
    ChannelRuns(WeightsOf(node).dims(), ChannelAxis(graph_, graph_.nodes[node])).ForEach(f);
  }

  // The same for the weights that read it.
  template <typename F>
  void ForEachRead(int node, F&& f) const {
    const Dims& dims = WeightsOf(node).dims();
    const int axis = 1 - ChannelAxis(graph_, graph_.nodes[node]);
    const int64_t groups = GroupsOf(node), inner = dims.Elements(2, dims.rank());
    if (axis == 0) {  // [in, out]
      for (int64_t c = 0; c < dims[0]; ++c) f(c, c * dims[1] * inner, dims[1] * inner);
      return;
    }
    for (int64_t out = 0; out < dims[0]; ++out) {  // [out, in of the group, ...]
      const int64_t before = out / (dims[0] / groups) * dims[1];
      for (int64_t k = 0; k < dims[1]; ++k) f(before + k, (out * dims[1] + k) * inner, inner);
    }
  }

  // The factor furthest from 1, less 1.
  double Equalize(const Pair& pair) {
    const int64_t channels =
        WeightsOf(pair.first).dims()[ChannelAxis(graph_, graph_.nodes[pair.first])];
    std::vector<float> made(static_cast<size_t>(channels), 0), read = made;
    const auto most = [](const Tensor& weights, std::vector<float>& into) {
      return [&weights, &into](int64_t c, int64_t first, int64_t n) {
        for (float w : weights.as<float>().subspan(first, n))
          into[c] = std::max(into[c], std::fabs(w));
      };
    };
    ForEachMade(pair.first, most(WeightsOf(pair.first), made));
    ForEachRead(pair.second, most(WeightsOf(pair.second), read));
    std::vector<double> factors(made.size(), 1);
    double furthest = 0;
    for (size_t c = 0; c < made.size(); ++c) {
      if (!(made[c] > 0 && read[c] > 0)) continue;
      const double s = std::sqrt(static_cast<double>(made[c]) / read[c]);
      factors[c] = std::clamp(s, 1 / kMostFactor, kMostFactor);
      furthest = std::max(furthest, std::max(factors[c], 1 / factors[c]) - 1);
    }
    if (furthest >= kSettled) Apply(pair, factors);
    return furthest >= kSettled ? furthest : 0;
  }

  void Apply(const Pair& pair, const std::vector<double>& factors) {
    const auto scale = [&](Tensor& t, bool divide) {
      return [&t, &factors, divide](int64_t c, int64_t first, int64_t n) {
        for (float& w : t.as<float>().subspan(first, n))
          w = static_cast<float>(divide ? w / factors[c] : w * factors[c]);
      };
    };
    Tensor made = WeightsOf(pair.first).Clone(), read = WeightsOf(pair.second).Clone();
    ForEachMade(pair.first, scale(made, true));
    ForEachRead(pair.second, scale(read, false));
    Replace(pair.first, 1, std::move(made));
    Replace(pair.second, 1, std::move(read));
    const auto divide_bias = [&](int node, int input) {
      Tensor bias = graph_.constant(graph_.nodes[node].input(input))->Clone();
      const auto run = scale(bias, true);
      for (int64_t c = 0; c < bias.size(); ++c) run(c, c, 1);
      Replace(node, input, std::move(bias));
    };
    if (graph_.nodes[pair.first].input(2) != kNoValue) divide_bias(pair.first, 2);
    for (int add : pair.adds)
      divide_bias(add, ConstantSide(add) == graph_.nodes[add].input(1) ? 1 : 0);
  }

  // In place, or beside the old tensor where another node reads that too.
  void Replace(int node, int input, Tensor tensor) {
    ValueId& id = graph_.nodes[node].inputs[input];
    if (uses_[id] == 1) {
      graph_.constants[id] = std::move(tensor);
      return;
    }
    --uses_[id];
    id = graph_.AddConstant(graph_.value(id).name, std::move(tensor));
    uses_.push_back(1);
    readers_.push_back(node);
  }

  Graph& graph_;
  std::vector<int> uses_, readers_;
};

}  // namespace

Result<int> EqualizeWeights(Graph& prepared) {
  const int changed = Equalizer(prepared).Run();
  if (changed > 0) MINIM_TRY(Verify(prepared));
  return changed;
}

}  // namespace minim
