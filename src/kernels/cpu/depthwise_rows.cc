#include "kernels/cpu/depthwise_rows.h"

namespace minim {

Result<DepthwiseRows> DepthwiseRowsOf(const Window& w, int64_t lanes) {
  const int64_t stride = w.stride[2];
  if (w.in[0] != 1 || w.kernel[0] != 1 || w.out[0] != 1) return Unsupported("three spatial axes");
  if (stride > 2 || lanes * stride > 64) return Unsupported("columns {} apart", stride);
  if (w.kernel[1] * w.kernel[2] > kMostPlaneTaps)
    return Unsupported("filters of {}x{}", w.kernel[1], w.kernel[2]);
  DepthwiseRows rows{.w = w, .lanes = lanes};
  for (int64_t x = 0; x < w.out[2]; x += lanes) {
    for (int64_t tap = 0; tap < w.kernel[2]; ++tap) {
      uint64_t mask = 0;
      for (int64_t i = 0; i < lanes * stride; ++i) {
        const int64_t column = rows.ColumnOf(x, tap) + i;
        if (column >= 0 && column < w.in[2]) mask |= uint64_t{1} << i;
      }
      rows.masks.push_back(mask);
    }
  }
  return rows;
}

}  // namespace minim
