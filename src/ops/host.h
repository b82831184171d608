// HostContext: what an op's `host` sees. It works on whole values, allocates as it likes, and may
// run the node's sub-graphs.
#pragma once

#include "minim/host_value.h"
#include "ops/op_def.h"

namespace minim {

/// Runs the sub-graph that is the node's attribute `name`; as many inputs as it declares.
using SubgraphRunner =
    std::function<Result<std::vector<HostValue>>(const std::string& name, std::vector<HostValue>)>;

class HostContext {
 public:
  /// `output_types` are the inferred ones; shapes may be unknown.
  HostContext(const Node& node, std::vector<const HostValue*> inputs,
              std::vector<TensorType> output_types, const SubgraphRunner& run)
      : node_(node),
        inputs_(std::move(inputs)),
        output_types_(std::move(output_types)),
        run_(run),
        outputs_(node.outputs.size()) {}

  const Node& node() const { return node_; }
  const Attributes& attributes() const { return node_.attributes; }
  int input_count() const { return static_cast<int>(inputs_.size()); }
  int output_count() const { return static_cast<int>(outputs_.size()); }
  bool has_input(int i) const { return i < input_count() && inputs_[i] != nullptr; }
  const HostValue& input(int i) const { return *inputs_[i]; }
  /// Errors name the input that holds something else.
  Result<Tensor> TensorInput(int i) const;
  Result<Sequence> SequenceInput(int i) const;
  /// The only element of an integer or boolean tensor.
  Result<int64_t> IntInput(int i) const;
  const TensorType& output_type(int i) const { return output_types_[i]; }
  void SetOutput(int i, HostValue value) {
    if (i < output_count()) outputs_[i] = std::move(value);
  }
  Result<std::vector<HostValue>> RunSubgraph(const std::string& name,
                                             std::vector<HostValue> inputs) const {
    return run_(name, std::move(inputs));
  }
  /// The inputs from `first` on.
  std::vector<HostValue> InputsFrom(int first) const;

  template <typename... Args>
  Status Error(fmt::format_string<Args...> format, Args&&... args) const {
    return InvalidArgument("{} '{}': {}", node_.op, node_.name,
                           fmt::format(format, std::forward<Args>(args)...));
  }
  std::vector<HostValue> TakeOutputs() && { return std::move(outputs_); }

 private:
  const Node& node_;
  std::vector<const HostValue*> inputs_;
  std::vector<TensorType> output_types_;
  const SubgraphRunner& run_;
  std::vector<HostValue> outputs_;
};

/// Calls the op's host function. Needs RunsOnHost. `run` is set if the node has sub-graphs.
Result<std::vector<HostValue>> EvaluateHost(const Node& node,
                                            const std::vector<const HostValue*>& inputs,
                                            std::vector<TensorType> output_types,
                                            const SubgraphRunner& run);

/// The type of a concrete value. Of an empty sequence the element type is unknown: `hint` gives it.
TensorType TypeOf(const HostValue& value, const TensorType& hint = {});

/// Evaluates one node, by its host function, its reference or its expansion. Null inputs are
/// omitted ones; outputs that the node omits are empty. Without `run` sub-graphs run by reference.
Result<std::vector<HostValue>> EvaluateNode(const Node& node,
                                            const std::vector<const HostValue*>& inputs,
                                            const SubgraphRunner& run = {});
/// Runs the whole graph (which has no states) node by node.
Result<std::vector<HostValue>> EvaluateGraph(const Graph& graph, std::vector<HostValue> inputs);

}  // namespace minim
