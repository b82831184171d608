#include "serve/cache/sha256.h"

#include <openssl/evp.h>

#include <fstream>

#include "core/error.h"

namespace minim::serve {
namespace {

// An entry of a tensor's external_data: the key "location" with its field number and length.
constexpr std::string_view kExternalData = "\x0a\x08location";

}  // namespace

Sha256::Sha256() : context_(EVP_MD_CTX_new()) {
  MINIM_CHECK(context_ != nullptr && EVP_DigestInit_ex(context_, EVP_sha256(), nullptr) == 1);
}

Sha256::~Sha256() { EVP_MD_CTX_free(context_); }

void Sha256::Update(std::string_view bytes) {
  MINIM_CHECK(EVP_DigestUpdate(context_, bytes.data(), bytes.size()) == 1);
}

void Sha256::UpdateFramed(std::string_view bytes) {
  UpdateNumber(bytes.size());
  Update(bytes);
}

void Sha256::UpdateNumber(uint64_t value) {
  char bytes[8];
  for (int i = 0; i < 8; ++i) bytes[i] = static_cast<char>(value >> (8 * i));
  Update({bytes, sizeof(bytes)});
}

std::string Sha256::Finish() {
  std::string digest(32, '\0');
  MINIM_CHECK(
      EVP_DigestFinal_ex(context_, reinterpret_cast<unsigned char*>(digest.data()), nullptr) == 1);
  return digest;
}

std::string ModelFileDigest(const Path& file) {
  std::ifstream in(file, std::ios::binary);
  if (!in) return {};
  Sha256 hash;
  std::string buffer(size_t{1} << 20, '\0'), seam;
  while (in) {
    in.read(buffer.data(), static_cast<std::streamsize>(buffer.size()));
    const std::string_view read(buffer.data(), static_cast<size_t>(in.gcount()));
    hash.Update(read);
    seam.append(read.substr(0, kExternalData.size()));
    if (read.find(kExternalData) != read.npos || seam.find(kExternalData) != seam.npos) return {};
    seam = read.substr(read.size() - std::min(read.size(), kExternalData.size()));
  }
  return in.bad() ? std::string() : hash.Finish();
}

}  // namespace minim::serve
