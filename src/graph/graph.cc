#include "graph/graph.h"

#include <algorithm>
#include <set>

#include "core/error.h"
#include "core/memory_limit.h"

namespace minim {

std::string Graph::UniqueName(std::string_view wanted) {
  std::string candidate(wanted);
  while (candidate.empty() || by_name_.contains(candidate))
    candidate = fmt::format("{}{}", wanted.empty() ? "t" : fmt::format("{}_", wanted), invented_++);
  return candidate;
}

ValueId Graph::AddValue(std::string_view wanted, TensorType type) {
  const ValueId id = static_cast<ValueId>(values.size());
  std::string unique = UniqueName(wanted);
  by_name_.emplace(unique, id);
  values.push_back({std::move(unique), std::move(type)});
  return id;
}

ValueId Graph::AddInput(std::string_view wanted, TensorType type) {
  const ValueId id = AddValue(wanted, std::move(type));
  inputs.push_back(id);
  return id;
}

ValueId Graph::AddConstant(std::string_view wanted, Tensor tensor) {
  const ValueId id = AddValue(wanted, {tensor.dtype(), ToShape(tensor.dims())});
  constants.emplace(id, std::move(tensor));
  return id;
}

Node& Graph::AddNode(std::string_view op, std::vector<ValueId> node_inputs, int output_count,
                     Attributes attributes, std::string_view domain) {
  Node node{.op = std::string(op), .domain = std::string(domain), .inputs = std::move(node_inputs)};
  node.attributes = std::move(attributes);
  for (int i = 0; i < output_count; ++i) node.outputs.push_back(AddValue("", {}));
  nodes.push_back(std::move(node));
  return nodes.back();
}

const Tensor* Graph::constant(ValueId id) const {
  const auto it = constants.find(id);
  return it == constants.end() ? nullptr : &it->second;
}

ValueId Graph::FindValue(std::string_view wanted) const {
  const auto it = by_name_.find(wanted);
  return it == by_name_.end() ? kNoValue : it->second;
}

std::vector<int> Graph::Producers() const {
  std::vector<int> producers(values.size(), -1);
  for (size_t i = 0; i < nodes.size(); ++i) {
    for (ValueId id : nodes[i].outputs)
      if (id != kNoValue) producers[id] = static_cast<int>(i);
  }
  return producers;
}

std::vector<int> Graph::UseCounts() const {
  std::vector<int> counts(values.size(), 0);
  for (const Node& node : nodes) {
    for (ValueId id : node.inputs)
      if (id != kNoValue) ++counts[id];
  }
  for (ValueId id : outputs) ++counts[id];
  for (const State& state : states) {
    ++counts[state.next];
    if (state.commit_if != kNoValue) ++counts[state.commit_if];
  }
  return counts;
}

void Graph::ReplaceUses(ValueId from, ValueId to) {
  for (Node& node : nodes) std::replace(node.inputs.begin(), node.inputs.end(), from, to);
  std::replace(outputs.begin(), outputs.end(), from, to);
  for (State& state : states) {
    if (state.next == from) state.next = to;
    if (state.commit_if == from) state.commit_if = to;
  }
}

void Graph::RemoveNodes(const std::function<bool(const Node&)>& dead) {
  std::erase_if(nodes, dead);
}

namespace {

std::string Describe(const Node& node) { return fmt::format("node '{}' ({})", node.name, node.op); }

class Verifier {
 public:
  explicit Verifier(const Graph& graph) : graph_(graph), defined_(graph.values.size(), false) {}

  Status Run() {
    for (ValueId id : graph_.inputs) MINIM_TRY(Define(id, "graph input"));
    for (const auto& [id, tensor] : graph_.constants) MINIM_TRY(DefineConstant(id, tensor));
    std::set<std::string_view> names;
    for (const State& state : graph_.states) {
      MINIM_TRY(Define(state.read, "state read"));
      if (!names.insert(state.name).second)
        return InvalidArgument("two states are named '{}'", state.name);
    }
    for (const Node& node : graph_.nodes) MINIM_TRY(CheckNode(node));
    for (ValueId id : graph_.outputs) MINIM_TRY(Use(id, "graph output"));
    for (const State& state : graph_.states) MINIM_TRY(CheckState(state));
    return {};
  }

