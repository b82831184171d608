// Pools and their gradients: one plane (image, channel) at a time.
#include <algorithm>
#include <limits>

#include "kernels/cpu/bindings.h"
#include "kernels/cpu/window.h"

namespace minim {
namespace {

// Input positions [first, last) by `step` of one axis under output position `at`.
struct Span {
  int64_t first, last, step;
  int64_t count() const { return first < last ? (last - first + step - 1) / step : 0; }
};

Span SpanOf(const Window& w, int axis, int64_t at) {
  const int64_t step = w.dilation[axis];
  int64_t first = at * w.stride[axis] - w.begin[axis];
  const int64_t last = std::min(first + (w.kernel[axis] - 1) * step + 1, w.in[axis]);
  if (first < 0) first += (-first + step - 1) / step * step;
  return {first, last, step};
}

// The same, counting the padding too (but nothing past it).
int64_t PaddedCount(const Window& w, int axis, int64_t at) {
  const int64_t first = at * w.stride[axis] - w.begin[axis];
  const int64_t reach = (w.kernel[axis] - 1) * w.dilation[axis] + 1;
  const int64_t last = std::min(first + reach, w.in[axis] + w.end[axis]);
  return std::max<int64_t>(1, (last - first + w.dilation[axis] - 1) / w.dilation[axis]);
}

// Calls f(output index, spans) for each output position of a plane.
template <typename F>
void ForEachOutput(const Window& w, F&& f) {
  int64_t index = 0;
  for (int64_t d = 0; d < w.out[0]; ++d) {
    const Span sd = SpanOf(w, 0, d);
    for (int64_t h = 0; h < w.out[1]; ++h) {
      const Span sh = SpanOf(w, 1, h);
      for (int64_t x = 0; x < w.out[2]; ++x) {
        const Span spans[3] = {sd, sh, SpanOf(w, 2, x)};
        const int64_t at[3] = {d, h, x};
        f(index++, spans, at);
      }
    }
  }
}

// Calls f(input index) for each input position under the spans.
template <typename F>
void ForEachTap(const Window& w, const Span* s, F&& f) {
  for (int64_t d = s[0].first; d < s[0].last; d += s[0].step) {
    for (int64_t h = s[1].first; h < s[1].last; h += s[1].step) {
      const int64_t row = (d * w.in[1] + h) * w.in[2];
      for (int64_t x = s[2].first; x < s[2].last; x += s[2].step) f(row + x);
    }
  }
}

template <typename T>
T Lowest() {
  if constexpr (std::is_floating_point_v<T>) return -std::numeric_limits<T>::infinity();
  return std::numeric_limits<T>::lowest();
}

// The first largest element; NaN wins.
template <typename C, typename T>
int64_t ArgMax(const Window& w, const Span* spans, const T* src, C* best) {
  int64_t at = -1;
  *best = Lowest<C>();
  ForEachTap(w, spans, [&](int64_t i) {
    const C value = static_cast<C>(src[i]);
    if (at < 0 || value > *best || (value != value && *best == *best)) {
      *best = value;
      at = i;
    }
  });
  return at;
}

template <typename T>
void MaxPlane(const Window& w, const T* src, T* dst) {
  using C = ComputeType<T>;
  ForEachOutput(w, [&](int64_t i, const Span* spans, const int64_t*) {
    C best = Lowest<C>();
    ForEachTap(w, spans, [&](int64_t at) {
      const C value = static_cast<C>(src[at]);
      best = (value > best || value != value) ? value : best;
    });
    dst[i] = ConvertTo<T>(best);
  });
}

template <typename T>
void MaxPlaneWithIndices(const Window& w, const T* src, T* dst, int64_t plane, bool column_major,
                         int64_t* indices) {
  using C = ComputeType<T>;
  ForEachOutput(w, [&](int64_t i, const Span* spans, const int64_t*) {
    C best;
    int64_t at = std::max<int64_t>(0, ArgMax(w, spans, src, &best));
    dst[i] = ConvertTo<T>(best);
    if (column_major) {
      const int64_t x = at % w.in[2], h = at / w.in[2] % w.in[1], d = at / (w.in[2] * w.in[1]);
      at = (x * w.in[1] + h) * w.in[0] + d;
    }
    indices[i] = plane * w.in_size() + at;
  });
}

template <typename T>
void AveragePlane(const Window& w, bool include_pad, const T* src, T* dst) {
  using C = ComputeType<T>;
  ForEachOutput(w, [&](int64_t i, const Span* spans, const int64_t* at) {
    C sum = 0;
    ForEachTap(w, spans, [&](int64_t p) { sum += static_cast<C>(src[p]); });
    int64_t count = spans[0].count() * spans[1].count() * spans[2].count();
    if (include_pad)
      count = PaddedCount(w, 0, at[0]) * PaddedCount(w, 1, at[1]) * PaddedCount(w, 2, at[2]);
    dst[i] = ConvertTo<T>(count ? sum / static_cast<C>(count) : C{});
  });
}

template <typename F>
void ForEachPlane(const KernelArgs& args, const Window& w, F&& f) {
  const int64_t work = std::max<int64_t>(1, w.out_size() * w.taps());
  args.threads.ParallelRange(w.batch * w.channels, 20000 / work + 1, [&](int64_t first, int64_t last) {
    for (int64_t plane = first; plane < last; ++plane) f(plane);
  });
}

Result<Window> PoolWindow(const KernelRequest& request) {
  MINIM_TRY(RequireRowMajor(request));
  return WindowOf(AttributesOf(request), request.inputs[0].dims, request.outputs[0].dims, {});
}

template <typename T>
BindResult MakeMaxPool(const KernelRequest& request, const Window& w) {
  const bool indices = HasOutput(request, 1);
  const bool column_major = AttributesOf(request).Int("storage_order", 0) != 0;
  return MakeKernel("max pool", [=](const KernelArgs& args) {
    ForEachPlane(args, w, [&](int64_t plane) {
      const T* src = In<T>(args, 0) + plane * w.in_size();
      T* dst = Out<T>(args, 0) + plane * w.out_size();
      if (indices) {
        MaxPlaneWithIndices(w, src, dst, plane, column_major, Out<int64_t>(args, 1) + plane * w.out_size());
      } else {
        MaxPlane(w, src, dst);
      }
    });
  });
}

template <typename T>
BindResult MakeAveragePool(const KernelRequest& request, const Window& w) {
  const bool include_pad = AttributesOf(request).Int("count_include_pad", 0) != 0;
  return MakeKernel("average pool", [=](const KernelArgs& args) {
    ForEachPlane(args, w, [&](int64_t plane) {
      AveragePlane(w, include_pad, In<T>(args, 0) + plane * w.in_size(),
                   Out<T>(args, 0) + plane * w.out_size());
    });
  });
}

void MaxPlaneGrad(const Window& w, const float* dy, const float* x, const int64_t* indices,
                  int64_t plane, float* dx) {
  std::fill_n(dx, w.in_size(), 0.0f);
  ForEachOutput(w, [&](int64_t i, const Span* spans, const int64_t*) {
    float best;
    const int64_t at = indices ? indices[i] - plane * w.in_size() : ArgMax(w, spans, x, &best);
    if (at >= 0 && at < w.in_size()) dx[at] += dy[i];
  });
}

void AveragePlaneGrad(const Window& w, bool include_pad, const float* dy, float* dx) {
  std::fill_n(dx, w.in_size(), 0.0f);
  ForEachOutput(w, [&](int64_t i, const Span* spans, const int64_t* at) {
    int64_t count = spans[0].count() * spans[1].count() * spans[2].count();
    if (include_pad)
      count = PaddedCount(w, 0, at[0]) * PaddedCount(w, 1, at[1]) * PaddedCount(w, 2, at[2]);
    if (count == 0) return;
    const float share = dy[i] / static_cast<float>(count);
    ForEachTap(w, spans, [&](int64_t p) { dx[p] += share; });
  });
}

Result<Window> GradWindow(const KernelRequest& request) {
  MINIM_TRY(RequireRowMajor(request));
  return WindowOf(AttributesOf(request), request.outputs[0].dims, request.inputs[0].dims, {});
}

struct Planes {
  int64_t count, size;
};

Result<Planes> GlobalPlanes(const KernelRequest& request) {
  MINIM_TRY(RequireRowMajor(request));
  const Dims& x = request.inputs[0].dims;
  if (x.rank() < 2) return Unsupported("rank {}", x.rank());
  return Planes{x[0] * x[1], x.Elements(2, x.rank())};
}

// Sixteen partial sums, so that compilers vectorise and rounding grows slowly.
template <typename C, typename T>
C SumOf(const T* src, int64_t n) {
  constexpr int kLanes = 16;
  C lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int j = 0; j < kLanes; ++j) lanes[j] += static_cast<C>(src[i + j]);
  }
  for (; i < n; ++i) lanes[i % kLanes] += static_cast<C>(src[i]);
  C sum = 0;
  for (C lane : lanes) sum += lane;
  return sum;
}

}  // namespace

