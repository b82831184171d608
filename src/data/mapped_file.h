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
  bool streamed = false;  // too large to stay in memory: reads should be announced
};

/// A quarter of the machine's memory.
size_t StreamedBytes();

/// Maps a regular file read-only; pages are read when they are used. One of at least
/// `streamed_bytes` is streamed: the system reads what is used or announced and nothing around it.
/// The file must not become shorter while it is mapped.
/// Errors: kNotFound; kDataLoss when it cannot be mapped.
Result<MappedFile> MapFile(const Path& path, size_t streamed_bytes = StreamedBytes());

/// Starts reading a part of a mapped file that will be used soon.
void Announce(std::string_view bytes);

/// A dense array and what keeps its memory: a tensor, a mapped file.
struct SharedArray {
  ConstView view;
  std::shared_ptr<const void> owner;
  bool streamed = false;  // as of MappedFile
};
SharedArray Share(Tensor tensor);

}  // namespace minim
