// TensorProto <-> Tensor.
#pragma once

#include "core/file.h"
#include "minim/tensor.h"
#include "minim_onnx.pb.h"

namespace minim {

/// `folder` is where external data may lie; empty refuses it.
Result<Tensor> TensorFromProto(const minim_onnx::TensorProto& proto, const Path& folder);
void TensorToProto(const Tensor& tensor, std::string_view name, minim_onnx::TensorProto& proto);
/// The dtype of an ONNX type id. Errors: kUnsupported.
Result<DType> DTypeFromProto(int onnx_type);

}  // namespace minim
