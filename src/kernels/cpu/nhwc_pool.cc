// NhwcMaxPool of bytes: the channels of a pixel lie side by side, so that their maxima are taken
// together.
#include <algorithm>
#include <limits>

#include "kernels/cpu/bindings.h"
#include "kernels/cpu/window.h"

namespace minim {
namespace {

template <typename T>
void PoolPixel(const Window& w, const T* image, int64_t y, int64_t x, T* dst) {
  const int64_t channels = w.channels;
  std::fill_n(dst, channels, std::numeric_limits<T>::min());
  for (int64_t i = 0; i < w.kernel[1]; ++i) {
    const int64_t row = y * w.stride[1] - w.begin[1] + i * w.dilation[1];
    if (row < 0 || row >= w.in[1]) continue;
    for (int64_t j = 0; j < w.kernel[2]; ++j) {
      const int64_t column = x * w.stride[2] - w.begin[2] + j * w.dilation[2];
      if (column < 0 || column >= w.in[2]) continue;
      const T* src = image + (row * w.in[2] + column) * channels;
#pragma GCC ivdep
      for (int64_t c = 0; c < channels; ++c) dst[c] = std::max(dst[c], src[c]);
    }
  }
}

template <typename T>
void Run(const Window& w, const KernelArgs& args) {
  const int64_t lines = w.batch * w.out[1];
  const int pieces = static_cast<int>(std::min<int64_t>(lines, std::max(1, args.threads.threads)));
  args.threads.ParallelFor(pieces, [&](int piece) {
    for (int64_t line = lines * piece / pieces; line < lines * (piece + 1) / pieces; ++line) {
      const T* image = In<T>(args, 0) + line / w.out[1] * w.in_size() * w.channels;
      for (int64_t x = 0; x < w.out[2]; ++x)
        PoolPixel(w, image, line % w.out[1], x,
                  Out<T>(args, 0) + (line * w.out[2] + x) * w.channels);
    }
  });
}

}  // namespace

BindResult NhwcMaxPoolPortable(const KernelRequest& request) {
  const TensorDesc &x = request.inputs[0], &y = request.outputs[0];
  if (x.dims.rank() != 4) return Unsupported("an image of other rank than 4");
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
