#include "kernels/cpu/image_pack.h"

#include <algorithm>

namespace minim {
namespace {

// Pixels of one panel that lie in one output row.
struct Segment {
  int64_t lane, count, d, h, w;
};

int Segments(const Window& w, int64_t pixel, Segment* segments) {
  int n = 0;
  const int64_t end = std::min(pixel + kPanel, w.out_size());
  for (int64_t p = pixel; p < end;) {
    const int64_t column = p % w.out[2], row = p / w.out[2];
    const int64_t count = std::min(end - p, w.out[2] - column);
    segments[n++] = {p - pixel, count, row / w.out[1], row % w.out[1], column};
    p += count;
  }
  return n;
}

struct Tap {
  int64_t d, h, w, index;
};

template <typename F>
void ForEachTap(const Window& w, F&& f) {
  int64_t index = 0;
  for (int64_t d = 0; d < w.kernel[0]; ++d) {
    for (int64_t h = 0; h < w.kernel[1]; ++h) {
      for (int64_t k = 0; k < w.kernel[2]; ++k)
        f(Tap{d * w.dilation[0], h * w.dilation[1], k * w.dilation[2], index++});
    }
  }
}

// Offset of input row (d, h) in a plane, or -1 outside.
int64_t RowOffset(const Window& w, int64_t out_d, int64_t out_h, const Tap& tap) {
  const int64_t d = out_d * w.stride[0] - w.begin[0] + tap.d;
  const int64_t h = out_h * w.stride[1] - w.begin[1] + tap.h;
  if (d < 0 || d >= w.in[0] || h < 0 || h >= w.in[1]) return -1;
  return (d * w.in[1] + h) * w.in[2];
}

void PackSegment(const Window& w, const Segment& s, const Tap& tap, const float* image,
                 int64_t channels, float padding, float* packed) {
  const int64_t taps = w.taps(), plane = w.in_size(), stride = w.stride[2];
  const int64_t row = RowOffset(w, s.d, s.h, tap);
  const int64_t column = s.w * stride - w.begin[2] + tap.w;
  const TapRange valid = row < 0 ? TapRange{0, 0} : ValidRange(column, stride, w.in[2], s.count);
  const bool whole = valid.first == 0 && valid.last == s.count && stride == 1;
  for (int64_t c = 0; c < channels; ++c) {
    float* dst = packed + (c * taps + tap.index) * kPanel + s.lane;
    const float* src = image + c * plane + row + column;
    if (whole && s.count == kPanel) {
      std::memcpy(dst, src, kPanel * sizeof(float));
      continue;
    }
    for (int64_t i = 0; i < valid.first; ++i) dst[i] = padding;
    for (int64_t i = valid.first; i < valid.last; ++i) dst[i] = src[i * stride];
    for (int64_t i = valid.last; i < s.count; ++i) dst[i] = padding;
  }
}

}  // namespace

void PackPixels(const Window& w, const float* image, int64_t channels, int64_t first, int64_t last,
                float padding, float* packed) {
  const int64_t rows = channels * w.taps();
  for (int64_t p = first; p < last; ++p, packed += rows * kPanel) {
    Segment segments[kPanel];
    const int count = Segments(w, p * kPanel, segments);
    const int64_t filled = segments[count - 1].lane + segments[count - 1].count;
    for (int64_t r = 0; filled < kPanel && r < rows; ++r)
      std::fill(packed + r * kPanel + filled, packed + (r + 1) * kPanel, 0.0f);
    for (int i = 0; i < count; ++i) {
      ForEachTap(w, [&](const Tap& tap) {
        PackSegment(w, segments[i], tap, image, channels, padding, packed);
      });
    }
  }
}

void PackTaps(const Window& w, const float* image, int64_t channels, int64_t column,
              int64_t first_pixel, int64_t pixels, float* packed) {
  const int64_t taps = w.taps();
  for (int64_t lane = 0; lane < kPanel; ++lane) {
    const int64_t k = column + lane;
    if (k >= channels * taps) {
      for (int64_t i = 0; i < pixels; ++i) packed[i * kPanel + lane] = 0;
      continue;
    }
    const int64_t t = k % taps;
    const Tap tap{t / (w.kernel[1] * w.kernel[2]) * w.dilation[0],
                  t / w.kernel[2] % w.kernel[1] * w.dilation[1], t % w.kernel[2] * w.dilation[2],
                  t};
    const float* plane = image + k / taps * w.in_size();
    for (int64_t p = first_pixel; p < first_pixel + pixels;) {
      const int64_t at = p % w.out[2], line = p / w.out[2];
      const int64_t count = std::min(first_pixel + pixels - p, w.out[2] - at);
      const int64_t row = RowOffset(w, line / w.out[1], line % w.out[1], tap);
      const int64_t start = at * w.stride[2] - w.begin[2] + tap.w;
      const TapRange valid =
          row < 0 ? TapRange{0, 0} : ValidRange(start, w.stride[2], w.in[2], count);
      float* dst = packed + (p - first_pixel) * kPanel + lane;
      for (int64_t i = 0; i < valid.first; ++i) dst[i * kPanel] = 0;
      for (int64_t i = valid.first; i < valid.last; ++i)
        dst[i * kPanel] = plane[row + start + i * w.stride[2]];
      for (int64_t i = valid.last; i < count; ++i) dst[i * kPanel] = 0;
      p += count;
    }
  }
}

void AddColumns(const Window& w, const float* columns, int64_t channels, float* image) {
  for (int64_t c = 0; c < channels; ++c, image += w.in_size()) {
    ForEachTap(w, [&](const Tap& tap) {
      const float* src = columns + (c * w.taps() + tap.index) * w.out_size();
      const int64_t start = tap.w - w.begin[2];
      const TapRange valid = ValidRange(start, w.stride[2], w.in[2], w.out[2]);
      for (int64_t line = 0; line < w.out[0] * w.out[1]; ++line, src += w.out[2]) {
        const int64_t row = RowOffset(w, line / w.out[1], line % w.out[1], tap);
        if (row < 0) continue;
        float* dst = image + row + start;
        for (int64_t i = valid.first; i < valid.last; ++i) dst[i * w.stride[2]] += src[i];
      }
    });
  }
}

}  // namespace minim
