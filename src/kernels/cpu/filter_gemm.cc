#include "kernels/cpu/filter_gemm.h"

#include <algorithm>

namespace minim {

void PackFilters(const float* filters, int64_t m, int64_t k, float* packed) {
  for (int64_t row = 0; row < m;) {
    const int64_t rows = TileRows(m - row);
    for (int64_t i = 0; i < k; ++i) {
      for (int64_t r = 0; r < rows; ++r) *packed++ = filters[(row + r) * k + i];
    }
    row += rows;
  }
  std::fill_n(packed, 8, 0.0f);
}

}  // namespace minim
