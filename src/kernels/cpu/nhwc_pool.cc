// NhwcMaxPool: the channels of a pixel lie side by side, so that their maxima are taken
// together.
#include <algorithm>

#include "kernels/cpu/bindings.h"
#include "kernels/cpu/nhwc_max.h"
#include "kernels/cpu/window.h"

namespace minim {
namespace {

// Calls f with each tap of an axis that lies in the image, as a position there.
template <typename F>
void ForEachTap(const Window& w, int axis, int64_t out, F&& f) {
  for (int64_t i = 0; i < w.kernel[axis]; ++i) {
    const int64_t at = out * w.stride[axis] - w.begin[axis] + i * w.dilation[axis];
    if (at >= 0 && at < w.in[axis]) f(at);
  }
}

template <typename T>
void PoolPixel(const Window& w, NhwcMax<T> max, const T* image, int64_t z, int64_t y, int64_t x,
               T* dst) {
  const T* src[kMaxTaps];
  int count = 0;
  bool first = true;
  const auto flush = [&] {
    max(src, count, w.channels, first, dst);
    count = 0;
    first = false;
  };
  ForEachTap(w, 0, z, [&](int64_t plane) {
    ForEachTap(w, 1, y, [&](int64_t row) {
      ForEachTap(w, 2, x, [&](int64_t column) {
        if (count == kMaxTaps) flush();
        src[count++] = image + ((plane * w.in[1] + row) * w.in[2] + column) * w.channels;
      });
    });
  });
  flush();
}

template <typename T>
void Run(const Window& w, NhwcMax<T> max, const KernelArgs& args) {
  const int64_t height = w.out[1], lines = w.batch * w.out[0] * height;
  const int pieces = static_cast<int>(std::min<int64_t>(lines, std::max(1, args.threads.threads)));
  args.threads.ParallelFor(pieces, [&](int piece) {
    for (int64_t line = lines * piece / pieces; line < lines * (piece + 1) / pieces; ++line) {
      const int64_t plane = line / height;
      const T* image = In<T>(args, 0) + plane / w.out[0] * w.in_size() * w.channels;
      for (int64_t x = 0; x < w.out[2]; ++x)
        PoolPixel(w, max, image, plane % w.out[0], line % height, x,
                  Out<T>(args, 0) + (line * w.out[2] + x) * w.channels);
    }
  });
}

template <typename T>
BindResult Make(const Window& w, NhwcMax<T> max, std::string_view level) {
  return MakeKernel(fmt::format("max pool, channels last, {}", level),
                    [w, max](const KernelArgs& args) { Run(w, max, args); });
}

BindResult Bind(const KernelRequest& request, const NhwcMaxLevel& level, std::string_view name) {
  const TensorDesc &x = request.inputs[0], &y = request.outputs[0];
  if (x.dims.rank() < 3) return Unsupported("an image of rank {}", x.dims.rank());
  MINIM_TRY(const Window w,
            WindowOf(AttributesOf(request), ChannelsFirst(x.dims), ChannelsFirst(y.dims), {}));
  switch (x.dtype) {
    case DType::f32: return Make(w, level.f32, name);
    case DType::bf16: return Make(w, level.bf16, name);
    case DType::i8: return Make(w, level.i8, name);
    case DType::u8: return Make(w, level.u8, name);
    default: return Unsupported("dtype {}", Name(x.dtype));
  }
}

}  // namespace

BindResult NhwcMaxPoolAvx512(const KernelRequest& request) {
  return Bind(request, NhwcMaxAvx512(), "avx512");
}
BindResult NhwcMaxPoolAvx2(const KernelRequest& request) {
  return Bind(request, NhwcMaxAvx2(), "avx2");
}
BindResult NhwcMaxPoolPortable(const KernelRequest& request) {
  return Bind(request, NhwcMaxPortable(), "portable");
}

}  // namespace minim
