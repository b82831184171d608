#include "data/idx.h"

#include <zlib.h>

#include <algorithm>
#include <memory>

#include "core/dtype.h"

namespace minim {
namespace {

Result<DType> ElementType(unsigned char code) {
  switch (code) {
    case 0x08: return DType::u8;
    case 0x09: return DType::i8;
    case 0x0B: return DType::i16;
    case 0x0C: return DType::i32;
    case 0x0D: return DType::f32;
    case 0x0E: return DType::f64;
    default: return Unsupported("IDX: element type 0x{:02x} is unknown", code);
  }
}

// IDX is big-endian.
void SwapBytes(Tensor& tensor) {
  const size_t size = SizeOf(tensor.dtype());
  auto* bytes = static_cast<std::byte*>(tensor.data());
  for (size_t i = 0; size > 1 && i < tensor.bytes(); i += size)
    std::reverse(bytes + i, bytes + i + size);
}

}  // namespace

Result<Tensor> ParseIdx(std::string_view bytes) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(bytes[i]); };
  if (bytes.size() < 4 || byte(0) != 0 || byte(1) != 0)
    return DataLoss("not an IDX file: it does not start with two zero bytes");
  MINIM_TRY(const DType dtype, ElementType(byte(2)));
  const size_t rank = byte(3);
  if (rank > static_cast<size_t>(kMaxRank))
    return Unsupported("IDX: rank {} is above {}", rank, kMaxRank);
  if (bytes.size() < 4 + 4 * rank) return DataLoss("IDX: the header is truncated");
  Dims dims;
  uint64_t elements = 1;
  for (size_t i = 0; i < rank; ++i) {
    const size_t at = 4 + 4 * i;
    const uint32_t size = uint32_t{byte(at)} << 24 | uint32_t{byte(at + 1)} << 16 |
                          uint32_t{byte(at + 2)} << 8 | byte(at + 3);
    dims.push_back(size);
    if (size > 0 && elements > (uint64_t{1} << 40) / size)
      return DataLoss("IDX: the dims overflow");
    elements *= size;
  }
  const std::string_view data = bytes.substr(4 + 4 * rank);
  if (data.size() != elements * SizeOf(dtype))
    return DataLoss("IDX: {}{} needs {} bytes, found {}", Name(dtype), dims.ToString(),
                    elements * SizeOf(dtype), data.size());
  Tensor tensor(dtype, dims);
  if (!data.empty()) std::memcpy(tensor.data(), data.data(), data.size());
  SwapBytes(tensor);
  return tensor;
}

Result<std::string> ReadGzip(const Path& path, size_t max_bytes) {
  const std::unique_ptr<gzFile_s, int (*)(gzFile)> file(gzopen(path.c_str(), "rb"), gzclose);
  if (!file) return NotFound("{}: cannot be opened; check the path", path.string());
  std::string bytes;
  char chunk[1 << 16];
  while (true) {
    const int n = gzread(file.get(), chunk, sizeof(chunk));
    if (n < 0) return DataLoss("{}: the gzip stream is corrupt", path.string());
    if (n == 0) break;
    if (bytes.size() + static_cast<size_t>(n) > max_bytes)
      return ResourceExhausted("{}: more than {} bytes once decompressed", path.string(),
                               max_bytes);
    bytes.append(chunk, static_cast<size_t>(n));
  }
  if (!gzeof(file.get())) return DataLoss("{}: the gzip stream is truncated", path.string());
  return bytes;
}

Result<Tensor> ReadIdx(const Path& path) {
  std::string bytes;
  if (path.extension() == ".gz") {
    MINIM_TRY(bytes, ReadGzip(path));
  } else {
    MINIM_TRY(bytes, ReadFile(path));
  }
  auto tensor = ParseIdx(bytes);
  if (!tensor.ok()) return Annotate(tensor.status(), path.string());
  return tensor;
}

}  // namespace minim
