#include <algorithm>

#include "ops/op_def.h"
#include "passes/passes.h"

namespace minim {
namespace {

bool IsAlias(const Node& node) {
  const OpDef* def = FindOp(node);
  return def != nullptr && Has(def->traits, OpTrait::kAlias);
}

// True if running the node again on the same inputs gives the same bits: all but draws that no
// input numbers.
bool Repeatable(const Node& node) {
  const OpDef* def = FindOp(node);
  return def != nullptr &&
         (!Has(def->traits, OpTrait::kRandom) || (node.Is("Dropout") && node.input(3) != kNoValue));
}

}  // namespace

ForwardPart::ForwardPart(const Graph& graph, ValueId loss)
    : graph_(graph), producers_(graph.Producers()), runs_(graph.nodes.size(), false) {
  std::vector<ValueId> open = {loss};
  while (!open.empty()) {
    const int producer = producers_[open.back()];
    open.pop_back();
    if (producer < 0 || runs_[producer]) continue;
    runs_[producer] = true;
    for (ValueId id : graph.nodes[producer].inputs)
      if (id != kNoValue) open.push_back(id);
  }
}

bool ForwardPart::Makes(ValueId id) const {
  return id < static_cast<ValueId>(producers_.size()) && producers_[id] >= 0 &&
         runs_[producers_[id]];
}

ValueId ForwardPart::Stored(ValueId id) const {
  while (Makes(id) && IsAlias(graph_.nodes[producers_[id]])) {
    const ValueId input = graph_.nodes[producers_[id]].input(0);
    if (!Makes(input)) break;
    id = input;
  }
  return id;
}

std::set<ValueId> ForwardPart::Saved() const {
  std::set<ValueId> saved = Fixed();
  for (size_t i = 0; i < graph_.nodes.size(); ++i) {
    if (runs_[i]) continue;
    for (ValueId id : graph_.nodes[i].inputs)
      if (id != kNoValue && Makes(id)) saved.insert(Stored(id));
  }
  return saved;
}

std::set<ValueId> ForwardPart::Fixed() const {
  std::set<ValueId> fixed;
  const auto add = [&](ValueId id) {
    if (id != kNoValue && Makes(id)) fixed.insert(id);
  };
  for (ValueId id : graph_.outputs) add(id);
  for (const State& state : graph_.states) {
    add(state.next);
    add(state.commit_if);
  }
  for (size_t i = 0; i < graph_.nodes.size(); ++i)
    if (runs_[i] && !Repeatable(graph_.nodes[i]))
      for (ValueId id : graph_.nodes[i].outputs) add(id);
  return fixed;
}

namespace {

class Rematerializer {
 public:
  Rematerializer(Graph& graph, const ForwardPart& forward, const std::set<ValueId>& keep)
      : graph_(graph), forward_(forward), keep_(keep), copy_(graph.values.size(), kNoValue) {}

  std::vector<int> Run() {
    const std::vector<Node> nodes = std::move(graph_.nodes);
    graph_.nodes.clear();
    nodes_ = &nodes;
    for (size_t i = 0; i < nodes.size(); ++i) {
      Node node = nodes[i];
      if (!forward_.Runs(static_cast<int>(i))) {
        for (ValueId& id : node.inputs) id = Again(id);
      }
      Append(std::move(node), static_cast<int>(i));
    }
    return std::move(origins_);
  }

 private:
  bool IsThere(ValueId id) const {
    return id == kNoValue || keep_.contains(id) || !forward_.Makes(id);
  }

  // What a late node reads in place of `id`.
  ValueId Again(ValueId id) {
    if (IsThere(id)) return id;
    if (copy_[id] != kNoValue) return copy_[id];
    std::vector<int> open = {forward_.ProducerOf(id)};
    while (!open.empty()) {  // depth first, without recursion: chains may be thousands of nodes
      const int producer = open.back();
      bool ready = true;
      for (ValueId input : (*nodes_)[producer].inputs) {
        if (IsThere(input) || copy_[input] != kNoValue) continue;
        open.push_back(forward_.ProducerOf(input));
        ready = false;
      }
      if (!ready) continue;
      open.pop_back();
      Copy(producer);
    }
    return copy_[id];
  }

  void Copy(int producer) {
    Node node = (*nodes_)[producer];
    if (copy_[node.outputs[0]] != kNoValue) return;
    for (ValueId& id : node.inputs)
      if (!IsThere(id)) id = copy_[id];
    for (ValueId& id : node.outputs)
      if (id != kNoValue) id = copy_[id] = graph_.AddValue(graph_.value(id).name, graph_.type(id));
    if (!node.name.empty()) node.name += " again";
    Append(std::move(node), producer);
  }

  void Append(Node node, int origin) {
    graph_.nodes.push_back(std::move(node));
    origins_.push_back(origin);
  }

  Graph& graph_;
  const ForwardPart& forward_;
  const std::set<ValueId>& keep_;
  const std::vector<Node>* nodes_ = nullptr;
  std::vector<ValueId> copy_;  // by value: what stands for it in late nodes
  std::vector<int> origins_;
};

}  // namespace

std::vector<int> Rematerialize(Graph& graph, const ForwardPart& forward,
                               const std::set<ValueId>& keep) {
  return Rematerializer(graph, forward, keep).Run();
}

}  // namespace minim
