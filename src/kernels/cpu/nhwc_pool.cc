// NhwcMaxPool of bytes: the channels of a pixel lie side by side, so that their maxima are taken
// together.
#include <algorithm>
#include <limits>
#include <utility>

#include "kernels/cpu/bindings.h"
#include "kernels/cpu/window.h"

namespace minim {
namespace {

constexpr int kTogether = 9;  // taps whose maximum is taken at once: those of 3x3

template <typename T, int taps>
void Largest(const T* const* src, int64_t channels, bool first, T* dst) {
  const T* x[std::max(1, taps)];
  std::copy_n(src, taps, x);
#pragma GCC ivdep
  for (int64_t c = 0; c < channels; ++c) {
    T most = first ? std::numeric_limits<T>::min() : dst[c];
#pragma GCC unroll 9
    for (int i = 0; i < taps; ++i) most = std::max(most, x[i][c]);
    dst[c] = most;
  }
}

template <typename T, int... taps>
void LargestOf(const T* const* src, int count, int64_t channels, bool first, T* dst,
               std::integer_sequence<int, taps...>) {
  using Function = void (*)(const T* const*, int64_t, bool, T*);
  static constexpr Function kByCount[] = {Largest<T, taps>...};
  kByCount[count](src, channels, first, dst);
}

// Calls f with each tap of an axis that lies in the image, as a position there.
template <typename F>
void ForEachTap(const Window& w, int axis, int64_t out, F&& f) {
  for (int64_t i = 0; i < w.kernel[axis]; ++i) {
    const int64_t at = out * w.stride[axis] - w.begin[axis] + i * w.dilation[axis];
    if (at >= 0 && at < w.in[axis]) f(at);
  }
}

template <typename T>
void PoolPixel(const Window& w, const T* image, int64_t z, int64_t y, int64_t x, T* dst) {
  const T* src[kTogether];
  int count = 0;
  bool first = true;
  const auto flush = [&] {
    LargestOf(src, count, w.channels, first, dst, std::make_integer_sequence<int, kTogether + 1>());
    count = 0;
    first = false;
  };
  ForEachTap(w, 0, z, [&](int64_t plane) {
    ForEachTap(w, 1, y, [&](int64_t row) {
      ForEachTap(w, 2, x, [&](int64_t column) {
        if (count == kTogether) flush();
        src[count++] = image + ((plane * w.in[1] + row) * w.in[2] + column) * w.channels;
      });
    });
  });
  flush();
}

template <typename T>
void Run(const Window& w, const KernelArgs& args) {
  const int64_t height = w.out[1], lines = w.batch * w.out[0] * height;
  const int pieces = static_cast<int>(std::min<int64_t>(lines, std::max(1, args.threads.threads)));
  args.threads.ParallelFor(pieces, [&](int piece) {
    for (int64_t line = lines * piece / pieces; line < lines * (piece + 1) / pieces; ++line) {
      const int64_t plane = line / height;
      const T* image = In<T>(args, 0) + plane / w.out[0] * w.in_size() * w.channels;
      for (int64_t x = 0; x < w.out[2]; ++x)
        PoolPixel(w, image, plane % w.out[0], line % height, x,
                  Out<T>(args, 0) + (line * w.out[2] + x) * w.channels);
    }
  });
}

}  // namespace

BindResult NhwcMaxPoolPortable(const KernelRequest& request) {
  const TensorDesc &x = request.inputs[0], &y = request.outputs[0];
  if (x.dims.rank() < 3) return Unsupported("an image of rank {}", x.dims.rank());
  MINIM_TRY(const Window w,
            WindowOf(AttributesOf(request), ChannelsFirst(x.dims), ChannelsFirst(y.dims), {}));
  const bool is_signed = x.dtype == DType::i8;
  return MakeKernel("max pool, channels last", [w, is_signed](const KernelArgs& args) {
    if (is_signed)
      Run<int8_t>(w, args);
    else
      Run<uint8_t>(w, args);
  });
}

}  // namespace minim
