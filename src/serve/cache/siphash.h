// SipHash-2-4 with a 128-bit result: a keyed hash, so that who chooses the bytes cannot aim for
// collisions without the key.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace minim::serve {

struct Digest128 {
  uint64_t low = 0;
  uint64_t high = 0;
  friend bool operator==(const Digest128&, const Digest128&) = default;
};

/// Streaming form: Update any number of times, then Finish once.
class SipHash128 {
 public:
  explicit SipHash128(const Digest128& key);
  void Update(std::string_view bytes);
  /// A length prefix keeps ("ab","c") and ("a","bc") apart.
  void UpdateFramed(std::string_view bytes);
  void UpdateNumber(uint64_t value);
  Digest128 Finish();

 private:
  void Round();
  void Absorb(uint64_t word);

  uint64_t v0_, v1_, v2_, v3_;
  std::array<unsigned char, 8> tail_{};
  size_t tail_size_ = 0;
  uint64_t total_ = 0;
};

}  // namespace minim::serve