BindResult MaxPoolPortable(const KernelRequest& request) {
  MINIM_TRY(const Window w, PoolWindow(request));
  switch (request.inputs[0].dtype) {
    case DType::f32: return MakeMaxPool<float>(request, w);
    case DType::f64: return MakeMaxPool<double>(request, w);
    case DType::f16: return MakeMaxPool<Half>(request, w);
    case DType::bf16: return MakeMaxPool<BFloat16>(request, w);
    case DType::i8: return MakeMaxPool<int8_t>(request, w);
    case DType::u8: return MakeMaxPool<uint8_t>(request, w);
    default: return Unsupported("dtype {}", Name(request.inputs[0].dtype));
  }
}

BindResult AveragePoolPortable(const KernelRequest& request) {
  MINIM_TRY(const Window w, PoolWindow(request));
  if (!IsFloat(request.inputs[0].dtype)) return Unsupported("dtype {}", Name(request.inputs[0].dtype));
  return VisitFloat(request.inputs[0].dtype, [&]<typename T>() { return MakeAveragePool<T>(request, w); });
}

BindResult GlobalAveragePoolPortable(const KernelRequest& request) {
  MINIM_TRY(const Planes planes, GlobalPlanes(request));
  if (!IsFloat(request.inputs[0].dtype)) return Unsupported("dtype {}", Name(request.inputs[0].dtype));
  return VisitFloat(request.inputs[0].dtype, [&]<typename T>() -> BindResult {
    return MakeKernel("global average pool", [planes](const KernelArgs& args) {
      using C = ComputeType<T>;
      const int64_t grain = 32768 / std::max<int64_t>(1, planes.size) + 1;
      args.threads.ParallelRange(planes.count, grain, [&](int64_t first, int64_t last) {
        for (int64_t i = first; i < last; ++i)
          Out<T>(args, 0)[i] = ConvertTo<T>(SumOf<C>(In<T>(args, 0) + i * planes.size, planes.size) /
                                            static_cast<C>(planes.size));
      });
    });
  });
}

