// The IR: a typed graph in SSA form. Values are numbered; nodes stand in topological order. Every
// pass, the planner and the exporters work on this one structure.
// Threads: const access is safe from any thread; changing needs exclusive access.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "core/attributes.h"
#include "core/shape.h"

namespace minim {

using ValueId = int32_t;
/// Stands for an omitted optional input or output.
inline constexpr ValueId kNoValue = -1;

/// Where minim's own operators live (gradients, fused forms without an ONNX name).
inline constexpr std::string_view kMinimDomain = "ai.minim";
inline constexpr std::string_view kMicrosoftDomain = "com.microsoft";
inline constexpr std::string_view kMlDomain = "ai.onnx.ml";
inline constexpr std::string_view kTrainingDomain = "ai.onnx.preview.training";

class Graph;

struct Value {
  std::string name;  // unique in its graph
  TensorType type;
};

struct Node {
  std::string op;
  std::string domain;  // empty for ai.onnx
  std::string name;
  std::vector<ValueId> inputs;
  std::vector<ValueId> outputs;
  Attributes attributes;
  std::map<std::string, std::shared_ptr<const Graph>> subgraphs;

  bool Is(std::string_view op_name, std::string_view in_domain = "") const {
    return op == op_name && domain == in_domain;
  }
  ValueId input(size_t i) const { return i < inputs.size() ? inputs[i] : kNoValue; }
  ValueId output(size_t i) const { return i < outputs.size() ? outputs[i] : kNoValue; }
};

/// A value that outlives a run: a weight, a moment, a step count. `read` is its value at the start
/// of a run (an input-like value), `next` what it becomes at the end, if `commit_if`, a bool
/// scalar, is true or not given; else it keeps its bits.
struct State {
  std::string name;
  ValueId read = kNoValue;
  ValueId next = kNoValue;
  ValueId commit_if = kNoValue;
};

class Graph {
 public:
  std::string name;
  std::vector<Node> nodes;
  std::vector<Value> values;
  std::vector<ValueId> inputs;
  std::vector<ValueId> outputs;
  std::map<ValueId, Tensor> constants;
  /// Those constants that the file gives as Constant nodes: part of a formula, never parameters.
  std::set<ValueId> literals;
  std::vector<State> states;
  std::map<std::string, std::string> metadata;

  /// A new value; the name is made unique (empty: one is invented).
  ValueId AddValue(std::string_view name, TensorType type);
  ValueId AddInput(std::string_view name, TensorType type);
  ValueId AddConstant(std::string_view name, Tensor tensor);
  /// Appends a node with fresh outputs of unknown type; the reference is valid until the next
  /// change.
  Node& AddNode(std::string_view op, std::vector<ValueId> node_inputs, int output_count,
                Attributes attributes = {}, std::string_view domain = "");

  const Value& value(ValueId id) const { return values[id]; }
  Value& value(ValueId id) { return values[id]; }
  const TensorType& type(ValueId id) const { return values[id].type; }
  /// Null if the value is not a constant.
  const Tensor* constant(ValueId id) const;
  /// kNoValue if there is none.
  ValueId FindValue(std::string_view name) const;

  /// Index of the node that makes each value; -1 for inputs, constants, states.
  std::vector<int> Producers() const;
  /// How often each value is read, graph outputs and what states become included.
  std::vector<int> UseCounts() const;
  /// Every read of `from` (node inputs, outputs, states) becomes a read of `to`.
  void ReplaceUses(ValueId from, ValueId to);
  /// Removes the nodes for which `dead` holds. Their outputs stay as unused values.
  void RemoveNodes(const std::function<bool(const Node&)>& dead);

 private:
  std::string UniqueName(std::string_view wanted);

  std::map<std::string, ValueId, std::less<>> by_name_;
  int invented_ = 0;
};

/// Checks the SSA invariants: ids in range, one definition, definition before use, unique names,
/// one read and one next per state with equal types, conditions of states that are bool scalars.
/// Errors: kInvalidArgument names the node.
Status Verify(const Graph& graph);

/// Reorders nodes so that definitions precede uses. Errors: kInvalidArgument on a cycle.
Status SortTopologically(Graph& graph);

}  // namespace minim
