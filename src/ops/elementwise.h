// References of element-wise ops: each output element from the broadcast input elements at its
// place. Family tables are written with these.
#pragma once

#include <array>
#include <functional>

#include "ops/reference.h"

namespace minim::ops {

using Reference = std::function<Status(RefContext&)>;

/// Calls f.template operator()<T>() with double, int64_t or uint64_t; ops that take no bool.
template <typename F>
decltype(auto) VisitWideNumber(DType wide, F&& f) {
  switch (wide) {
    case DType::f64: return f.template operator()<double>();
    case DType::i64: return f.template operator()<int64_t>();
    case DType::u64: return f.template operator()<uint64_t>();
    default: CheckFailed(__FILE__, __LINE__, "a wide number");
  }
}

// Integers wrap, as the fixed-width types do; in unsigned, where wrapping is defined.
template <typename T, typename F>
T Wrapping(T a, T b, F f) {
  if constexpr (std::is_integral_v<T>)
    return static_cast<T>(f(static_cast<uint64_t>(a), static_cast<uint64_t>(b)));
  else
    return f(a, b);
}
template <typename T>
T WrapAdd(T a, T b) {
  return Wrapping(a, b, [](auto x, auto y) { return x + y; });
}
template <typename T>
T WrapSub(T a, T b) {
  return Wrapping(a, b, [](auto x, auto y) { return x - y; });
}
template <typename T>
T WrapMul(T a, T b) {
  return Wrapping(a, b, [](auto x, auto y) { return x * y; });
}

/// y = f(x) on floats.
template <typename F>
Reference EachFloat(F f) {
  return [f](RefContext& op) -> Status {
    const auto x = op.input(0).f64();
    const auto y = op.Output(0).f64();
    for (size_t i = 0; i < y.size(); ++i) y[i] = f(x[i]);
    return {};
  };
}

/// y = f(x), where make(attributes) is f.
template <typename Make>
Reference EachFloatWith(Make make) {
  return [make](RefContext& op) -> Status { return EachFloat(make(op.attributes()))(op); };
}

/// y = f(x) on any number type, f generic.
template <typename F>
Reference EachNumber(F f) {
  return [f](RefContext& op) -> Status {
    RefTensor& y = op.Output(0);
    VisitWideNumber(y.wide.dtype(), [&]<typename T>() {
      const auto x = op.input(0).wide.as<T>();
      for (size_t i = 0; i < x.size(); ++i) y.wide.as<T>()[i] = f(x[i]);
    });
    return {};
  };
}

/// Visits the places of the output: f(flat, offset in a, offset in b).
template <typename F>
void ForEachPair(const Dims& out, const Dims& a, const Dims& b, F&& f) {
  const Dims sa = BroadcastStrides(a, out), sb = BroadcastStrides(b, out);
  ForEachIndex(out, [&](int64_t flat, const Dims& index) {
    f(flat, OffsetOf(index, sa), OffsetOf(index, sb));
  });
}

/// y = f(a, b) in the inputs' wide type T; y holds R (T unless given).
template <typename T, typename R = T, typename F>
void Pairwise(RefContext& op, F f) {
  RefTensor& y = op.Output(0);
  const auto a = op.input(0).wide.as<T>(), b = op.input(1).wide.as<T>();
  const auto dst = y.wide.as<R>();
  ForEachPair(y.dims(), op.dims(0), op.dims(1),
              [&](int64_t i, int64_t ia, int64_t ib) { dst[i] = f(a[ia], b[ib]); });
}

/// y = f(a, b) for numbers, f generic.
template <typename F>
Reference PairNumbers(F f) {
  return [f](RefContext& op) -> Status {
    VisitWideNumber(op.input(0).wide.dtype(), [&]<typename T>() { Pairwise<T>(op, f); });
    return {};
  };
}

/// y = f(a, b) for booleans.
template <typename F>
Reference PairBools(F f) {
  return [f](RefContext& op) -> Status {
    Pairwise<bool>(op, f);
    return {};
  };
}

/// y = f(a, b) as bool, for every type.
template <typename F>
Reference PairCompare(F f) {
  return [f](RefContext& op) -> Status {
    VisitWide(op.input(0).wide.dtype(), [&]<typename T>() { Pairwise<T, bool>(op, f); });
    return {};
  };
}

/// "Op(x: f32[0])", then the row's generator on an odd size and on the two-byte floats.
std::string FloatSamples(std::string_view op, std::string_view generator);
/// The same with an attribute list for a last line, such as "{alpha=0.5}".
std::string FloatSamples(std::string_view op, std::string_view generator,
                         std::string_view attributes);
/// Broadcasting in every direction, a scalar, and an empty result, in `dtype`.
std::string PairSamples(std::string_view op, std::string_view dtype, std::string_view left = "",
                        std::string_view right = "", std::string_view attributes = "");

}  // namespace minim::ops
