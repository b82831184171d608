// The infer request: JSON, optionally followed by binary tensors. Every number in it is hostile
// until checked; nothing is allocated that the body does not pay for.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "minim/session.h"

namespace minim::serve {

struct NamedTensor {
  std::string name;
  Tensor tensor;
};

struct RequestedOutput {
  std::string name;
  /// False: as JSON, which cannot carry every datatype.
  bool binary = false;
};

struct InferRequest {
  std::string id;
  std::vector<NamedTensor> inputs;
  /// Empty means all.
  std::vector<RequestedOutput> outputs;
  /// For outputs that do not say.
  bool binary_outputs = false;
  std::string tier;
  bool use_cache = true;
  bool use_batching = true;
  std::optional<uint64_t> timeout_us;
  /// 1 is the highest; 0 or nothing: the default.
  uint64_t priority = 0;
  /// Parameters whose names mean nothing here, if their values are text: a rollout may go by one.
  std::vector<std::pair<std::string, std::string>> texts;
};

/// Parses a body. `json_length` is the Inference-Header-Content-Length field, empty without one.
/// May grow the body's capacity, because the JSON parser reads past its end.
/// Errors: kInvalidArgument and kUnsupported name the field.
Result<InferRequest> ParseInferRequest(std::string& body, std::string_view json_length);

/// Checks a request against a model's signature: puts the inputs in the model's order, lists all
/// outputs if none were asked for. `batchable` models need equal, positive row counts.
/// Errors: kInvalidArgument names the input or output, what was found and what is expected.
Status BindRequest(InferRequest& request, const std::vector<TensorInfo>& inputs,
                   const std::vector<TensorInfo>& outputs, bool batchable);

}  // namespace minim::serve
