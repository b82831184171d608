// Convolutions take their images with the channels last, where whole regions do: between
// transpositions at the edges of a region, and only where its products outweigh these.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <set>

#include "ops/infer.h"
#include "passes/passes.h"

namespace minim {
namespace {

// Multiply-adds that gain as much as the transposition of a byte costs, which takes 0.1 ns. With
// AVX512-VNNI 2 ps of each 5 are saved; in FP32 2 of each 14. BF16 that is not taken so is widened
// around every product, which costs more.
constexpr int64_t kProductsPerByte = 50;

// Of the images of a convolution: its kernel counts them in 32 bits.
constexpr int64_t kMostBytes = INT32_MAX;

const std::vector<int64_t> kToLast = {0, 2, 3, 1}, kToFirst = {0, 3, 1, 2};

Shape Permuted(const Shape& shape, const std::vector<int64_t>& perm) {
  Shape result;
  for (const int64_t axis : perm) result.push_back(shape[axis]);
  return result;
}

class Assigner {
 public:
  Assigner(Graph& graph, const PassContext& context)
      : graph_(graph),
        context_(context),
        producers_(graph.Producers()),
        readers_(graph.values.size()) {
    for (size_t i = 0; i < graph.nodes.size(); ++i)
      for (const ValueId id : graph.nodes[i].inputs)
        if (id != kNoValue) readers_[id].push_back(static_cast<int>(i));
    for (const ValueId id : graph.outputs) read_outside_.insert(id);
    for (const State& state : graph.states) {
      read_outside_.insert(state.next);
      read_outside_.insert(state.commit_if);
    }
  }

  bool Run() {
    in_.assign(graph_.nodes.size(), false);
    bool any = false;
    for (size_t i = 0; i < in_.size(); ++i) {
      in_[i] = Products(graph_.nodes[i]) > 0 || FollowsLayout(graph_.nodes[i]);
      any |= Products(graph_.nodes[i]) > 0;
    }
    if (!any) return false;
    while (Shrink()) continue;
    if (!DropRegionsThatDoNotPay()) return false;
    Rewrite();
    return true;
  }

 private:
  bool IsImage(ValueId id) const {
    if (id == kNoValue) return false;
    const TensorType& type = graph_.type(id);
    return type.Static() && type.rank() == 4 && graph_.constant(id) == nullptr;
  }
  int64_t Bytes(ValueId id) const {
    return graph_.type(id).dims().Elements() * static_cast<int64_t>(SizeOf(graph_.type(id).dtype));
  }

  // Constant filters of a convolution that its kernel takes with the channels last; else null.
  const Tensor* FiltersOf(const Node& node) const {
    const bool floats = IsFloatConv(node);
    if (!floats && !IsByteConv(node)) return nullptr;
    return IsImage(node.input(0)) && Bytes(node.input(0)) <= kMostBytes && IsImage(node.output(0))
               ? graph_.constant(node.input(floats ? 1 : 3))
               : nullptr;
  }
  // Multiply-adds of such a convolution, unless it has groups.
  int64_t Products(const Node& node) const {
    const Tensor* w = FiltersOf(node);
    if (w == nullptr || node.attributes.Int("group", 1) != 1) return 0;
    const Dims y = graph_.type(node.output(0)).dims();
    return y.Elements() * (w->size() / std::max<int64_t>(1, w->dims()[0]));
  }
  bool IsByteConv(const Node& node) const {
    if (!node.Is("QLinearConv") || !HasKernel(Isa::kAvx512Vnni, "NhwcQLinearConv")) return false;
    const Tensor *w = graph_.constant(node.input(3)), *zeros = graph_.constant(node.input(5));
    if (w == nullptr || zeros == nullptr || w->dtype() != DType::i8 ||
        graph_.type(node.input(0)).dtype != DType::u8)
      return false;
    const auto* zero = static_cast<const int8_t*>(zeros->data());
    return std::all_of(zero, zero + zeros->size(), [](int8_t z) { return z == 0; });
  }
  bool IsFloatConv(const Node& node) const {
    if (!node.Is("Conv") && !node.Is("FusedConv", kMicrosoftDomain)) return false;
    const std::string activation = node.attributes.String("activation", "Relu");
    const ValueId sum = node.input(3);
    const DType dtype = graph_.type(node.input(0)).dtype;
    return HasKernel(dtype == DType::bf16 ? Isa::kAvx512Bf16 : Isa::kAvx512, "NhwcFusedConv") &&
           (dtype == DType::f32 || dtype == DType::bf16) &&
           (activation == "Relu" || activation == "Clip") &&
           (sum == kNoValue || (IsImage(sum) && graph_.type(node.output(0)).Static() &&
                                graph_.type(sum).dims() == graph_.type(node.output(0)).dims()));
  }
  bool HasKernel(Isa isa, std::string_view op) const {
    return context_.isa >= isa && context_.has_kernel(op);
  }

