#include "serve/http/encoding.h"

#include <libdeflate.h>

#include <algorithm>
#include <memory>

#include "serve/http/message.h"

namespace minim::serve {
namespace {

// Answers are packed while a client waits: the fastest level already gains most.
constexpr int kAnswerLevel = 1;

struct FreeCompressor {
  void operator()(libdeflate_compressor* c) const { libdeflate_free_compressor(c); }
};
struct FreeDecompressor {
  void operator()(libdeflate_decompressor* d) const { libdeflate_free_decompressor(d); }
};

using Unpack = libdeflate_result (*)(libdeflate_decompressor*, const void*, size_t, void*, size_t,
                                     size_t*);

// Grows the room step by step: the size a gzip trailer claims is the sender's word.
libdeflate_result UnpackWithin(Unpack unpack, libdeflate_decompressor* decompressor,
                               std::string_view packed, size_t max_bytes, std::string& plain) {
  size_t room = std::min(max_bytes, std::max<size_t>(4096, packed.size() * 4));
  for (;;) {
    plain.resize(room);
    size_t size = 0;
    const libdeflate_result result =
        unpack(decompressor, packed.data(), packed.size(), plain.data(), room, &size);
    if (result == LIBDEFLATE_SUCCESS) plain.resize(size);
    if (result != LIBDEFLATE_INSUFFICIENT_SPACE || room == max_bytes) return result;
    room = std::min(max_bytes, room * 4);
  }
}

Result<std::string> Decompress(std::string_view coding, std::string_view packed, size_t max_bytes) {
  const std::unique_ptr<libdeflate_decompressor, FreeDecompressor> decompressor(
      libdeflate_alloc_decompressor());
  if (!decompressor) return ResourceExhausted("not enough memory to unpack a body");
  std::string plain;
  const bool gzip = EqualsIgnoringCase(coding, "gzip");
  const Unpack first = gzip ? libdeflate_gzip_decompress : libdeflate_zlib_decompress;
  libdeflate_result result = UnpackWithin(first, decompressor.get(), packed, max_bytes, plain);
  // Some clients send 'deflate' without the zlib wrapping.
  if (result == LIBDEFLATE_BAD_DATA && !gzip)
    result =
        UnpackWithin(libdeflate_deflate_decompress, decompressor.get(), packed, max_bytes, plain);
  if (result == LIBDEFLATE_SUCCESS) return plain;
  if (result == LIBDEFLATE_INSUFFICIENT_SPACE)
    return ResourceExhausted("the {} body unpacks to more than {} bytes", coding, max_bytes);
  return InvalidArgument("Content-Encoding '{}': the body is damaged or cut off", coding);
}

double QualityOf(std::string_view item) {
  const size_t q = item.find("q=");
  if (q == std::string_view::npos) return 1;
  return Trim(item.substr(q + 2)).starts_with("0") &&
                 item.find_first_of("123456789", q + 2) == std::string_view::npos
             ? 0
             : 1;
}

}  // namespace

Result<std::string> DecodeContent(std::string_view coding, std::string body, size_t max_bytes) {
  coding = Trim(coding);
  if (coding.empty() || EqualsIgnoringCase(coding, "identity")) return body;
  if (!EqualsIgnoringCase(coding, "gzip") && !EqualsIgnoringCase(coding, "deflate"))
    return Unsupported("Content-Encoding '{}': expected gzip, deflate or identity", coding);
  return Decompress(coding, body, max_bytes);
}

std::string_view ChooseCoding(std::string_view accept_encoding) {
  std::string_view choice;
  for (const std::string_view item : SplitList(accept_encoding)) {
    const std::string_view name = Trim(item.substr(0, item.find(';')));
    if (QualityOf(item) == 0) continue;
    if (EqualsIgnoringCase(name, "gzip")) return "gzip";
    if (EqualsIgnoringCase(name, "deflate")) choice = "deflate";
  }
  return choice;
}

std::string EncodeContent(std::string_view coding, std::string_view body) {
  const std::unique_ptr<libdeflate_compressor, FreeCompressor> compressor(
      libdeflate_alloc_compressor(kAnswerLevel));
  if (!compressor || body.empty()) return {};
  std::string packed(body.size() - 1, '\0');
  const auto pack = coding == "gzip" ? libdeflate_gzip_compress : libdeflate_zlib_compress;
  packed.resize(pack(compressor.get(), body.data(), body.size(), packed.data(), packed.size()));
  return packed;
}

}  // namespace minim::serve
