// Content codings: gzip and deflate, both ways.
#pragma once

#include <string>
#include <string_view>

#include "core/error.h"

namespace minim::serve {

/// Undoes "gzip", "deflate" or "identity". A body that would grow beyond `max_bytes` is refused
/// before it is unpacked further.
/// Errors: kUnsupported for another coding, kResourceExhausted, kInvalidArgument for damage.
Result<std::string> DecodeContent(std::string_view coding, std::string body, size_t max_bytes);

/// The coding to answer with, by the client's Accept-Encoding: "gzip", "deflate" or "".
std::string_view ChooseCoding(std::string_view accept_encoding);

/// The body in that coding, or empty if it would not shrink.
std::string EncodeContent(std::string_view coding, std::string_view body);

}  // namespace minim::serve
