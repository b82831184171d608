// The bodies of every tile function. Include once per file; define MINIM_TILES to the name of the
// accessor to create.
#pragma once

#include <algorithm>
#include <bit>

#include "kernels/cpu/elementwise_functions.h"
#include "kernels/cpu/elementwise_tiles.h"
#include "kernels/cpu/gelu.h"
#include "kernels/cpu/quotient.h"

namespace minim {
namespace {

template <typename T>
struct Params {
  T a, b, c, d;
};
template <typename T>
Params<T> ParamsOf(const TileArgs& args) {
  const double* p = args.params;
  return {static_cast<T>(p[0]), static_cast<T>(p[1]), static_cast<T>(p[2]), static_cast<T>(p[3])};
}

template <typename T, typename R, typename Op>
void Unary(const TileArgs& args) {
  const T* x = static_cast<const T*>(args.src[0]);
  R* y = static_cast<R*>(args.dst);
  const Params<T> p = ParamsOf<T>(args);
  const int64_t n = args.n;
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) y[i] = Op::template Do<T>(x[i], p);
}

template <typename T, typename R, typename Op>
void Binary(const TileArgs& args) {
  const T* a = static_cast<const T*>(args.src[0]);
  const T* b = static_cast<const T*>(args.src[1]);
  R* y = static_cast<R*>(args.dst);
  const Params<T> p = ParamsOf<T>(args);
  const int64_t n = args.n;
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) y[i] = Op::template Do<T>(a[i], b[i], p);
}

template <typename T>
void Select(const TileArgs& args) {
  const uint8_t* c = static_cast<const uint8_t*>(args.src[0]);
  const T* a = static_cast<const T*>(args.src[1]);
  const T* b = static_cast<const T*>(args.src[2]);
  T* y = static_cast<T*>(args.dst);
  const int64_t n = args.n;
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) y[i] = c[i] ? a[i] : b[i];
}

template <typename T>
T Modulo(T a, T b, bool truncate) {
  if constexpr (std::is_floating_point_v<T>) {
    const T r = std::fmod(a, b);
    return (truncate || r == 0 || (r < 0) == (b < 0)) ? r : r + b;
  } else if constexpr (std::is_signed_v<T>) {
    if (b == 0 || b == -1) return 0;
    const T r = a % b;
    return (truncate || r == 0 || (r < 0) == (b < 0)) ? r : r + b;
  } else {
    return b == 0 ? 0 : a % b;
  }
}

template <typename T>
T Divide(T a, T b) {
  if constexpr (std::is_floating_point_v<T>) {
    return a / b;
  } else if constexpr (std::is_signed_v<T>) {
    if (b == 0) return 0;
    return b == -1 ? static_cast<T>(-static_cast<uint64_t>(a)) : a / b;
  } else {
    return b == 0 ? 0 : a / b;
  }
}

template <typename T>
T Power(T a, T b) {
  if constexpr (std::is_floating_point_v<T>) {
    return std::pow(a, b);
  } else {
    if constexpr (std::is_signed_v<T>) {
      if (b < 0) return a == 1 ? 1 : (a == -1 ? (b % 2 ? -1 : 1) : 0);
    }
    uint64_t base = static_cast<uint64_t>(a), result = 1;
    for (uint64_t e = static_cast<uint64_t>(b); e != 0; e >>= 1, base *= base) {
      if (e & 1) result *= base;
    }
    return static_cast<T>(result);
  }
}

// Integer sums wrap; unsigned arithmetic says so without undefined behaviour.
template <typename T>
using Wrapping =
    std::conditional_t<std::is_integral_v<T>, std::make_unsigned<T>, std::type_identity<T>>::type;

template <typename T>
T Clamp01(T x) {
  const T low = x < 0 ? T(0) : x;
  return low > 1 ? T(1) : low;
}

template <typename T>
T Magnitude(T x) {
  if constexpr (std::is_floating_point_v<T>) return std::fabs(x);
  return x < T(0) ? static_cast<T>(-static_cast<Wrapping<T>>(x)) : x;
}

template <typename T>
bool IsInfinite(T x) {
  if constexpr (std::is_floating_point_v<T>) {
    return std::fabs(x) == std::numeric_limits<T>::infinity();
  }
  return false;
}

// x tanh(log(1 + e^x)), with tanh(log(1 + e)) = e(e+2) / (e(e+2)+2).
template <typename T>
T MishOf(T x) {
  const T e = Exp(x > T(20) ? T(20) : x);
  const T w = e * (e + T(2));
  return x * (w / (w + T(2)));
}

#define MINIM_UNARY(name, expr)                                \
  struct name##Op {                                            \
    template <typename T>                                      \
    static auto Do(T x, [[maybe_unused]] const Params<T>& p) { \
      return expr;                                             \
    }                                                          \
  };
