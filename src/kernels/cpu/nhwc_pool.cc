// NhwcMaxPool and NhwcAveragePool: the channels of a pixel lie side by side, so that their maxima
// and means are taken together.
#include "kernels/cpu/nhwc_pool.h"

#include <algorithm>

#include "kernels/cpu/bindings.h"
#include "kernels/cpu/window.h"

namespace minim {
namespace {

// A pixel of the result, and the image it is of.
template <typename T>
struct Pixel {
  const T* image = nullptr;
  int64_t z = 0, y = 0, x = 0;
  T* dst = nullptr;
};

template <typename T>
void MaxOfPixel(const Window& w, NhwcMax<T> max, const Pixel<T>& p) {
  const T* src[kMaxTaps];
  int count = 0;
  bool first = true;
  const auto flush = [&] {
    max(src, count, w.channels, first, p.dst);
    count = 0;
    first = false;
  };
  const Span planes = SpanOf(w, 0, p.z), rows = SpanOf(w, 1, p.y), columns = SpanOf(w, 2, p.x);
  for (int64_t i = planes.first; i < planes.last; i += planes.step) {
    for (int64_t j = rows.first; j < rows.last; j += rows.step) {
      for (int64_t k = columns.first; k < columns.last; k += columns.step) {
        if (count == kMaxTaps) flush();
        src[count++] = p.image + ((i * w.in[1] + j) * w.in[2] + k) * w.channels;
      }
    }
  }
  flush();
}

template <typename T>
void MeanOfPixel(const Window& w, NhwcMean<T> mean, bool include_pad, const Pixel<T>& p) {
  const Span spans[3] = {SpanOf(w, 0, p.z), SpanOf(w, 1, p.y), SpanOf(w, 2, p.x)};
  NhwcBox<T> box{.src = p.image};
  int64_t apart = w.channels;
  for (int i = 2; i >= 0; apart *= w.in[i--]) {
    box.count[i] = spans[i].count();
    box.step[i] = spans[i].step * apart;
    if (box.count[i] > 0) box.src += spans[i].first * apart;
  }
  // A window of padding alone has a mean of zero.
  const int64_t count = CountAt(w, include_pad, p.z, p.y, p.x);
  mean(box, w.channels, static_cast<float>(std::max<int64_t>(1, count)), p.dst);
}

template <typename T, typename F>
void ForEachPixel(const Window& w, const KernelArgs& args, F&& f) {
  const int64_t height = w.out[1], lines = w.batch * w.out[0] * height;
  const int pieces = static_cast<int>(std::min<int64_t>(lines, std::max(1, args.threads.threads)));
  args.threads.ParallelFor(pieces, [&](int piece) {
    for (int64_t line = lines * piece / pieces; line < lines * (piece + 1) / pieces; ++line) {
      const int64_t plane = line / height;
      const T* image = In<T>(args, 0) + plane / w.out[0] * w.in_size() * w.channels;
      for (int64_t x = 0; x < w.out[2]; ++x)
        f(Pixel<T>{image, plane % w.out[0], line % height, x,
                   Out<T>(args, 0) + (line * w.out[2] + x) * w.channels});
    }
  });
}

template <typename T>
BindResult MakeMax(const Window& w, NhwcMax<T> max, std::string_view level) {
  return MakeKernel(fmt::format("max pool, channels last, {}", level),
                    [w, max](const KernelArgs& args) {
                      ForEachPixel<T>(w, args, [&](const Pixel<T>& p) { MaxOfPixel(w, max, p); });
                    });
}

template <typename T>
BindResult MakeMean(const KernelRequest& request, const Window& w, NhwcMean<T> mean,
                    std::string_view level) {
  const bool include_pad = AttributesOf(request).Int("count_include_pad", 0) != 0;
  return MakeKernel(
      fmt::format("average pool, channels last, {}", level),
      [w, mean, include_pad](const KernelArgs& args) {
        ForEachPixel<T>(w, args, [&](const Pixel<T>& p) { MeanOfPixel(w, mean, include_pad, p); });
      });
}

Result<Window> PoolWindow(const KernelRequest& request) {
  const TensorDesc &x = request.inputs[0], &y = request.outputs[0];
  if (x.dims.rank() < 3) return Unsupported("an image of rank {}", x.dims.rank());
  return WindowOf(AttributesOf(request), ChannelsFirst(x.dims), ChannelsFirst(y.dims), {});
}

BindResult BindMax(const KernelRequest& request, const NhwcPoolLevel& level,
                   std::string_view name) {
  MINIM_TRY(const Window w, PoolWindow(request));
  switch (request.inputs[0].dtype) {
    case DType::f32: return MakeMax(w, level.f32, name);
    case DType::bf16: return MakeMax(w, level.bf16, name);
    case DType::i8: return MakeMax(w, level.i8, name);
    case DType::u8: return MakeMax(w, level.u8, name);
    default: return Unsupported("dtype {}", Name(request.inputs[0].dtype));
  }
}

BindResult BindMean(const KernelRequest& request, const NhwcPoolLevel& level,
                    std::string_view name) {
  MINIM_TRY(const Window w, PoolWindow(request));
  switch (request.inputs[0].dtype) {
    case DType::f32: return MakeMean(request, w, level.mean_f32, name);
    case DType::bf16: return MakeMean(request, w, level.mean_bf16, name);
    default: return Unsupported("dtype {}", Name(request.inputs[0].dtype));
  }
}

}  // namespace

BindResult NhwcMaxPoolAvx512(const KernelRequest& request) {
  return BindMax(request, NhwcPoolsAvx512(), "avx512");
}
BindResult NhwcMaxPoolAvx2(const KernelRequest& request) {
  return BindMax(request, NhwcPoolsAvx2(), "avx2");
}
BindResult NhwcMaxPoolPortable(const KernelRequest& request) {
  return BindMax(request, NhwcPoolsPortable(), "portable");
}
BindResult NhwcAveragePoolAvx512(const KernelRequest& request) {
  return BindMean(request, NhwcPoolsAvx512(), "avx512");
}
BindResult NhwcAveragePoolAvx2(const KernelRequest& request) {
  return BindMean(request, NhwcPoolsAvx2(), "avx2");
}
BindResult NhwcAveragePoolPortable(const KernelRequest& request) {
  return BindMean(request, NhwcPoolsPortable(), "portable");
}

}  // namespace minim
