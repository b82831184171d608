// AttributeProto -> Attribute.
#pragma once

#include "core/attributes.h"
#include "core/file.h"
#include "minim_onnx.pb.h"

namespace minim {

/// AttributeProto.type of a sub-graph, which the importer reads itself.
inline constexpr int kGraphAttribute = 5;

/// Any other attribute; sparse tensors become dense. `folder` as for TensorFromProto.
Result<Attribute> AttributeFromProto(const minim_onnx::AttributeProto& proto, const Path& folder);

}  // namespace minim
