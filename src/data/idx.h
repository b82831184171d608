// IDX files (the MNIST format), plain or gzip-compressed.
#pragma once

#include "core/file.h"
#include "minim/tensor.h"

namespace minim {

/// Errors: kDataLoss for a truncated or inconsistent file, kUnsupported for an element type other
/// than unsigned byte, byte, short, int, float, double.
Result<Tensor> ParseIdx(std::string_view bytes);
/// A name ending in .gz is decompressed.
Result<Tensor> ReadIdx(const Path& path);

/// The bytes of a gzip file, at most `max_bytes` of them.
Result<std::string> ReadGzip(const Path& path, size_t max_bytes = size_t{1} << 34);

}  // namespace minim
