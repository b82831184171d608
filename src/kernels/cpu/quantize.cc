// QuantizeLinear, DequantizeLinear (per tensor and per axis) and DynamicQuantizeLinear.
#include <algorithm>
#include <limits>

#include "core/requantize.h"
#include "kernels/cpu/bindings.h"
#include "kernels/cpu/int_gemm.h"

namespace minim {
namespace {

// Runs of `inner` elements that share a scale; run i uses scale i % n.
struct Runs {
  int64_t count = 1, n = 1, inner = 1;
};

Result<Runs> RunsOf(const KernelRequest& request) {
  const Dims& x = request.inputs[0].dims;
  const Attributes& attributes = AttributesOf(request);
  if (attributes.Int("block_size", 0) != 0) return Unsupported("blocked quantization");
  const int64_t scales = request.inputs[1].dims.Elements();
  if (request.inputs[1].dims.rank() == 0 || (scales == 1 && request.inputs[1].dims.rank() == 1))
    return Runs{1, 1, x.Elements()};
  const int axis = NormalAxis(attributes.Int("axis", 1), x.rank());
  if (axis < 0 || axis >= x.rank() || x[axis] != scales || request.inputs[1].dims.rank() != 1)
    return Unsupported("{} scales on axis {} of {}", scales, axis, x.ToString());
  return Runs{x.Elements(0, axis + 1), scales, x.Elements(axis + 1, x.rank())};
}

template <typename T>
int32_t ZeroAt(const KernelArgs& args, int64_t i) {
  const T* zeros = In<T>(args, 2);
  return zeros ? static_cast<int32_t>(zeros[i]) : 0;
}

// body(first element, elements, scale index) over parallel pieces, never across a run.
template <typename F>
void ForEachRun(const Runs& runs, const ThreadBudget& threads, F&& body) {
  constexpr int64_t kGrain = 32768;
  if (runs.count == 1) {
    threads.ParallelRange(runs.inner, kGrain,
                          [&](int64_t first, int64_t last) { body(first, last - first, 0); });
    return;
  }
  threads.ParallelRange(runs.count, kGrain / std::max<int64_t>(1, runs.inner) + 1,
                        [&](int64_t first, int64_t last) {
                          for (int64_t i = first; i < last; ++i)
                            body(i * runs.inner, runs.inner, i % runs.n);
                        });
}

// Any element types, one element at a time: 16-bit results, f16 and i32 sources.
template <typename From, typename To>
BindResult MakeSlowQuantize(Runs runs) {
  return MakeKernel("quantize plain", [runs](const KernelArgs& args) {
    ForEachRun(runs, args.threads, [&](int64_t first, int64_t n, int64_t at) {
      const auto scale = static_cast<float>(
          In<std::conditional_t<kIsStoredFloat<From>, From, float>>(args, 1)[at]);
      const int32_t zero = ZeroAt<To>(args, at);
      for (int64_t i = first; i < first + n; ++i) {
        float x = static_cast<float>(In<From>(args, 0)[i]) / scale;
        if constexpr (kIsStoredFloat<From>)
          x = static_cast<float>(From(x));  // division in the scale's type
        Out<To>(args, 0)[i] = static_cast<To>(
            Requantize(x, zero, std::numeric_limits<To>::min(), std::numeric_limits<To>::max()));
      }
    });
  });
}

template <typename From>
BindResult PickSlowQuantize(DType to, Runs runs) {
  switch (to) {
    case DType::u8: return MakeSlowQuantize<From, uint8_t>(runs);
    case DType::i8: return MakeSlowQuantize<From, int8_t>(runs);
    case DType::u16: return MakeSlowQuantize<From, uint16_t>(runs);
    case DType::i16: return MakeSlowQuantize<From, int16_t>(runs);
    default: return Unsupported("result {}", Name(to));
  }
}

BindResult BindQuantize(const KernelRequest& request, const IntLevel& level) {
  MINIM_TRY(const Runs runs, RunsOf(request));
  const DType from = request.inputs[0].dtype, to = request.outputs[0].dtype;
  if (AttributesOf(request).Int("precision", 0) != 0) return Unsupported("a chosen precision");
  if (request.inputs[1].dtype != (from == DType::i32 ? DType::f32 : from))
    return Unsupported("scale is {}", Name(request.inputs[1].dtype));
  if (from == DType::f16) return PickSlowQuantize<Half>(to, runs);
  if (from == DType::bf16) return PickSlowQuantize<BFloat16>(to, runs);
  if (from == DType::i32) return PickSlowQuantize<int32_t>(to, runs);
  if (from != DType::f32) return Unsupported("source {}", Name(from));
  if (to != DType::u8 && to != DType::i8) return PickSlowQuantize<float>(to, runs);
  return MakeKernel(fmt::format("quantize {}", level.name), [runs, to, level = &level](
                                                                const KernelArgs& args) {
    ForEachRun(runs, args.threads, [&](int64_t first, int64_t n, int64_t at) {
      const float scale = In<float>(args, 1)[at];
      const float* src = In<float>(args, 0) + first;
      if (to == DType::u8) {
        level->quantize_u8(src, scale, ZeroAt<uint8_t>(args, at), n, Out<uint8_t>(args, 0) + first);
      } else {
        level->quantize_s8(src, scale, ZeroAt<int8_t>(args, at), n, Out<int8_t>(args, 0) + first);
      }
    });
  });
}

template <typename From, typename To>
BindResult MakeSlowDequantize(Runs runs) {
  return MakeKernel("dequantize plain", [runs](const KernelArgs& args) {
    ForEachRun(runs, args.threads, [&](int64_t first, int64_t n, int64_t at) {
      const auto scale = static_cast<float>(In<To>(args, 1)[at]);
      const int64_t zero = ZeroAt<From>(args, at);
      for (int64_t i = first; i < first + n; ++i)
        Out<To>(args, 0)[i] =
            ConvertTo<To>(static_cast<float>(In<From>(args, 0)[i] - zero) * scale);
    });
  });
}

template <typename To>
BindResult PickSlowDequantize(DType from, Runs runs) {
  switch (from) {
    case DType::u8: return MakeSlowDequantize<uint8_t, To>(runs);
    case DType::i8: return MakeSlowDequantize<int8_t, To>(runs);
    case DType::u16: return MakeSlowDequantize<uint16_t, To>(runs);
    case DType::i16: return MakeSlowDequantize<int16_t, To>(runs);
    case DType::i32: return MakeSlowDequantize<int32_t, To>(runs);
    default: return Unsupported("source {}", Name(from));
  }
}

BindResult BindDequantize(const KernelRequest& request, const IntLevel& level) {
  MINIM_TRY(const Runs runs, RunsOf(request));
  const DType from = request.inputs[0].dtype, to = request.outputs[0].dtype;
  if (request.inputs[1].dtype != to) return Unsupported("scale and result types differ");
  if (to == DType::f16) return PickSlowDequantize<Half>(from, runs);
  if (to == DType::bf16) return PickSlowDequantize<BFloat16>(from, runs);
  if (to != DType::f32) return Unsupported("result {}", Name(to));
  if (from != DType::u8 && from != DType::i8) return PickSlowDequantize<float>(from, runs);
  return MakeKernel(fmt::format("dequantize {}", level.name), [runs, from, level = &level](
                                                                  const KernelArgs& args) {
    ForEachRun(runs, args.threads, [&](int64_t first, int64_t n, int64_t at) {
      const float scale = In<float>(args, 1)[at];
      float* dst = Out<float>(args, 0) + first;
      if (from == DType::u8) {
        level->dequantize_u8(In<uint8_t>(args, 0) + first, scale, ZeroAt<uint8_t>(args, at), n,
                             dst);
      } else {
        level->dequantize_s8(In<int8_t>(args, 0) + first, scale, ZeroAt<int8_t>(args, at), n, dst);
      }
    });
  });
}

BindResult BindDynamic(const KernelRequest& request, const IntLevel& level) {
  const int64_t n = request.inputs[0].dims.Elements();
  return MakeKernel(
      fmt::format("dynamic quantize {}", level.name), [n, level = &level](const KernelArgs& args) {
        const float* x = In<float>(args, 0);
        float low = 0, high = 0;  // the range includes 0
        for (int64_t i = 0; i < n; ++i) {
          low = x[i] < low ? x[i] : low;
          high = x[i] > high ? x[i] : high;
        }
        const float scale = high == low ? 1.0f : (high - low) / 255.0f;
        const int32_t zero = Requantize(-low / scale, 0, 0, 255);
        *Out<float>(args, 1) = scale;
        *Out<uint8_t>(args, 2) = static_cast<uint8_t>(zero);
        args.threads.ParallelRange(n, 32768, [&](int64_t first, int64_t last) {
          level->quantize_u8(x + first, scale, zero, last - first, Out<uint8_t>(args, 0) + first);
        });
      });
}

}  // namespace

BindResult QuantizeLinearAvx2(const KernelRequest& request) {
  return BindQuantize(request, IntAvx2());
}
BindResult QuantizeLinearVnni(const KernelRequest& request) {
  return BindQuantize(request, IntVnni());
}
BindResult QuantizeLinearPortable(const KernelRequest& request) {
  return BindQuantize(request, IntPortable());
}
BindResult DequantizeLinearAvx2(const KernelRequest& request) {
  return BindDequantize(request, IntAvx2());
}
BindResult DequantizeLinearVnni(const KernelRequest& request) {
  return BindDequantize(request, IntVnni());
}
BindResult DequantizeLinearPortable(const KernelRequest& request) {
  return BindDequantize(request, IntPortable());
}
BindResult DynamicQuantizeAvx2(const KernelRequest& request) {
  return BindDynamic(request, IntAvx2());
}
BindResult DynamicQuantizeVnni(const KernelRequest& request) {
  return BindDynamic(request, IntVnni());
}
BindResult DynamicQuantizePortable(const KernelRequest& request) {
  return BindDynamic(request, IntPortable());
}

}  // namespace minim
