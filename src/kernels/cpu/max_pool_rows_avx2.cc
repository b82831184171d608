#include "kernels/cpu/max_pool_rows.h"

#include <cstring>
#include <limits>

namespace minim {
namespace {

template <typename T>
inline T Larger(T a, T b) {
  return a > b ? a : b;
}

template <typename T>
void Fill(T* dst, int64_t n) {
  for (int64_t i = 0; i < n; ++i) dst[i] = std::numeric_limits<T>::min();
}

template <typename T>
void LargerRow(const T* __restrict a, int64_t n, T* __restrict dst) {
  for (int64_t i = 0; i < n; ++i) dst[i] = Larger(a[i], dst[i]);
}

// The rows of the window at output row y, in the middle of the line.
template <typename T>
void Combine(const Window& w, const T* src, int64_t y, T* line) {
  bool first = true;
  for (int64_t k = 0; k < w.kernel[1]; ++k) {
    const int64_t row = y * w.stride[1] - w.begin[1] + k * w.dilation[1];
    if (row < 0 || row >= w.in[1]) continue;
    if (first)
      std::memcpy(line, src + row * w.in[2], w.in[2] * sizeof(T));
    else
      LargerRow(src + row * w.in[2], w.in[2], line);
    first = false;
  }
  if (first) Fill(line, w.in[2]);
}

// `stride`, `taps`: known here, or 0 for those of the window.
template <int stride, int taps, typename T>
void Columns(const Window& w, const T* __restrict line, T* __restrict dst) {
  const int64_t step = stride > 0 ? stride : w.stride[2], count = taps > 0 ? taps : w.kernel[2];
  const int64_t dilation = w.dilation[2], n = w.out[2];
  for (int64_t x = 0; x < n; ++x) {
    T best = line[x * step];
    for (int64_t k = 1; k < count; ++k) best = Larger(line[x * step + k * dilation], best);
    dst[x] = best;
  }
}

template <typename T>
void ColumnsOf(const Window& w, const T* line, T* dst) {
  const int64_t step = w.stride[2], taps = w.kernel[2];
  if (step == 2 && taps == 3) return Columns<2, 3>(w, line, dst);
  if (step == 2 && taps == 2) return Columns<2, 2>(w, line, dst);
  if (step == 1 && taps == 3) return Columns<1, 3>(w, line, dst);
  Columns<0, 0>(w, line, dst);
}

}  // namespace

template <typename T>
void MaxPoolPlaneAvx2(const Window& w, const T* src, T* line, T* dst) {
  const int64_t left = w.begin[2], end = MaxPoolLine(w);
  Fill(line, left);
  Fill(line + left + w.in[2], end - left - w.in[2]);
  for (int64_t y = 0; y < w.out[1]; ++y) {
    Combine(w, src, y, line + left);
    ColumnsOf(w, line, dst + y * w.out[2]);
  }
}

template void MaxPoolPlaneAvx2(const Window&, const uint8_t*, uint8_t*, uint8_t*);
template void MaxPoolPlaneAvx2(const Window&, const int8_t*, int8_t*, int8_t*);

}  // namespace minim