#define MINIM_BINARY(name, expr)                                    \
  struct name##Op {                                                 \
    template <typename T>                                           \
    static auto Do(T a, T b, [[maybe_unused]] const Params<T>& p) { \
      return expr;                                                  \
    }                                                               \
  };
#include "kernels/cpu/elementwise_ops.inc"
#undef MINIM_UNARY
#undef MINIM_BINARY

template <typename From, typename To>
void Convert(const TileArgs& args) {
  const From* x = static_cast<const From*>(args.src[0]);
  To* y = static_cast<To*>(args.dst);
  const int64_t n = args.n;
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) {
    if constexpr (std::is_same_v<From, BFloat16>) {
      y[i] = static_cast<To>(std::bit_cast<float>(static_cast<uint32_t>(x[i].bits) << 16));
    } else if constexpr (std::is_same_v<To, BFloat16>) {
      const uint32_t word = std::bit_cast<uint32_t>(static_cast<float>(x[i]));
      const bool nan = (word & 0x7fffffff) > 0x7f800000;
      const uint32_t rounded = (word + 0x7fff + ((word >> 16) & 1)) >> 16;
      y[i].bits = static_cast<uint16_t>(nan ? (word >> 16) | 0x40 : rounded);
    } else {
      y[i] = ConvertTo<To>(x[i]);
    }
  }
}

void LoadHalf(const TileArgs& args) {
  ConvertElements({args.src[0], DType::f16, Dims{args.n}}, {args.dst, DType::f32, Dims{args.n}});
}
void StoreHalf(const TileArgs& args) {
  ConvertElements({args.src[0], DType::f32, Dims{args.n}}, {args.dst, DType::f16, Dims{args.n}});
}

template <typename F>
TileFunction VisitLane(Lane lane, F&& f) {
  switch (lane) {
    case Lane::kFloat: return f.template operator()<float>();
    case Lane::kDouble: return f.template operator()<double>();
    case Lane::kInt: return f.template operator()<int64_t>();
    case Lane::kUint: return f.template operator()<uint64_t>();
    default: return f.template operator()<bool>();
  }
}

TileFunction ConvertOf(Lane from, Lane to) {
  return VisitLane(from, [&]<typename From>() {
    return VisitLane(to, []<typename To>() -> TileFunction { return Convert<From, To>; });
  });
}

TileFunction LoadOf(DType from) {
  if (from == DType::f16) return LoadHalf;
  return VisitLane(LaneOf(from), [&]<typename To>() -> TileFunction {
    return Visit(from, []<typename From>() -> TileFunction { return Convert<From, To>; });
  });
}

TileFunction StoreOf(DType to) {
  if (to == DType::f16) return StoreHalf;
  return VisitLane(LaneOf(to), [&]<typename From>() -> TileFunction {
    return Visit(to, []<typename To>() -> TileFunction { return Convert<From, To>; });
  });
}

template <typename T>
void DequantizeTile(const TileArgs& args) {
  const Params<float> p = ParamsOf<float>(args);
  const T* x = static_cast<const T*>(args.src[0]);
  float* y = static_cast<float*>(args.dst);
  const int64_t n = args.n;
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) y[i] = (static_cast<float>(x[i]) - p.b) * p.a;
}

// Requantize(x / p.a): p.b is the zero point, p.c and p.d the bounds less it.
template <typename T>
void QuantizeTile(const TileArgs& args) {
  const Params<float> p = ParamsOf<float>(args);
  T* y = static_cast<T*>(args.dst);
  const int32_t back = std::bit_cast<int32_t>(kWholeShift) - static_cast<int32_t>(p.b);
  ForEachStep(static_cast<const float*>(args.src[0]), p.a, p.c, p.d, args.n,
              [=](int64_t i, float shifted) {
                if constexpr (std::is_same_v<T, float>)
                  y[i] = shifted - kWholeShift + p.b;
                else
                  y[i] = static_cast<T>(std::bit_cast<int32_t>(shifted) - back);
              });
}

void GeluTile(const TileArgs& args) {
  GeluRow(static_cast<const float*>(args.src[0]), args.n, static_cast<float*>(args.dst));
}

TileFunction DequantizeOf(DType from) {
  return from == DType::u8 ? DequantizeTile<uint8_t> : DequantizeTile<int8_t>;
}
TileFunction QuantizeOf(DType to) {
  return to == DType::u8 ? QuantizeTile<uint8_t> : QuantizeTile<int8_t>;
}

