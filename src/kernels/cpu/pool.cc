// Pools and their gradients: one plane (image, channel) at a time.
#include <algorithm>
#include <limits>

#include "kernels/cpu/bindings.h"
#include "kernels/cpu/max_pool_rows.h"
#include "kernels/cpu/window.h"

namespace minim {
namespace {

template <typename T>
T Lowest() {
  if constexpr (std::is_floating_point_v<T>) return -std::numeric_limits<T>::infinity();
  return std::numeric_limits<T>::lowest();
}

constexpr int64_t kChunk = 128;  // outputs of one row worked on together

// For outputs [x, x + n) of row (d, h): calls f(first, last, input index of output x, step) per tap
// row, where outputs [first, last) have that tap inside the image.
template <typename F>
void ForEachTapRow(const Window& w, int64_t d, int64_t h, int64_t x, int64_t n, F&& f) {
  const Span sd = SpanOf(w, 0, d), sh = SpanOf(w, 1, h);
  for (int64_t id = sd.first; id < sd.last; id += sd.step) {
    for (int64_t ih = sh.first; ih < sh.last; ih += sh.step) {
      for (int64_t k = 0; k < w.kernel[2]; ++k) {
        const int64_t column = x * w.stride[2] - w.begin[2] + k * w.dilation[2];
        const TapRange valid = ValidRange(column, w.stride[2], w.in[2], n);
        f(valid.first, valid.last, (id * w.in[1] + ih) * w.in[2] + column, w.stride[2]);
      }
    }
  }
}

template <typename F>
void ForEachChunk(const Window& w, F&& f) {
  for (int64_t row = 0; row < w.out[0] * w.out[1]; ++row) {
    for (int64_t x = 0; x < w.out[2]; x += kChunk)
      f(row / w.out[1], row % w.out[1], x, std::min(kChunk, w.out[2] - x), row * w.out[2] + x);
  }
}

// The largest elements of a chunk and, if asked, where each first stands; NaN wins.
template <bool where, typename T, typename C>
void MaxChunk(const Window& w, const T* src, int64_t d, int64_t h, int64_t x, int64_t n, C* best,
              int32_t* at) {
  std::fill_n(best, n, Lowest<C>());
  if (where) std::fill_n(at, n, -1);
  ForEachTapRow(w, d, h, x, n, [&](int64_t first, int64_t last, int64_t index, int64_t step) {
#pragma GCC ivdep
    for (int64_t i = first; i < last; ++i) {
      const C value = static_cast<C>(src[index + i * step]);
      if constexpr (where) {
        const bool take =
            (value > best[i]) | (at[i] < 0) | ((value != value) & (best[i] == best[i]));
        best[i] = take ? value : best[i];
        at[i] = take ? static_cast<int32_t>(index + i * step) : at[i];
      } else {
        best[i] = ((value > best[i]) | (value != value)) ? value : best[i];
      }
    }
  });
}

template <typename T>
void MaxPlane(const Window& w, const T* src, T* dst) {
  using C = ComputeType<T>;
  ForEachChunk(w, [&](int64_t d, int64_t h, int64_t x, int64_t n, int64_t to) {
    C best[kChunk];
    MaxChunk<false>(w, src, d, h, x, n, best, nullptr);
    for (int64_t i = 0; i < n; ++i) dst[to + i] = ConvertTo<T>(best[i]);
  });
}

template <typename T>
void MaxPlaneWithIndices(const Window& w, const T* src, T* dst, int64_t plane, bool column_major,
                         int64_t* indices) {
  using C = ComputeType<T>;
  ForEachChunk(w, [&](int64_t d, int64_t h, int64_t x, int64_t n, int64_t to) {
    C best[kChunk];
    int32_t where[kChunk];
    MaxChunk<true>(w, src, d, h, x, n, best, where);
    for (int64_t i = 0; i < n; ++i) {
      int64_t at = std::max<int64_t>(0, where[i]);
      dst[to + i] = ConvertTo<T>(best[i]);
      if (column_major) {
        const int64_t ix = at % w.in[2], ih = at / w.in[2] % w.in[1], id = at / (w.in[2] * w.in[1]);
        at = (ix * w.in[1] + ih) * w.in[0] + id;
      }
      indices[to + i] = plane * w.in_size() + at;
    }
  });
}

template <typename T>
void AveragePlane(const Window& w, bool include_pad, const T* src, T* dst) {
  using C = ComputeType<T>;
  ForEachChunk(w, [&](int64_t d, int64_t h, int64_t x, int64_t n, int64_t to) {
    C sum[kChunk] = {};
    ForEachTapRow(w, d, h, x, n, [&](int64_t first, int64_t last, int64_t index, int64_t step) {
#pragma GCC ivdep
      for (int64_t i = first; i < last; ++i) sum[i] += static_cast<C>(src[index + i * step]);
    });
    for (int64_t i = 0; i < n; ++i) {
      const int64_t count = CountAt(w, include_pad, d, h, x + i);
      dst[to + i] = ConvertTo<T>(count ? sum[i] / static_cast<C>(count) : C{});
    }
  });
}

template <typename F>
void ForEachPlane(const KernelArgs& args, const Window& w, F&& f) {
  const int64_t work = std::max<int64_t>(1, w.out_size() * w.taps());
  args.threads.ParallelRange(w.batch * w.channels, 20000 / work + 1,
                             [&](int64_t first, int64_t last) {
                               for (int64_t plane = first; plane < last; ++plane) f(plane);
                             });
}

Result<Window> PoolWindow(const KernelRequest& request) {
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
        MaxPlaneWithIndices(w, src, dst, plane, column_major,
                            Out<int64_t>(args, 1) + plane * w.out_size());
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
  ForEachChunk(w, [&](int64_t d, int64_t h, int64_t column, int64_t n, int64_t from) {
    float best[kChunk];
    int32_t where[kChunk];
    if (indices == nullptr) MaxChunk<true>(w, x, d, h, column, n, best, where);
    for (int64_t i = 0; i < n; ++i) {
      const int64_t at = indices ? indices[from + i] - plane * w.in_size() : where[i];
      if (at >= 0 && at < w.in_size()) dx[at] += dy[from + i];
    }
  });
}

void AveragePlaneGrad(const Window& w, bool include_pad, const float* dy, float* dx) {
  std::fill_n(dx, w.in_size(), 0.0f);
  ForEachChunk(w, [&](int64_t d, int64_t h, int64_t x, int64_t n, int64_t from) {
    float share[kChunk];
    for (int64_t i = 0; i < n; ++i) {
      const int64_t count = CountAt(w, include_pad, d, h, x + i);
      share[i] = count ? dy[from + i] / static_cast<float>(count) : 0;
    }
    ForEachTapRow(w, d, h, x, n, [&](int64_t first, int64_t last, int64_t index, int64_t step) {
      for (int64_t i = first; i < last; ++i) dx[index + i * step] += share[i];
    });
  });
}

Result<Window> GradWindow(const KernelRequest& request) {
  return WindowOf(AttributesOf(request), request.outputs[0].dims, request.inputs[0].dims, {});
}

struct Planes {
  int64_t count, size;
};

Result<Planes> GlobalPlanes(const KernelRequest& request) {
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
  if (!IsFloat(request.inputs[0].dtype))
    return Unsupported("dtype {}", Name(request.inputs[0].dtype));
  return VisitFloat(request.inputs[0].dtype,
                    [&]<typename T>() { return MakeAveragePool<T>(request, w); });
}

BindResult GlobalAveragePoolPortable(const KernelRequest& request) {
  MINIM_TRY(const Planes planes, GlobalPlanes(request));
  if (!IsFloat(request.inputs[0].dtype))
    return Unsupported("dtype {}", Name(request.inputs[0].dtype));
  return VisitFloat(request.inputs[0].dtype, [&]<typename T>() -> BindResult {
    return MakeKernel("global average pool", [planes](const KernelArgs& args) {
      using C = ComputeType<T>;
      const int64_t grain = 32768 / std::max<int64_t>(1, planes.size) + 1;
      args.threads.ParallelRange(planes.count, grain, [&](int64_t first, int64_t last) {
        for (int64_t i = first; i < last; ++i)
          Out<T>(args, 0)[i] =
              ConvertTo<T>(SumOf<C>(In<T>(args, 0) + i * planes.size, planes.size) /
                           static_cast<C>(std::max<int64_t>(1, planes.size)));
      });
    });
  });
}

BindResult GlobalMaxPoolPortable(const KernelRequest& request) {
  MINIM_TRY(const Planes planes, GlobalPlanes(request));
  if (!IsFloat(request.inputs[0].dtype))
    return Unsupported("dtype {}", Name(request.inputs[0].dtype));
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

BindResult MaxPoolGradAvx2(const KernelRequest& request) {
  MINIM_TRY(const Window w, GradWindow(request));
  MINIM_TRY(RequireInputs(request, 0, 2, DType::f32));
  const bool halves = !HasInput(request, 2) && AreHalves(w);
  if (!halves) return Unsupported("windows other than 2x2 side by side");
  return MakeKernel("max pool gradient of halves avx2", [w](const KernelArgs& args) {
    ForEachPlane(args, w, [&](int64_t plane) {
      MaxPoolHalvesGradAvx2(w, In<float>(args, 0) + plane * w.out_size(),
                            In<float>(args, 1) + plane * w.in_size(),
                            Out<float>(args, 0) + plane * w.in_size());
    });
  });
}

BindResult MaxPoolGradPortable(const KernelRequest& request) {
  MINIM_TRY(const Window w, GradWindow(request));
  MINIM_TRY(RequireInputs(request, 0, 2, DType::f32));
  return MakeKernel("max pool gradient", [w](const KernelArgs& args) {
    ForEachPlane(args, w, [&](int64_t plane) {
      const int64_t* indices = In<int64_t>(args, 2);
      MaxPlaneGrad(w, In<float>(args, 0) + plane * w.out_size(),
                   In<float>(args, 1) + plane * w.in_size(),
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
