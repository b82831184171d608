// Files as memory, and arrays in memory that something else keeps.
#pragma once

#include <memory>
#include <string_view>

#include "core/file.h"
#include "minim/tensor.h"

namespace minim {

struct MappedFile {
  std::string_view bytes;
  std::shared_ptr<const void> owner;
};

/// Maps a regular file read-only; pages are read when they are used. The file must not become
/// shorter while it is mapped. Errors: kNotFound; kDataLoss when it cannot be mapped.
Result<MappedFile> MapFile(const Path& path);

/// A dense array and what keeps its memory: a tensor, a mapped file.
struct SharedArray {
  ConstView view;
  std::shared_ptr<const void> owner;
};
SharedArray Share(Tensor tensor);

}  // namespace minim
