// The geometry that convolutions and pools share, always with three spatial axes (missing ones
// have size 1).
#pragma once

#include "kernels/cpu/table.h"

namespace minim {

struct Window {
  int64_t batch = 1, channels = 1;  // of the image
  int64_t in[3] = {1, 1, 1}, out[3] = {1, 1, 1};
  int64_t kernel[3] = {1, 1, 1}, stride[3] = {1, 1, 1}, dilation[3] = {1, 1, 1};
  int64_t begin[3] = {0, 0, 0}, end[3] = {0, 0, 0};  // padding

  int64_t in_size() const { return in[0] * in[1] * in[2]; }
  int64_t out_size() const { return out[0] * out[1] * out[2]; }
  int64_t taps() const { return kernel[0] * kernel[1] * kernel[2]; }
  /// No padding, unit steps: output pixel i reads input pixel i.
  bool pointwise() const {
    for (int i = 0; i < 3; ++i) {
      if (kernel[i] != 1 || stride[i] != 1 || begin[i] != 0 || in[i] != out[i]) return false;
    }
    return true;
  }
};

/// From `image` (N,C,spatial), `result` (N,M,spatial) and ONNX's kernel_shape, strides, dilations,
/// pads, auto_pad. `kernel_dims` are the spatial dims of a weight, or empty to read kernel_shape.
Result<Window> WindowOf(const Attributes& attributes, const Dims& image, const Dims& result,
                        std::span<const int64_t> kernel_dims);

/// The logical dims of an image with its channels last.
inline Dims ChannelsFirst(const Dims& last) {
  Dims first{last[0], last[last.rank() - 1]};
  for (int i = 1; i + 1 < last.rank(); ++i) first.push_back(last[i]);
  return first;
}

/// Input positions [first, last) by `step` of one axis under output position `at`, those in the
/// image.
struct Span {
  int64_t first, last, step;
  int64_t count() const { return first < last ? (last - first + step - 1) / step : 0; }
};
Span SpanOf(const Window& w, int axis, int64_t at);

/// Elements that an average over the window at (d, h, x) divides by: those in the image, or also
/// those in the padding. 1 / count is not exact, so sums are divided by the count itself.
int64_t CountAt(const Window& w, bool include_pad, int64_t d, int64_t h, int64_t x);

/// ONNX's `group`. Errors: kUnsupported unless weights (M, C / group, spatial) fit the image.
Result<int64_t> GroupsOf(const Attributes& attributes, const Dims& image, const Dims& weights);

/// For output positions [0, out) of one axis: those whose tap at `offset` lies in [0, in).
struct TapRange {
  int64_t first, last;
};
inline TapRange ValidRange(int64_t offset, int64_t stride, int64_t in, int64_t count) {
  // first i with i * stride + offset >= 0; first i with i * stride + offset >= in
  const int64_t first = offset >= 0 ? 0 : (-offset + stride - 1) / stride;
  const int64_t last = in <= offset ? 0 : (in - offset + stride - 1) / stride;
  const int64_t bounded = last < count ? last : count;
  return {first < bounded ? first : bounded, bounded};
}

}  // namespace minim
