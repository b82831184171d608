// Slices of a tensor along an axis, and their way back: what loops scan and sequences join.
#pragma once

#include "ops/host.h"

namespace minim {

/// The slice at `index` of `axis` (which may count from the end), without that axis.
Result<Tensor> SliceAt(const HostContext& op, const Tensor& tensor, int axis, int64_t index);

/// Places [begin, end) of `axis`; the axis stays.
Result<Tensor> SliceRange(const HostContext& op, const Tensor& tensor, int axis, int64_t begin,
                          int64_t end);

/// Tensors of one shape that become one with a new axis.
class Stack {
 public:
  /// Errors: kInvalidArgument unless `value` is a tensor like those before it; kResourceExhausted
  /// when they outgrow LargestValue().
  Status Push(const HostContext& op, const HostValue& value);
  /// Of no tensors at all: a tensor of `type` whose new axis and unknown dims are 0.
  Result<Tensor> Join(const HostContext& op, const TensorType& type, int axis, bool reversed) const;

 private:
  std::vector<Tensor> slices_;
  size_t bytes_ = 0;
};

/// `tensors` joined along the existing `axis`, as Concat does.
Result<Tensor> Concatenate(const HostContext& op, const std::vector<Tensor>& tensors, int axis);

/// The only element of an integer or boolean tensor.
Result<int64_t> ScalarOf(const HostContext& op, const HostValue& value);

}  // namespace minim
