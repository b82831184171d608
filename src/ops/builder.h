// Builder: appends typed nodes to a graph. Gradients, expansions and passes write with it.
#pragma once

#include "ops/op_def.h"

namespace minim {

class Builder {
 public:
  explicit Builder(Graph& graph) : graph_(graph) {}

  Graph& graph() { return graph_; }
  const TensorType& type(ValueId id) const { return graph_.type(id); }
  DType dtype(ValueId id) const { return type(id).dtype; }
  /// 0 while it is unknown.
  int rank(ValueId id) const { return type(id).ranked() ? type(id).rank() : 0; }
  /// The dims of a value whose shape an earlier error may have left open: ones on every axis then,
  /// and the error stays in status().
  Dims DimsOf(ValueId id) const {
    return type(id).Static() ? type(id).dims() : Dims::Filled(kMaxRank, 1);
  }

  /// Appends a node and infers its output types. An inference error is kept in status() and the
  /// outputs stay untyped: callers check once at the end.
  std::vector<ValueId> EmitMany(std::string_view op, std::vector<ValueId> inputs, int outputs,
                                Attributes attributes = {}, std::string_view domain = "");
  ValueId Emit(std::string_view op, std::vector<ValueId> inputs, Attributes attributes = {},
               std::string_view domain = "") {
    return EmitMany(op, std::move(inputs), 1, std::move(attributes), domain)[0];
  }
  const Status& status() const { return status_; }

  ValueId Constant(Tensor tensor) { return graph_.AddConstant("", std::move(tensor)); }
  /// A rank-0 constant of the given dtype.
  ValueId Scalar(double value, DType dtype);
  /// A rank-0 constant of the dtype of `like`.
  ValueId ScalarLike(double value, ValueId like) { return Scalar(value, dtype(like)); }
  /// A rank-1 i64 constant.
  ValueId Ints(std::vector<int64_t> values);

  ValueId Add(ValueId a, ValueId b) { return Emit("Add", {a, b}); }
  ValueId Sub(ValueId a, ValueId b) { return Emit("Sub", {a, b}); }
  ValueId Mul(ValueId a, ValueId b) { return Emit("Mul", {a, b}); }
  ValueId Div(ValueId a, ValueId b) { return Emit("Div", {a, b}); }
  ValueId Neg(ValueId a) { return Emit("Neg", {a}); }
  ValueId Mul(ValueId a, double b) { return Mul(a, ScalarLike(b, a)); }
  ValueId Add(ValueId a, double b) { return Add(a, ScalarLike(b, a)); }
  ValueId Greater(ValueId a, double b) { return Emit("Greater", {a, ScalarLike(b, a)}); }
  ValueId Less(ValueId a, double b) { return Emit("Less", {a, ScalarLike(b, a)}); }
  ValueId Select(ValueId condition, ValueId a, ValueId b) {
    return Emit("Where", {condition, a, b});
  }
  ValueId Select(ValueId condition, ValueId a, double b) {
    return Select(condition, a, ScalarLike(b, a));
  }
  ValueId Cast(ValueId a, DType dtype);
  ValueId Reshape(ValueId a, const Dims& dims);
  ValueId Transpose(ValueId a, std::vector<int64_t> perm);
  ValueId ReduceSum(ValueId a, std::vector<int64_t> axes, bool keepdims);
  /// a[starts:ends] along `axes`, in steps of 1.
  ValueId Slice(ValueId a, std::vector<int64_t> starts, std::vector<int64_t> ends,
                std::vector<int64_t> axes);
  /// A tensor of `dims` that holds `value` everywhere.
  ValueId Filled(double value, DType dtype, const Dims& dims) {
    return Emit("Expand", {Scalar(value, dtype), Ints({dims.begin(), dims.end()})});
  }
  /// Zeros of the type of `like`, whose shape must be known.
  ValueId ZerosLike(ValueId like);
  /// Sums `value` over the axes along which `like` was broadcast to its shape.
  ValueId SumToShapeOf(ValueId value, ValueId like);

 protected:
  Graph& graph_;
  Status status_;
};

/// The reverse rule of one node: reads its inputs, outputs and the gradients of its outputs, and
/// sets the gradients of its inputs. Shapes are static.
class GradContext : public Builder {
 public:
  GradContext(Graph& graph, const Node& node, std::vector<ValueId> output_grads)
      : Builder(graph), node_(node), output_grads_(std::move(output_grads)) {
    input_grads_.assign(node.inputs.size(), kNoValue);
  }

  const Attributes& attributes() const { return node_.attributes; }
  const Node& node() const { return node_; }
  int input_count() const { return static_cast<int>(node_.inputs.size()); }
  int output_count() const { return static_cast<int>(node_.outputs.size()); }
  bool has_input(int i) const { return node_.input(i) != kNoValue; }
  ValueId input(int i) const { return node_.input(i); }
  ValueId output(int i) const { return node_.output(i); }
  /// The elements of an integer input that must be constant. Errors: kUnsupported names the input.
  Result<std::vector<int64_t>> ConstantInts(int i) const;
  bool has_output_grad(int i) const { return output_grads_[i] != kNoValue; }
  /// Zeros if nothing downstream depends on the output.
  ValueId output_grad(int i);
  void SetInputGrad(int i, ValueId grad) { input_grads_[i] = grad; }
  const std::vector<ValueId>& input_grads() const { return input_grads_; }

 private:
  const Node node_;  // a copy: emitting nodes moves the graph's own
  std::vector<ValueId> output_grads_;
  std::vector<ValueId> input_grads_;
};

/// Rewrites one node into simpler ones: sets a replacement value for each output.
class ExpandContext : public Builder {
 public:
  ExpandContext(Graph& graph, const Node& node) : Builder(graph), node_(node) {
    replacements_.assign(node.outputs.size(), kNoValue);
  }

  const Attributes& attributes() const { return node_.attributes; }
  const Node& node() const { return node_; }
  bool has_input(int i) const { return node_.input(i) != kNoValue; }
  ValueId input(int i) const { return node_.input(i); }
  void SetOutput(int i, ValueId value) {
    if (i < static_cast<int>(replacements_.size())) replacements_[i] = value;
  }
  const std::vector<ValueId>& replacements() const { return replacements_; }
  /// status(), or an error where a replacement has another type than the node's inferred output:
  /// inputs whose shapes do not belong together.
  Status Check() const;

 private:
  const Node node_;
  std::vector<ValueId> replacements_;
};

}  // namespace minim
