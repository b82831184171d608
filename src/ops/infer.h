// Shape inference of one node.
#pragma once

#include "ops/op_def.h"

namespace minim {

class InferContext {
 public:
  InferContext(const Graph& graph, const Node& node) : graph_(graph), node_(node) {
    outputs_.resize(node.outputs.size());
  }

  const Node& node() const { return node_; }
  const Attributes& attributes() const { return node_.attributes; }
  int input_count() const { return static_cast<int>(node_.inputs.size()); }
  int output_count() const { return static_cast<int>(node_.outputs.size()); }
  bool has_input(int i) const { return node_.input(i) != kNoValue; }
  /// Needs has_input(i).
  const TensorType& input(int i) const { return graph_.type(node_.input(i)); }
  DType dtype(int i) const { return input(i).dtype; }
  /// The input's value if it is constant, else null, and the input is noted as one whose value the
  /// shape depends on.
  const Tensor* ConstantInput(int i);
  /// The same without noting it: for what a value may sharpen but does not decide.
  const Tensor* PeekConstant(int i) const { return graph_.constant(node_.input(i)); }
  /// The elements of a constant integer input (any integer dtype); nullopt as ConstantInput.
  std::optional<std::vector<int64_t>> IntsInput(int i);
  /// Subgraph attribute; null when absent.
  const Graph* Subgraph(std::string_view name) const;

  /// Outputs that the node omits are ignored.
  Status SetOutput(int i, TensorType type);
  Status SetOutput(int i, DType dtype, Shape shape) {
    return SetOutput(i, {dtype, std::move(shape)});
  }
  /// The rank is unknown until some input's value is.
  Status SetUnknown(int i, DType dtype) { return SetOutput(i, {dtype, std::nullopt}); }

  /// "Relu: ..." with the node's name.
  template <typename... Args>
  Status Error(fmt::format_string<Args...> format, Args&&... args) const {
    return InvalidArgument("{} '{}': {}", node_.op, node_.name,
                           fmt::format(format, std::forward<Args>(args)...));
  }
  /// `axis` in [-rank, rank) made non-negative.
  Result<int> Axis(int64_t axis, int rank) const;

  /// An error unless inputs `a` and `b` have one dtype.
  Status SameDType(int a, int b) const;
  /// An error unless input `i`, where its rank is known, has rank `rank`.
  Status HasRank(int i, int rank) const;
  /// An error unless input `i`, where its rank is known, can have shape `shape`.
  Status HasShape(int i, const Shape& shape) const;

  /// An error once an input whose integers a shape needs turned out to hold strings.
  const Status& status() const { return status_; }
  const std::vector<TensorType>& outputs() const { return outputs_; }
  /// Input positions whose values the shapes wait for.
  const std::vector<int>& awaited() const { return awaited_; }

 private:
  const Graph& graph_;
  const Node& node_;
  std::vector<TensorType> outputs_;
  std::vector<int> awaited_;
  Status status_;
};

/// Common forms of inference.
Status InferSameAsFirst(InferContext& op);
/// Output 0 is the broadcast of all inputs, which share one dtype.
Status InferBroadcast(InferContext& op);
/// Output 0 is the broadcast of all inputs, in bool.
Status InferBroadcastBool(InferContext& op);
/// Output 0 is the broadcast of all inputs, in `dtype`; inputs may differ in dtype.
Status InferBroadcastAs(InferContext& op, DType dtype);
/// Optimizers: `scalars` inputs of one element, then `groups` of as many tensors each, alike
/// between groups; outputs are all but the second group, which holds gradients.
Status InferUpdate(InferContext& op, int scalars, int groups);

/// Infers one node and writes the types of its outputs. `awaited`, if given, receives the input
/// positions whose values are needed first. Errors: kUnsupported for an unknown op,
/// kInvalidArgument for wrong arity, dtype or shape.
Status InferNode(Graph& graph, const Node& node, std::vector<int>* awaited = nullptr);
/// The type of output 0 of an ai.onnx op on inputs of these types, for ops that are made of it.
Result<TensorType> TypeOf(std::string_view op, const std::vector<TensorType>& inputs,
                          Attributes attributes = {});
/// An error unless input 0 of `op`, a gradient, has the shape of what `forward` makes of `inputs`
/// under the same attributes.
Status CheckGradientShape(const InferContext& op, std::string_view forward,
                          const std::vector<TensorType>& inputs);
/// Infers every node in order; unknown shapes stay unknown.
Status InferGraph(Graph& graph);

}  // namespace minim