BindResult GlobalMaxPoolPortable(const KernelRequest& request) {
  MINIM_TRY(const Planes planes, GlobalPlanes(request));
  if (!IsFloat(request.inputs[0].dtype)) return Unsupported("dtype {}", Name(request.inputs[0].dtype));
  return VisitFloat(request.inputs[0].dtype, [&]<typename T>() -> BindResult {
    return MakeKernel("global max pool", [planes](const KernelArgs& args) {
      using C = ComputeType<T>;
      for (int64_t i = 0; i < planes.count; ++i) {
        const T* src = In<T>(args, 0) + i * planes.size;
        C best = Lowest<C>();
        for (int64_t j = 0; j < planes.size; ++j) {
          const C value = static_cast<C>(src[j]);
          best = (value > best || value != value) ? value : best;
        }
        Out<T>(args, 0)[i] = ConvertTo<T>(best);
      }
    });
  });
}

BindResult MaxPoolGradPortable(const KernelRequest& request) {
  MINIM_TRY(const Window w, GradWindow(request));
  MINIM_TRY(RequireInputs(request, 0, 2, DType::f32));
  return MakeKernel("max pool gradient", [w](const KernelArgs& args) {
    ForEachPlane(args, w, [&](int64_t plane) {
      const int64_t* indices = In<int64_t>(args, 2);
      MaxPlaneGrad(w, In<float>(args, 0) + plane * w.out_size(), In<float>(args, 1) + plane * w.in_size(),
                   indices ? indices + plane * w.out_size() : nullptr, plane,
                   Out<float>(args, 0) + plane * w.in_size());
    });
  });
}

BindResult AveragePoolGradPortable(const KernelRequest& request) {
  MINIM_TRY(const Window w, GradWindow(request));
  const bool include_pad = AttributesOf(request).Int("count_include_pad", 0) != 0;
  return MakeKernel("average pool gradient", [=](const KernelArgs& args) {
    ForEachPlane(args, w, [&](int64_t plane) {
      AveragePlaneGrad(w, include_pad, In<float>(args, 0) + plane * w.out_size(),
                       Out<float>(args, 0) + plane * w.in_size());
    });
  });
}

}  // namespace minim
