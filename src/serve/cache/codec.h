// How answers are kept in a cache: the tensors' bytes, compressed only when that pays.
// Threads: every method may be called concurrently.
#pragma once

#include <atomic>
#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "minim/tensor.h"

namespace minim::serve {

/// An answer and what it took to compute it, in microseconds up to an hour.
struct CachedAnswer {
  std::vector<Tensor> tensors;
  std::chrono::microseconds compute{0};
};

class AnswerCodec {
 public:
  std::string Encode(const CachedAnswer& answer);
  /// Errors: kDataLoss for bytes that Encode did not make. They may come from a shared cache.
  Result<CachedAnswer> Decode(std::string_view bytes) const;

  /// Bytes before and after, of everything encoded so far.
  uint64_t raw_bytes() const { return raw_bytes_; }
  uint64_t stored_bytes() const { return stored_bytes_; }

 private:
  bool WorthTrying(size_t size);

  std::atomic<uint64_t> raw_bytes_{0};
  std::atomic<uint64_t> stored_bytes_{0};
  std::atomic<uint32_t> skip_{0};      // values to store without trying to compress
  std::atomic<uint32_t> patience_{0};  // grows with every attempt in vain
};

}  // namespace minim::serve