#define MINIM_ROW(kind, name, lane, type, result) \
  {#name, Lane::lane, std::is_same_v<result, bool>, kind<type, result, name##Op>}
#define MINIM_F(kind, name) \
  MINIM_ROW(kind, name, kFloat, float, float), MINIM_ROW(kind, name, kDouble, double, double)
#define MINIM_I(kind, name) \
  MINIM_ROW(kind, name, kInt, int64_t, int64_t), MINIM_ROW(kind, name, kUint, uint64_t, uint64_t)
#define MINIM_FI(kind, name) MINIM_F(kind, name), MINIM_I(kind, name)
#define MINIM_TEST(kind, name)                                                              \
  MINIM_ROW(kind, name, kFloat, float, bool), MINIM_ROW(kind, name, kDouble, double, bool), \
      MINIM_ROW(kind, name, kInt, int64_t, bool), MINIM_ROW(kind, name, kUint, uint64_t, bool)
#define MINIM_B(kind, name) MINIM_ROW(kind, name, kBool, bool, bool)

constexpr TileOp kTileOps[] = {
    MINIM_FI(Binary, Add),
    MINIM_FI(Binary, Sub),
    MINIM_FI(Binary, Mul),
    MINIM_FI(Binary, Div),
    MINIM_FI(Binary, Mod),
    MINIM_FI(Binary, Pow),
    MINIM_FI(Binary, Max),
    MINIM_FI(Binary, Min),
    MINIM_FI(Binary, PRelu),
    MINIM_FI(Binary, ClipLow),
    MINIM_FI(Binary, ClipHigh),
    MINIM_FI(Unary, Neg),
    MINIM_FI(Unary, Abs),
    MINIM_FI(Unary, Sign),
    MINIM_FI(Unary, Relu),
    MINIM_FI(Unary, Identity),
    MINIM_B(Unary, Identity),
    MINIM_F(Unary, Sqrt),
    MINIM_F(Unary, Exp),
    MINIM_F(Unary, Log),
    MINIM_F(Unary, Reciprocal),
    MINIM_F(Unary, Floor),
    MINIM_F(Unary, Ceil),
    MINIM_F(Unary, Round),
    MINIM_F(Unary, Sin),
    MINIM_F(Unary, Cos),
    MINIM_F(Unary, Tan),
    MINIM_F(Unary, Asin),
    MINIM_F(Unary, Acos),
    MINIM_F(Unary, Atan),
    MINIM_F(Unary, Sinh),
    MINIM_F(Unary, Cosh),
    MINIM_F(Unary, Tanh),
    MINIM_F(Unary, Asinh),
    MINIM_F(Unary, Acosh),
    MINIM_F(Unary, Atanh),
    MINIM_F(Unary, Erf),
    MINIM_F(Unary, Sigmoid),
    MINIM_F(Unary, HardSigmoid),
    MINIM_F(Unary, HardSwish),
    MINIM_F(Unary, LeakyRelu),
    MINIM_F(Unary, Elu),
    MINIM_F(Unary, Celu),
    MINIM_F(Unary, Selu),
    MINIM_F(Unary, ThresholdedRelu),
    MINIM_F(Unary, Softplus),
    MINIM_F(Unary, Softsign),
    {"Gelu", Lane::kFloat, false, GeluTile},
    MINIM_ROW(Unary, Gelu, kDouble, double, double),
    MINIM_F(Unary, GeluTanh),
    MINIM_F(Unary, Mish),
    MINIM_F(Unary, Shrink),
    MINIM_I(Unary, Shrink),
    MINIM_FI(Unary, AtLeast),
    MINIM_FI(Unary, AtMost),
    MINIM_F(Unary, DivBy),
    {"DequantizeLinear", Lane::kFloat, false, DequantizeTile<float>},
    {"QuantizeLinear", Lane::kFloat, false, QuantizeTile<float>},
    MINIM_TEST(Binary, Equal),
    MINIM_TEST(Binary, Less),
    MINIM_TEST(Binary, Greater),
    MINIM_TEST(Binary, LessOrEqual),
    MINIM_TEST(Binary, GreaterOrEqual),
    MINIM_TEST(Unary, IsNaN),
    MINIM_TEST(Unary, IsInf),
    MINIM_B(Binary, Equal),
    MINIM_B(Binary, And),
    MINIM_B(Binary, Or),
    MINIM_B(Binary, Xor),
    MINIM_B(Unary, Not),
    MINIM_I(Binary, BitwiseAnd),
    MINIM_I(Binary, BitwiseOr),
    MINIM_I(Binary, BitwiseXor),
    MINIM_I(Unary, BitwiseNot),
    MINIM_I(Binary, ShiftLeft),
    MINIM_I(Binary, ShiftRight),
    {"Where", Lane::kFloat, false, Select<float>},
    {"Where", Lane::kDouble, false, Select<double>},
    {"Where", Lane::kInt, false, Select<int64_t>},
    {"Where", Lane::kUint, false, Select<uint64_t>},
    {"Where", Lane::kBool, true, Select<uint8_t>},
};

}  // namespace

const TileSet& MINIM_TILES() {
  static constexpr TileSet kSet = {kTileOps, ConvertOf, LoadOf, StoreOf, DequantizeOf, QuantizeOf};
  return kSet;
}

}  // namespace minim
