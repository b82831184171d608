// The infer request and its answer as protobuf messages. Every number in a request is hostile until
// checked.
#pragma once

#include "core/error.h"
#include "serve/protocol/infer_request.h"
#include "serve/protocol/inference.h"

namespace inference {
class ModelInferRequest;
class ModelInferResponse;
}  // namespace inference

namespace minim::serve {

/// All outputs are asked for as binary: gRPC has no JSON to spare them.
/// Errors: kInvalidArgument and kUnsupported name the field.
Result<InferRequest> ReadInferRequest(const inference::ModelInferRequest& message);

/// Needs reply.outputs.ok(). Tensors go into raw_output_contents, whichever way the inputs came, as
/// Triton's do.
void WriteInferResponse(const InferReply& reply, inference::ModelInferResponse& message);

}  // namespace minim::serve