  // A constant that images are broadcast with, whose elements lie along one axis at most.
  bool IsLine(ValueId id) const {
    const Tensor* tensor = graph_.constant(id);
    if (tensor == nullptr || tensor->dims().rank() < 3 || tensor->dims().rank() > 4) return false;
    return std::find(tensor->dims().begin(), tensor->dims().end(), tensor->size()) !=
           tensor->dims().end();
  }

  // Each element of the result comes from those of the inputs at the same place, of a line, or a
  // scalar.
  bool IsElementwise(const Node& node) const {
    static const std::set<std::string> kOps = {
        "Add", "Mul", "Sub", "Relu", "Sigmoid", "Cast", "QuantizeLinear", "DequantizeLinear"};
    if (!node.Is("FusedElementwise", kMinimDomain) &&
        !(node.domain.empty() && kOps.contains(node.op)))
      return false;
    const Dims dims = graph_.type(node.output(0)).dims();
    const auto same = [&](ValueId id) { return IsImage(id) && graph_.type(id).dims() == dims; };
    return std::all_of(node.outputs.begin(), node.outputs.end(), same) &&
           std::all_of(node.inputs.begin(), node.inputs.end(), [&](ValueId id) {
             return id == kNoValue || same(id) || IsLine(id) ||
                    (graph_.type(id).Static() && graph_.type(id).dims().Elements() == 1);
           });
  }

  // By constant scales or sizes of all four axes, neither images nor channels.
  bool ResizesPlanes(const Node& node) const {
    const DType dtype = graph_.type(node.output(0)).dtype;
    const auto holds = [&](int i, int64_t count) {  // so many constants, or nothing
      const Tensor* tensor = node.input(i) == kNoValue ? nullptr : graph_.constant(node.input(i));
      return node.input(i) == kNoValue ||
             (tensor != nullptr && (tensor->size() == 0 || tensor->size() == count));
    };
    if (!IsImage(node.input(0)) || (dtype != DType::f32 && dtype != DType::bf16) ||
        !node.attributes.Ints("axes").empty() || !holds(1, 0) || !holds(2, 4) || !holds(3, 4))
      return false;
    const Dims x = graph_.type(node.input(0)).dims(), y = graph_.type(node.output(0)).dims();
    return x[0] == y[0] && x[1] == y[1] && context_.has_kernel("Resize");
  }

  // A filter of one plane for each channel, of BF16: planes of FP32 are as fast.
  bool IsDepthwise(const Node& node) const {
    const Tensor* w = FiltersOf(node);
    return w != nullptr && w->dtype() == DType::bf16 && w->dims()[1] == 1 &&
           w->dims()[0] == node.attributes.Int("group", 1) &&
           w->dims()[0] == graph_.type(node.input(0)).dims()[1];
  }

  bool FollowsLayout(const Node& node) const {
    if (node.outputs.empty() || !IsImage(node.output(0))) return false;
    if (IsElementwise(node) || IsDepthwise(node)) return true;
    const DType dtype = graph_.type(node.output(0)).dtype;
    if (node.Is("MaxPool"))
      return (dtype == DType::u8 || dtype == DType::i8 || dtype == DType::f32 ||
              dtype == DType::bf16) &&
             node.outputs.size() == 1 && context_.has_kernel("NhwcMaxPool");
    if (node.Is("AveragePool"))
      return (dtype == DType::f32 || dtype == DType::bf16) &&
             context_.has_kernel("NhwcAveragePool");
    if (node.Is("GroupNorm", kMicrosoftDomain))
      return node.attributes.Int("channels_last", 1) == 0 && IsImage(node.input(0));
    if (node.Is("Resize")) return ResizesPlanes(node);
    return node.Is("Concat") && (node.attributes.Int("axis", 0) + 4) % 4 == 1 &&
           std::all_of(node.inputs.begin(), node.inputs.end(),
                       [&](ValueId id) { return IsImage(id); });
  }

