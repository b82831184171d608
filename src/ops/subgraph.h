// Sub-graphs as the control-flow ops have them. In the IR a body reads nothing from outside: what
// it captures are its last inputs, and the last inputs of the node, as many as the attribute
// `captures` says.
#pragma once

#include "ops/host.h"
#include "ops/infer.h"

namespace minim {

inline int CaptureCount(const Attributes& attributes) {
  return static_cast<int>(attributes.Int("captures", 0));
}

/// The types of a body's outputs, given those of its inputs. Errors: kInvalidArgument when the node
/// lacks the body or it takes another number of inputs.
Result<std::vector<TensorType>> InferSubgraph(const InferContext& op, std::string_view name,
                                              const std::vector<TensorType>& inputs);

/// What two branches agree on: equal dims, else unknown ones.
TensorType Merged(const TensorType& a, const TensorType& b);

}  // namespace minim
