// Datatype names of the Open Inference Protocol: FP32, INT8, BOOL and so on.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "minim/dtype.h"

namespace minim::serve {

/// "FP32" for f32; empty for the small types, which the protocol does not know.
std::string DatatypeName(DType dtype);
std::optional<DType> DTypeFromDatatype(std::string_view name);
/// "FP64, FP32, ...": for messages.
std::string KnownDatatypes();

}  // namespace minim::serve
