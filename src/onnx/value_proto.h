// TypeProto, SequenceProto, MapProto, OptionalProto and SparseTensorProto as minim's values.
#pragma once

#include "core/file.h"
#include "core/shape.h"
#include "minim/host_value.h"
#include "minim_onnx.pb.h"

namespace minim {

/// `name` is for errors.
Result<TensorType> TypeFromProto(const std::string& name, const minim_onnx::TypeProto& proto);
void TypeToProto(const TensorType& type, minim_onnx::TypeProto& proto);

/// The dense form of a sparse tensor (COO, linear or per-axis indices).
Result<Tensor> TensorFromSparse(const minim_onnx::SparseTensorProto& proto, const Path& folder);

}  // namespace minim
