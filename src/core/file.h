// Whole-file input and output with plain errors.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "core/error.h"

namespace minim {

using Path = std::filesystem::path;

/// The bytes of a regular file of at most `max_bytes`.
/// Errors: kNotFound, kResourceExhausted when larger, kDataLoss when it cannot be read.
Result<std::string> ReadFile(const Path& path, size_t max_bytes = size_t{1} << 40);
/// Writes beside `path` and renames, so a reader sees the old file or the new one, never half.
Status WriteFileAtomic(const Path& path, std::string_view bytes);

}  // namespace minim