  bool InsideOf(ValueId id) const { return producers_[id] >= 0 && in_[producers_[id]]; }
  bool ReadInside(ValueId id) const {
    return std::any_of(readers_[id].begin(), readers_[id].end(), [&](int i) { return in_[i]; });
  }
  bool ReadOutside(ValueId id) const {
    return read_outside_.contains(id) ||
           std::any_of(readers_[id].begin(), readers_[id].end(), [&](int i) { return !in_[i]; });
  }
  // The value with its channels last that this one was made from, or kNoValue.
  ValueId LastOf(ValueId id) const {
    if (producers_[id] < 0) return kNoValue;
    const Node& node = graph_.nodes[producers_[id]];
    return node.Is("Transpose") && node.attributes.Ints("perm") == kToFirst ? node.input(0)
                                                                            : kNoValue;
  }
  // What it costs that some of its readers are in regions and others are not.
  int64_t EdgeBytes(ValueId id) const {
    if (!IsImage(id) || LastOf(id) != kNoValue) return 0;
    return (InsideOf(id) ? ReadOutside(id) : ReadInside(id)) ? Bytes(id) : 0;
  }
  int64_t EdgeBytesAround(const Node& node) const {
    std::set<ValueId> ids(node.inputs.begin(), node.inputs.end());
    ids.insert(node.outputs.begin(), node.outputs.end());
    ids.erase(kNoValue);
    return std::accumulate(ids.begin(), ids.end(), int64_t{0},
                           [&](int64_t sum, ValueId id) { return sum + EdgeBytes(id); });
  }

  // Takes out a node that only follows, where that costs no more.
  bool TakeOut(size_t i) {
    const Node& node = graph_.nodes[i];
    if (!in_[i] || Products(node) > 0) return false;
    const int64_t with = EdgeBytesAround(node);
    in_[i] = false;
    in_[i] = EdgeBytesAround(node) > with;
    return !in_[i];
  }
  // From both ends, since what is taken out lets its neighbours go.
  bool Shrink() {
    bool changed = false;
    for (size_t i = 0; i < in_.size(); ++i) changed |= TakeOut(i);
    for (size_t i = in_.size(); i-- > 0;) changed |= TakeOut(i);
    return changed;
  }

  // Nodes in regions that share a value are one region.
  std::vector<int> Regions() const {
    std::vector<int> region(in_.size(), -1);
    for (size_t i = 0; i < in_.size(); ++i) {
      if (!in_[i] || region[i] >= 0) continue;
      std::vector<int> open = {static_cast<int>(i)};
      region[i] = static_cast<int>(i);
      const auto reach = [&](int other) {
        if (other < 0 || !in_[other] || region[other] >= 0) return;
        region[other] = static_cast<int>(i);
        open.push_back(other);
      };
      while (!open.empty()) {
        const Node& node = graph_.nodes[open.back()];
        open.pop_back();
        for (const ValueId id : node.inputs)
          if (id != kNoValue && IsImage(id)) reach(producers_[id]);
        for (const ValueId id : node.outputs)
          for (const int reader : readers_[id]) reach(reader);
      }
    }
    return region;
  }

  bool DropRegionsThatDoNotPay() {
    const std::vector<int> region = Regions();
    std::map<int, int64_t> products;
    std::map<int, std::set<ValueId>> edges;
    std::set<int> pay;
    for (size_t i = 0; i < in_.size(); ++i) {
      if (!in_[i]) continue;
      const Node& node = graph_.nodes[i];
      products[region[i]] += Products(node);
      if (Products(node) > 0 && graph_.type(node.output(0)).dtype == DType::bf16)
        pay.insert(region[i]);
      for (const auto& ids : {node.inputs, node.outputs})
        for (const ValueId id : ids)
          if (id != kNoValue && EdgeBytes(id) > 0) edges[region[i]].insert(id);
    }
    for (const auto& [id, gain] : products) {
      int64_t bytes = 0;
      for (const ValueId edge : edges[id]) bytes += Bytes(edge);
      if (gain > bytes * kProductsPerByte) pay.insert(id);
    }
    for (size_t i = 0; i < in_.size(); ++i) in_[i] = in_[i] && pay.contains(region[i]);
    return !pay.empty();
  }

