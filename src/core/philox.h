// Philox4x32-10, the counter-based generator of Salmon et al., "Parallel Random Numbers: As Easy
// as 1, 2, 3" (SC 2011). Draw i of (seed, stream) is a pure function: no state, any order, any
// thread, the same bits.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <numbers>

namespace minim {

class Philox {
 public:
  explicit Philox(uint64_t seed, uint64_t stream = 0) : seed_(seed), stream_(stream) {}

  /// Four words for block `counter`.
  std::array<uint32_t, 4> Block(uint64_t counter) const {
    std::array<uint32_t, 4> x = {Low(counter), High(counter), Low(stream_), High(stream_)};
    uint32_t k0 = Low(seed_), k1 = High(seed_);
    for (int round = 0; round < 10; ++round, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
      const uint64_t p0 = uint64_t{0xD2511F53u} * x[0];
      const uint64_t p1 = uint64_t{0xCD9E8D57u} * x[2];
      x = {High(p1) ^ x[1] ^ k0, Low(p1), High(p0) ^ x[3] ^ k1, Low(p0)};
    }
    return x;
  }
  uint32_t Word(uint64_t i) const { return Block(i / 4)[i % 4]; }
  /// In [0, 1), 24 bits.
  float Uniform(uint64_t i) const { return static_cast<float>(Word(i) >> 8) * 0x1p-24f; }
  /// In [0, n), n > 0; the bias is below n / 2^32.
  uint32_t Below(uint64_t i, uint32_t n) const {
    return static_cast<uint32_t>((uint64_t{Word(i)} * n) >> 32);
  }
  /// Standard normal by Box-Muller.
  float Normal(uint64_t i) const {
    const auto words = Block(i);
    const double u = (words[0] + 0.5) * 0x1p-32, v = words[1] * 0x1p-32;
    return static_cast<float>(std::sqrt(-2 * std::log(u)) * std::cos(2 * std::numbers::pi * v));
  }

 private:
  static uint32_t Low(uint64_t v) { return static_cast<uint32_t>(v); }
  static uint32_t High(uint64_t v) { return static_cast<uint32_t>(v >> 32); }

  uint64_t seed_;
  uint64_t stream_;
};

}  // namespace minim