 private:
  bool InRange(ValueId id) const { return id >= 0 && id < static_cast<ValueId>(defined_.size()); }

  Status Define(ValueId id, std::string_view where) {
    if (!InRange(id)) return InvalidArgument("{}: value id {} does not exist", where, id);
    if (defined_[id])
      return InvalidArgument("{}: value '{}' is defined twice", where, graph_.value(id).name);
    defined_[id] = true;
    const TensorType& type = graph_.type(id);
    if (!type.is_tensor() || !type.ranked()) return {};
    return Annotate(CheckFits(*type.shape, type.dtype),
                    fmt::format("{}: value '{}'", where, graph_.value(id).name));
  }

  Status DefineConstant(ValueId id, const Tensor& tensor) {
    MINIM_TRY(Define(id, "constant"));
    const TensorType& type = graph_.type(id);
    if (type.dtype == tensor.dtype() && type.Static() && type.dims() == tensor.dims()) return {};
    return InvalidArgument("constant '{}' has type {} but holds {}{}", graph_.value(id).name,
                           type.ToString(), Name(tensor.dtype()), tensor.dims().ToString());
  }

  Status Use(ValueId id, std::string_view where) const {
    if (!InRange(id)) return InvalidArgument("{}: value id {} does not exist", where, id);
    if (!defined_[id])
      return InvalidArgument("{}: value '{}' is read before it is defined", where,
                             graph_.value(id).name);
    return {};
  }

  Status CheckNode(const Node& node) {
    for (ValueId id : node.inputs)
      if (id != kNoValue) MINIM_TRY(Use(id, Describe(node)));
    for (ValueId id : node.outputs)
      if (id != kNoValue) MINIM_TRY(Define(id, Describe(node)));
    return {};
  }

  Status CheckState(const State& state) const {
    MINIM_TRY(Use(state.next, state.name));
    if (state.commit_if != kNoValue) {
      MINIM_TRY(Use(state.commit_if, state.name));
      const TensorType& type = graph_.type(state.commit_if);
      if (type.dtype != DType::bool_ || !type.ranked() || type.rank() != 0)
        return InvalidArgument("state '{}': its condition '{}' is {}, expected bool[]", state.name,
                               graph_.value(state.commit_if).name, type.ToString());
    }
    if (graph_.type(state.read) == graph_.type(state.next)) return {};
    return InvalidArgument("state '{}' is read as {} but becomes {}", state.name,
                           graph_.type(state.read).ToString(), graph_.type(state.next).ToString());
  }

  const Graph& graph_;
  std::vector<bool> defined_;
};

}  // namespace

Status Verify(const Graph& graph) { return Verifier(graph).Run(); }

Status SortTopologically(Graph& graph) {
  const std::vector<int> producers = graph.Producers();
  std::vector<int> waiting(graph.nodes.size(), 0);
  std::vector<std::vector<int>> readers(graph.nodes.size());
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    for (ValueId id : graph.nodes[i].inputs) {
      if (id == kNoValue || producers[id] < 0) continue;
      readers[producers[id]].push_back(static_cast<int>(i));
      ++waiting[i];
    }
  }
  // A heap of ready nodes keeps the file's order where it is already valid.
  std::vector<int> ready;
  const auto later = std::greater<int>();
  for (size_t i = 0; i < waiting.size(); ++i)
    if (waiting[i] == 0) ready.push_back(static_cast<int>(i));
  std::make_heap(ready.begin(), ready.end(), later);
  std::vector<Node> sorted;
  while (!ready.empty()) {
    std::pop_heap(ready.begin(), ready.end(), later);
    const int index = ready.back();
    ready.pop_back();
    for (int reader : readers[index]) {
      if (--waiting[reader] > 0) continue;
      ready.push_back(reader);
      std::push_heap(ready.begin(), ready.end(), later);
    }
    sorted.push_back(graph.nodes[index]);
  }
  if (sorted.size() != graph.nodes.size())
    return InvalidArgument("the graph has a cycle: {} of {} nodes can be ordered", sorted.size(),
                           graph.nodes.size());
  graph.nodes = std::move(sorted);
  return {};
}

}  // namespace minim
