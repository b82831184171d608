#include "ops/stack.h"

#include <algorithm>

#include "core/dtype.h"
#include "core/memory_limit.h"
#include "ops/reference.h"

namespace minim {
namespace {

// Evaluates an op that only moves elements, so that strings come along.
Result<Tensor> Move(std::string_view op, const std::vector<Tensor>& inputs, Attributes attributes) {
  Node node{.op = std::string(op)};
  std::vector<const Tensor*> pointers;
  for (size_t i = 0; i < inputs.size(); ++i) {
    node.inputs.push_back(static_cast<ValueId>(i));
    pointers.push_back(&inputs[i]);
  }
  node.outputs = {static_cast<ValueId>(inputs.size())};
  node.attributes = std::move(attributes);
  MINIM_TRY(std::vector<Tensor> outputs, EvaluateNode(node, pointers));
  return outputs[0];
}

}  // namespace

Result<Tensor> SliceAt(const HostContext& op, const Tensor& tensor, int axis, int64_t index) {
  const Dims& dims = tensor.dims();
  const int at = axis < 0 ? axis + dims.rank() : axis;
  if (at < 0 || at >= dims.rank() || index < 0 || index >= dims[at])
    return op.Error("{} has no index {} on axis {}", dims.ToString(), index, axis);
  return Move("Gather", {tensor, Tensor::Scalar<int64_t>(index)}, {{"axis", int64_t{at}}});
}

Result<Tensor> SliceRange(const HostContext&, const Tensor& tensor, int axis, int64_t begin,
                          int64_t end) {
  const auto one = [](int64_t value) { return Tensor::From<int64_t>({1}, {value}); };
  return Move("Slice", {tensor, one(begin), one(end), one(axis)}, {});
}

Status Stack::Push(const HostContext& op, const HostValue& value) {
  const Tensor* tensor = value.tensor();
  if (tensor == nullptr) return op.Error("only tensors can be scanned");
  if (!slices_.empty() &&
      (tensor->dtype() != slices_[0].dtype() || !(tensor->dims() == slices_[0].dims())))
    return op.Error("scanned outputs have shapes {} and {}", slices_[0].dims().ToString(),
                    tensor->dims().ToString());
  constexpr size_t kOverhead = 256;  // of a small tensor
  bytes_ += tensor->bytes() + kOverhead;
  if (bytes_ > LargestValue())
    return ResourceExhausted("a loop gathered more than {} bytes, half of main memory",
                             LargestValue());
  slices_.push_back(*tensor);
  return {};
}

Result<Tensor> Stack::Join(const HostContext& op, const TensorType& type, int axis,
                           bool reversed) const {
  if (slices_.empty()) {
    Dims dims;
    if (type.ranked())
      for (const Dim& dim : *type.shape) dims.push_back(dim.known() ? dim.value() : 0);
    if (dims.rank() == 0) dims.push_back(0);
    return Tensor(type.dtype, dims);
  }
  const int rank = slices_[0].dims().rank() + 1;
  const int at = axis < 0 ? axis + rank : axis;
  if (at < 0 || at >= rank || rank > kMaxRank) return op.Error("has no output axis {}", axis);
  Dims dims;
  for (int i = 0; i < rank; ++i)
    dims.push_back(i == at ? 1 : slices_[0].dims()[i < at ? i : i - 1]);
  std::vector<Tensor> parts;
  for (const Tensor& slice : slices_) parts.push_back(slice.Reshaped(dims));
  if (reversed) std::reverse(parts.begin(), parts.end());
  return Concatenate(op, parts, at);
}

Result<Tensor> Concatenate(const HostContext& op, const std::vector<Tensor>& tensors, int axis) {
  if (tensors.empty()) return op.Error("nothing to join");
  return Move("Concat", tensors, {{"axis", int64_t{axis}}});
}

Result<int64_t> ScalarOf(const HostContext& op, const HostValue& value) {
  const Tensor* tensor = value.tensor();
  if (tensor == nullptr || tensor->size() != 1 || IsFloat(tensor->dtype()) ||
      tensor->dtype() == DType::string)
    return op.Error("expected one integer or boolean");
  return Converted(tensor->view(), DType::i64).as<int64_t>()[0];
}

}  // namespace minim
