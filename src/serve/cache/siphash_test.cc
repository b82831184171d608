#include "serve/cache/siphash.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>

namespace minim::serve {
namespace {

constexpr Digest128 kKey = {0x0706050403020100ull, 0x0f0e0d0c0b0a0908ull};

std::string Hex(const Digest128& digest) {
  unsigned char bytes[16];
  std::memcpy(bytes, &digest.low, 8);
  std::memcpy(bytes + 8, &digest.high, 8);
  std::string text;
  for (const unsigned char byte : bytes) {
    text += "0123456789ABCDEF"[byte >> 4];
    text += "0123456789ABCDEF"[byte & 15];
  }
  return text;
}

std::string HashOf(std::string_view bytes) {
  SipHash128 hash(kKey);
  hash.Update(bytes);
  return Hex(hash.Finish());
}

TEST(SipHashTest, KnownVectors) {  // as OpenSSL 3 computes them
  EXPECT_EQ(HashOf(""), "A3817F04BA25A8E66DF67214C7550293");
  EXPECT_EQ(HashOf(std::string_view("\0", 1)), "DA87C1D86B99AF44347659119B22FC45");
  EXPECT_EQ(HashOf("abcdefghijklmnopqrstuvwxyz"), "00F71A5D15ED2C558029673581414F88");
}

TEST(SipHashTest, PiecesGiveTheSameDigest) {
  const std::string text = "abcdefghijklmnopqrstuvwxyz";
  for (size_t cut = 0; cut <= text.size(); ++cut) {
    SipHash128 hash(kKey);
    hash.Update(std::string_view(text).substr(0, cut));
    hash.Update(std::string_view(text).substr(cut));
    EXPECT_EQ(Hex(hash.Finish()), HashOf(text)) << cut;
  }
}

TEST(SipHashTest, FramesKeepNeighboursApart) {
  SipHash128 a(kKey), b(kKey);
  a.UpdateFramed("ab");
  a.UpdateFramed("c");
  b.UpdateFramed("a");
  b.UpdateFramed("bc");
  EXPECT_FALSE(a.Finish() == b.Finish());
}

}  // namespace
}  // namespace minim::serve
