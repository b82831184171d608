// How a kernel lays out its scratch: the same calls count its bytes and hand out its pieces.
#pragma once

#include "kernels/cpu/table.h"

namespace minim {

/// Hands out aligned pieces of one buffer; with no buffer it only counts.
class Carver {
 public:
  explicit Carver(std::byte* base) : base_(base) {}
  template <typename T>
  T* Take(int64_t count) {
    const size_t at = bytes_;
    bytes_ += AlignUp(static_cast<size_t>(count) * sizeof(T));
    return base_ ? reinterpret_cast<T*>(base_ + at) : nullptr;
  }
  size_t bytes() const { return bytes_; }

 private:
  std::byte* base_;
  size_t bytes_ = 0;
};

}  // namespace minim
