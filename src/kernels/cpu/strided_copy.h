// Copies between two strided arrays of equally many elements; contiguous runs become memcpy.
#pragma once

#include <vector>

#include "kernels/cpu/table.h"

namespace minim {

struct CopyAxis {
  int64_t size = 1, src = 0, dst = 0;  // strides in elements; may be negative or 0 in src
};

class StridedCopy {
 public:
  /// `axes` outermost first; offsets in elements.
  StridedCopy(std::vector<CopyAxis> axes, size_t element_bytes, int64_t src_offset = 0,
              int64_t dst_offset = 0);
  void Run(const void* src, void* dst, const ThreadBudget& threads) const;

 private:
  void RunBlocks(const std::byte* src, std::byte* dst, int64_t first, int64_t last) const;
  void RunInner(const CopyAxis& rows, const std::byte* src, std::byte* dst) const;

  std::vector<CopyAxis> outer_;
  CopyAxis rows_, columns_;  // the two innermost loops
  size_t bytes_;
  int64_t src_offset_, dst_offset_, outer_count_ = 1;
};

}  // namespace minim
