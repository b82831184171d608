// Images as matrices, in the packed form of the matrix product: row (channel, tap), column output
// pixel; or the transpose of that.
#pragma once

#include "kernels/cpu/gemm.h"
#include "kernels/cpu/window.h"

namespace minim {

/// Packs panels [first, last) of 16 output pixels of `channels` planes at `image`: panel p holds
/// channels * taps rows of 16; padding is 0.
void PackPixels(const Window& w, const float* image, int64_t channels, int64_t first, int64_t last,
                float padding, float* packed);

/// Packs one panel of the transpose: `pixels` rows from pixel `first_pixel`, columns
/// [column, column + 16) of (channel, tap), zero past channels * taps.
void PackTaps(const Window& w, const float* image, int64_t channels, int64_t column,
              int64_t first_pixel, int64_t pixels, float* packed);

/// Adds rows [0, channels * taps) x out_size pixels of `columns` back to where they were read.
void AddColumns(const Window& w, const float* columns, int64_t channels, float* image);

}  // namespace minim
