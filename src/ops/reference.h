// The reference executor: plain, slow, and the definition of every op. Floats are computed in f64,
// signed and small unsigned integers in i64, u64 in u64, and rounded to the declared dtype at every
// op boundary.
#pragma once

#include "ops/op_def.h"

namespace minim {

/// The dtype in which the reference computes: f64, i64, u64 or bool. Strings are i64: their ranks
/// among the strings of the call, so that what moves, compares or orders elements needs no more.
DType WideDType(DType dtype);

/// A value of declared dtype, held wide.
struct RefTensor {
  DType dtype = DType::f32;
  Tensor wide;

  const Dims& dims() const { return wide.dims(); }
  int64_t size() const { return wide.size(); }
  bool is_float() const { return wide.dtype() == DType::f64; }
  std::span<const double> f64() const { return wide.as<double>(); }
  std::span<const int64_t> i64() const { return wide.as<int64_t>(); }
  std::span<const bool> b() const { return wide.as<bool>(); }
  std::span<double> f64() { return wide.as<double>(); }
  std::span<int64_t> i64() { return wide.as<int64_t>(); }
  std::span<bool> b() { return wide.as<bool>(); }
  /// Element i as f64, whatever the wide type.
  double At(int64_t i) const;
  int64_t IntAt(int64_t i) const;
  /// Element i from an f64; integers take the nearest, ties to even.
  void SetAt(int64_t i, double value);
};

RefTensor ToReference(const Tensor& tensor);
Tensor FromReference(const RefTensor& value);

/// Calls f.template operator()<T>() with the wide C++ type: double, int64_t, uint64_t or bool.
template <typename F>
decltype(auto) VisitWide(DType wide, F&& f) {
  switch (wide) {
    case DType::f64: return f.template operator()<double>();
    case DType::i64: return f.template operator()<int64_t>();
    case DType::u64: return f.template operator()<uint64_t>();
    case DType::bool_: return f.template operator()<bool>();
    default: CheckFailed(__FILE__, __LINE__, "a wide dtype");
  }
}

class RefContext {
 public:
  RefContext(const Node& node, std::vector<const RefTensor*> inputs,
             std::vector<TensorType> output_types)
      : node_(node), inputs_(std::move(inputs)), output_types_(std::move(output_types)) {
    outputs_.resize(output_types_.size());
  }

  const Node& node() const { return node_; }
  const Attributes& attributes() const { return node_.attributes; }
  int input_count() const { return static_cast<int>(inputs_.size()); }
  int output_count() const { return static_cast<int>(output_types_.size()); }
  bool has_input(int i) const { return i < input_count() && inputs_[i] != nullptr; }
  const RefTensor& input(int i) const { return *inputs_[i]; }
  const Dims& dims(int i) const { return input(i).dims(); }
  /// The elements of an integer input.
  std::vector<int64_t> Ints(int i) const;
  bool has_output(int i) const { return node_.output(i) != kNoValue; }
  DType output_dtype(int i) const { return output_types_[i].dtype; }
  /// Allocates output i, zero-filled, with the inferred dims.
  RefTensor& Output(int i);
  /// The same for a shape that inference could not know.
  RefTensor& Output(int i, const Dims& dims);
  /// An output already allocated.
  RefTensor& MutableOutput(int i) { return outputs_[i]; }
  /// "Op 'name': ..." for what only the values show.
  template <typename... Args>
  Status Error(fmt::format_string<Args...> format, Args&&... args) const {
    return InvalidArgument("{} '{}': {}", node_.op, node_.name,
                           fmt::format(format, std::forward<Args>(args)...));
  }
  /// Runs `reference` on the same inputs and outputs under other attributes.
  Status WithAttributes(Attributes attributes, const std::function<Status(RefContext&)>& reference);
  Result<std::vector<RefTensor>> TakeOutputs() &&;

 private:
  const Node& node_;
  std::vector<const RefTensor*> inputs_;
  std::vector<TensorType> output_types_;
  std::vector<RefTensor> outputs_;
};

/// Evaluates one node on tensors; null inputs are omitted ones. See ops/host.h for other values.
Result<std::vector<Tensor>> EvaluateNode(const Node& node,
                                         const std::vector<const Tensor*>& inputs);

/// Runs the whole graph. Inputs in the order of graph.inputs; states read their given tensors and
/// their next values follow the outputs.
Result<std::vector<Tensor>> EvaluateGraph(const Graph& graph, const std::vector<Tensor>& inputs,
                                          const std::vector<Tensor>& states = {});

/// Output 0 is input 0's elements, in order, under the inferred dims.
Status CopyReference(RefContext& op);

/// Visits every index of `dims` in row-major order: f(flat, index).
template <typename F>
void ForEachIndex(const Dims& dims, F&& f) {
  Dims index = Dims::Filled(dims.rank(), 0);
  const int64_t count = dims.Elements();
  for (int64_t flat = 0; flat < count; ++flat) {
    f(flat, static_cast<const Dims&>(index));
    for (int axis = dims.rank() - 1; axis >= 0; --axis) {
      if (++index[axis] < dims[axis]) break;
      index[axis] = 0;
    }
  }
}

/// Offset of `index` under `strides`.
inline int64_t OffsetOf(const Dims& index, const Dims& strides) {
  int64_t offset = 0;
  for (int i = 0; i < index.rank(); ++i) offset += index[i] * strides[i];
  return offset;
}

}  // namespace minim