  ValueId Transposed(ValueId from, ValueId to, const std::vector<int64_t>& perm) {
    graph_.AddNode("Transpose", {from}, 0, {{"perm", perm}}).outputs = {to};
    return to;
  }
  ValueId NewLast(ValueId id) {
    TensorType type = graph_.type(id);
    type.shape = Permuted(*type.shape, kToLast);
    return last_[id] = graph_.AddValue(graph_.value(id).name + "_nhwc", std::move(type));
  }
  ValueId Last(ValueId id) {
    if (const auto found = last_.find(id); found != last_.end()) return found->second;
    if (made_from_[id] != kNoValue) return made_from_[id];
    const ValueId last = NewLast(id);
    return Transposed(id, last, kToLast);
  }

  // Also of fewer axes than an image has, the first ones missing.
  static void TurnShape(Shape* shape) {
    const auto rank = static_cast<int64_t>(shape->size());
    if (rank == 4) *shape = Permuted(*shape, kToLast);
    if (rank == 3) *shape = Permuted(*shape, {1, 2, 0});
  }
  ValueId TurnedLine(ValueId id) {
    Shape shape = ToShape(graph_.constant(id)->dims());
    TurnShape(&shape);
    Tensor turned = graph_.constant(id)->Reshaped(*ToDims(shape));
    return graph_.AddConstant("", std::move(turned));
  }

  // A value for each axis.
  ValueId TurnedCounts(ValueId id) {
    if (graph_.constant(id)->size() == 0) return id;
    Tensor turned = graph_.constant(id)->Clone();
    const auto width = SizeOf(turned.dtype());
    const auto* from = static_cast<const std::byte*>(graph_.constant(id)->data());
    for (size_t i = 0; i < kToLast.size(); ++i)
      std::memcpy(static_cast<std::byte*>(turned.data()) + i * width, from + kToLast[i] * width,
                  width);
    return graph_.AddConstant("", std::move(turned));
  }

  Node Turned(Node node) {
    const bool elementwise = IsElementwise(node);
    for (ValueId& id : node.inputs) {
      if (id == kNoValue) continue;
      if (IsImage(id))
        id = Last(id);
      else if (elementwise && IsLine(id))
        id = TurnedLine(id);
      else if (node.op == "Resize")
        id = TurnedCounts(id);
    }
    for (ValueId& id : node.outputs) id = NewLast(id);
    if (node.op == "QLinearConv" || node.op == "MaxPool" || node.op == "AveragePool") {
      node.domain = std::string(node.op == "MaxPool" ? kMicrosoftDomain : kMinimDomain);
      node.op = "Nhwc" + node.op;
    } else if (node.op == "Conv" || node.op == "FusedConv") {
      node.domain = kMicrosoftDomain;
      node.op = "NhwcFusedConv";
    } else if (node.op == "GroupNorm") {
      node.attributes.Set("channels_last", int64_t{1});
    } else if (node.op == "Concat") {
      node.attributes.Set("axis", int64_t{3});
    } else if (const auto body = node.subgraphs.find("body"); body != node.subgraphs.end()) {
      auto turned = std::make_shared<Graph>(*body->second);
      for (Value& value : turned->values)
        if (value.type.ranked()) TurnShape(&*value.type.shape);
      body->second = std::move(turned);
    }
    return node;
  }

  void Rewrite() {
    // Before nodes go: who makes and reads what.
    std::vector<bool> outside;
    for (ValueId id = 0; id < static_cast<ValueId>(producers_.size()); ++id) {
      made_from_.push_back(LastOf(id));
      outside.push_back(ReadOutside(id));
    }
    const std::vector<Node> nodes = std::exchange(graph_.nodes, {});
    for (size_t i = 0; i < nodes.size(); ++i) {
      if (!in_[i]) {
        graph_.nodes.push_back(nodes[i]);
        continue;
      }
      Node turned = Turned(nodes[i]);  // may add a Transpose before itself
      graph_.nodes.push_back(std::move(turned));
      for (const ValueId id : nodes[i].outputs)
        if (outside[id]) Transposed(last_.at(id), id, kToFirst);
    }
  }

  Graph& graph_;
  const PassContext& context_;
  const std::vector<int> producers_;
  std::vector<std::vector<int>> readers_;
  std::set<ValueId> read_outside_;
  std::vector<bool> in_;             // by node: takes and gives images with the channels last
  std::map<ValueId, ValueId> last_;  // of values, with their channels last
  std::vector<ValueId> made_from_;   // of the values there were: LastOf
};

}  // namespace

Result<bool> AssignLayouts(Graph& graph, const PassContext& context) {
  return Assigner(graph, context).Run();
}

}  // namespace minim
