#include "serve/cache/siphash.h"

#include <bit>
#include <cstring>

namespace minim::serve {
namespace {

uint64_t LoadWord(const void* bytes) {
  uint64_t word = 0;
  std::memcpy(&word, bytes, sizeof(word));  // minim runs on little-endian machines only
  return word;
}

}  // namespace

SipHash128::SipHash128(const Digest128& key)
    : v0_(0x736f6d6570736575ull ^ key.low),
      v1_(0x646f72616e646f6dull ^ key.high ^ 0xee),
      v2_(0x6c7967656e657261ull ^ key.low),
      v3_(0x7465646279746573ull ^ key.high) {}

void SipHash128::Round() {
  v0_ += v1_;
  v1_ = std::rotl(v1_, 13) ^ v0_;
  v0_ = std::rotl(v0_, 32);
  v2_ += v3_;
  v3_ = std::rotl(v3_, 16) ^ v2_;
  v0_ += v3_;
  v3_ = std::rotl(v3_, 21) ^ v0_;
  v2_ += v1_;
  v1_ = std::rotl(v1_, 17) ^ v2_;
  v2_ = std::rotl(v2_, 32);
}

void SipHash128::Absorb(uint64_t word) {
  v3_ ^= word;
  Round();
  Round();
  v0_ ^= word;
}

void SipHash128::Update(std::string_view bytes) {
  total_ += bytes.size();
  while (tail_size_ > 0 && !bytes.empty()) {
    tail_[tail_size_++] = static_cast<unsigned char>(bytes.front());
    bytes.remove_prefix(1);
    if (tail_size_ == 8) {
      Absorb(LoadWord(tail_.data()));
      tail_size_ = 0;
    }
  }
  for (; bytes.size() >= 8; bytes.remove_prefix(8)) Absorb(LoadWord(bytes.data()));
  for (const char byte : bytes) tail_[tail_size_++] = static_cast<unsigned char>(byte);
}

void SipHash128::UpdateNumber(uint64_t value) {
  Update({reinterpret_cast<const char*>(&value), sizeof(value)});
}

void SipHash128::UpdateFramed(std::string_view bytes) {
  UpdateNumber(bytes.size());
  Update(bytes);
}

Digest128 SipHash128::Finish() {
  uint64_t last = total_ << 56;
  for (size_t i = 0; i < tail_size_; ++i) last |= static_cast<uint64_t>(tail_[i]) << (8 * i);
  Absorb(last);
  v2_ ^= 0xee;
  for (int i = 0; i < 4; ++i) Round();
  Digest128 digest;
  digest.low = v0_ ^ v1_ ^ v2_ ^ v3_;
  v1_ ^= 0xdd;
  for (int i = 0; i < 4; ++i) Round();
  digest.high = v0_ ^ v1_ ^ v2_ ^ v3_;
  return digest;
}

}  // namespace minim::serve
