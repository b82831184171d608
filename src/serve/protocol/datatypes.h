// Datatype names of the Open Inference Protocol: FP32, INT8, BOOL, BYTES and so on.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "core/error.h"
#include "minim/dtype.h"

namespace minim::serve {

/// "FP32" for f32, "BYTES" for strings; empty for the small types, which the protocol does not
/// know.
std::string_view DatatypeName(DType dtype);
/// "TYPE_FP32": the same as model configurations spell it, where strings are TYPE_STRING.
std::string ConfigTypeName(DType dtype);
std::optional<DType> DTypeFromDatatype(std::string_view name);
/// "FP64, FP32, ...": for messages.
std::string KnownDatatypes();
/// Errors: kInvalidArgument for the 2-byte floats, which the protocol sends as binary only.
Status CheckTravelsAsJson(DType dtype);

}  // namespace minim::serve
