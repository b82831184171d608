// The geometry that convolutions and pools share: a window that slides over the spatial axes.
#pragma once

#include "ops/infer.h"
#include "ops/reference.h"

namespace minim::ops {

struct Window {
  Dims kernel, strides, dilations, begins, ends;

  int rank() const { return kernel.rank(); }
  /// Places that one window spans on an axis.
  int64_t Extent(int i) const { return (kernel[i] - 1) * dilations[i] + 1; }
};

/// The window of a convolution or pool over spatial sizes `in`, auto_pad resolved to pads. Errors:
/// kInvalidArgument for a list of the wrong length or a value out of range.
Result<Window> MakeWindow(const Attributes& attributes, const Dims& kernel, const Dims& in);
/// Sizes of the output; with `ceil` a last window may hang over the end, if it starts before it.
Dims WindowOutput(const Window& window, const Dims& in, bool ceil);
/// The attributes with the pads written out and auto_pad removed.
Attributes WithPads(const Attributes& attributes, const Window& window);
/// Axes 2 and up.
Dims Spatial(const Dims& dims);
/// "pads" as ONNX lists them: begins, then ends.
std::vector<int64_t> PadList(const Window& window);

/// Visits the taps of the window at `at` that lie inside: f(kernel place, input place), both flat.
template <typename F>
void ForEachTap(const Window& w, const Dims& in, const Dims& at, F&& f) {
  ForEachIndex(w.kernel, [&](int64_t tap, const Dims& k) {
    int64_t flat = 0;
    for (int i = 0; i < w.rank(); ++i) {
      const int64_t place = at[i] * w.strides[i] - w.begins[i] + k[i] * w.dilations[i];
      if (place < 0 || place >= in[i]) return;
      flat = flat * in[i] + place;
    }
    f(tap, flat);
  });
}

/// A convolution x[N,C,..] * w[M,C/g,..] -> y[N,M,..].
struct Convolution {
  Window window;
  Dims x, w, y;
  int64_t group = 1;
};

/// Visits every product of a convolution: f(y offset, x offset, w offset).
template <typename F>
void ForEachProduct(const Convolution& c, F&& f) {
  const Dims in = Spatial(c.x), out = Spatial(c.y);
  const int64_t per_group = c.w[1], outputs = c.y[1] / std::max<int64_t>(1, c.group);
  const int64_t taps = c.window.kernel.Elements();
  for (int64_t n = 0; n < c.y[0]; ++n)
    for (int64_t m = 0; m < c.y[1]; ++m)
      ForEachIndex(out, [&](int64_t o, const Dims& at) {
        ForEachTap(c.window, in, at, [&](int64_t tap, int64_t place) {
          for (int64_t k = 0; k < per_group; ++k) {
            const int64_t channel = m / outputs * per_group + k;
            f((n * c.y[1] + m) * out.Elements() + o, (n * c.x[1] + channel) * in.Elements() + place,
              (m * per_group + k) * taps + tap);
          }
        });
      });
}

}  // namespace minim::ops
