#include "compress/value_choice.h"

#include <algorithm>

namespace minim {
namespace {

bool PlainGemm(const Node& node) {
  return node.attributes.Int("transA", 0) == 0 && node.attributes.Float("alpha", 1) == 1 &&
         node.attributes.Float("beta", 1) == 1;
}

const Tensor* FloatConstant(const Graph& graph, ValueId id) {
  const Tensor* tensor = graph.constant(id);
  return tensor != nullptr && tensor->dtype() == DType::f32 ? tensor : nullptr;
}

// Ops whose output holds elements of their inputs; how many inputs hold them.
size_t MovedInputs(const Node& node) {
  constexpr std::string_view kMoves[] = {"MaxPool",   "Reshape", "Flatten",
                                         "Transpose", "Squeeze", "Unsqueeze"};
  if (!node.domain.empty() || node.output(1) != kNoValue) return 0;
  if (node.Is("Concat")) return node.inputs.size();
  return std::find(std::begin(kMoves), std::end(kMoves), node.op) != std::end(kMoves) ? 1 : 0;
}

class Chooser {
 public:
  Chooser(const Graph& graph, const std::set<std::string>& keep_float)
      : graph_(graph), uses_(graph.UseCounts()) {
    for (const Node& node : graph.nodes)
      if (node.output(0) != kNoValue && keep_float.contains(graph.value(node.output(0)).name))
        choice_.kept_float.insert(node.output(0));
    for (size_t i = 0; i < graph.nodes.size(); ++i)
      for (ValueId id : graph.nodes[i].inputs)
        if (id != kNoValue) reader_[id] = static_cast<int>(i);
  }

  ValueChoice Run() {
    for (size_t i = graph_.nodes.size(); i-- > 0;) Visit(graph_.nodes[i]);
    for (const auto& [id, parent] : choice_.root) choice_.root[id] = RootOf(id);
    for (const auto& [id, root] : choice_.root)
      if (!moved_.contains(id)) choice_.sources[root].push_back(id);
    return std::move(choice_);
  }

 private:
  void Visit(const Node& node) {
    if (QuantizedAxis(graph_, choice_, node) >= 0) {
      Choose(node.input(0));
      if (node.Is("Conv")) RoundResult(BehindActivation(node));
    } else if (MovedInputs(node) > 0) {
      if (choice_.Chosen(node.output(0)) && AllFloat(node, MovedInputs(node))) Unite(node);
    } else if (node.Is("Add") && choice_.Chosen(BehindActivation(node)) && AllFloat(node, 2)) {
      Choose(node.input(0));
      Choose(node.input(1));
    }
  }

  void RoundResult(ValueId id) {
    const auto& outputs = graph_.outputs;  // what leaves the graph is not rounded
    if (std::find(outputs.begin(), outputs.end(), id) == outputs.end())
      choice_.rounded_for_all.insert(Choose(id));
  }

  // f32 values that are computed.
  bool AllFloat(const Node& node, size_t inputs) const {
    return std::all_of(node.inputs.begin(), node.inputs.begin() + inputs, [&](ValueId id) {
      return id != kNoValue && graph_.constant(id) == nullptr &&
             graph_.type(id).dtype == DType::f32;
    });
  }

  // The value that a following Relu or Clip makes of the node's output.
  ValueId BehindActivation(const Node& node) const {
    const ValueId y = node.output(0);
    const auto it = reader_.find(y);
    if (uses_[y] != 1 || it == reader_.end()) return y;
    const Node& next = graph_.nodes[it->second];
    return next.Is("Relu") || next.Is("Clip") ? next.output(0) : y;
  }

  ValueId Choose(ValueId id) {
    choice_.root.emplace(id, id);
    return id;
  }

  ValueId RootOf(ValueId id) const {
    while (choice_.root.at(id) != id) id = choice_.root.at(id);
    return id;
  }

  void Unite(const Node& node) {
    const ValueId first = RootOf(Choose(node.input(0)));
    for (size_t i = 1; i < MovedInputs(node); ++i)
      choice_.root[RootOf(Choose(node.input(static_cast<int>(i))))] = first;
    choice_.root[RootOf(node.output(0))] = first;
    moved_.insert(node.output(0));
  }

  const Graph& graph_;
  const std::vector<int> uses_;
  std::map<ValueId, int> reader_;  // one of them
  std::set<ValueId> moved_;        // hold elements of other chosen values
  ValueChoice choice_;
};

}  // namespace

int ChannelAxis(const Graph& graph, const Node& node) {
  const Tensor* weights = FloatConstant(graph, node.input(1));
  if (weights == nullptr || !node.domain.empty()) return -1;
  if (node.input(2) != kNoValue && FloatConstant(graph, node.input(2)) == nullptr) return -1;
  if (node.Is("Conv")) return 0;
  if (node.Is("Gemm") && PlainGemm(node)) return node.attributes.Int("transB", 0) ? 0 : 1;
  if (node.Is("MatMul") && weights->dims().rank() == 2) return 1;
  return -1;
}

int QuantizedAxis(const Graph& graph, const ValueChoice& choice, const Node& node) {
  return choice.kept_float.contains(node.output(0)) ? -1 : ChannelAxis(graph, node);
}

ValueChoice ChooseQuantized(const Graph& folded, const std::set<std::string>& keep_float) {
  return Chooser(folded, keep_float).Run();
}

bool ReadsRounded(const Graph& graph, const ValueChoice& choice, const Node& node, int index) {
  const ValueId id = node.input(index);
  if (id == kNoValue || !choice.Chosen(id)) return false;
  if (choice.rounded_for_all.contains(id)) return true;
  if (QuantizedAxis(graph, choice, node) >= 0) return index == 0;
  const ValueId y = node.output(0);
  if (MovedInputs(node) > static_cast<size_t>(index))
    return choice.Chosen(y) && choice.root.at(y) == choice.root.at(id);
  return node.Is("Add");
}

}  // namespace minim
