// Max, Min, Sum, Mean: any number of inputs, broadcast together.
#include <cmath>

#include "ops/builder.h"
#include "ops/elementwise.h"
#include "ops/infer.h"

namespace minim::ops {
namespace {

// y = fold of all inputs by f, the first input as it is.
template <typename F>
Reference Fold(F f) {
  return [f](RefContext& op) -> Status {
    RefTensor& y = op.Output(0);
    VisitWideNumber(y.wide.dtype(), [&]<typename T>() {
      const auto dst = y.wide.as<T>();
      for (int k = 0; k < op.input_count(); ++k) {
        const auto src = op.input(k).wide.as<T>();
        ForEachPair(y.dims(), y.dims(), op.dims(k), [&](int64_t i, int64_t, int64_t from) {
          dst[i] = k == 0 ? src[from] : f(dst[i], src[from]);
        });
      }
    });
    return {};
  };
}

Status MeanReference(RefContext& op) {
  MINIM_TRY(Fold([](auto a, auto b) { return WrapAdd(a, b); })(op));
  for (double& y : op.MutableOutput(0).f64()) y /= op.input_count();
  return {};
}

// The whole gradient goes to the first input that holds the extreme.
Status ExtremeGradient(GradContext& g) {
  ValueId taken = kNoValue;
  for (int k = 0; k < g.input_count(); ++k) {
    ValueId holds = g.Emit("Equal", {g.input(k), g.output(0)});
    const ValueId mine = taken == kNoValue ? holds : g.Emit("And", {holds, g.Emit("Not", {taken})});
    taken = taken == kNoValue ? holds : g.Emit("Or", {holds, taken});
    g.SetInputGrad(k, g.SumToShapeOf(g.Select(mine, g.output_grad(0), 0.0), g.input(k)));
  }
  return {};
}

Status SumGradient(GradContext& g) {
  for (int k = 0; k < g.input_count(); ++k)
    g.SetInputGrad(k, g.SumToShapeOf(g.output_grad(0), g.input(k)));
  return {};
}

Status MeanGradient(GradContext& g) {
  const ValueId share = g.Mul(g.output_grad(0), 1.0 / g.input_count());
  for (int k = 0; k < g.input_count(); ++k) g.SetInputGrad(k, g.SumToShapeOf(share, g.input(k)));
  return {};
}

std::string Samples(std::string_view op, bool integers) {
  std::string text =
      PairSamples(op, "f32") + fmt::format(
                                   "{0}(a: f32[3])\n{0}(a: f32[2,3], b: f32[3], c: f32[2,1])\n"
                                   "{0}(a: f16[4], b: f16[4])\n{0}(a: bf16[4], b: bf16[4])\n",
                                   op);
  if (!integers) return text;
  for (std::string_view dtype : {"i64", "i32", "i8", "u8", "u64"})
    text += fmt::format("{0}(a: {1}[4], b: {1}[4])\n", op, dtype);
  return text;
}

OpDef Define(std::string name, std::vector<int> since, Reference reference,
             std::function<Status(GradContext&)> gradient, bool integers) {
  std::string samples = Samples(name, integers);
  return {.name = std::move(name),
          .onnx_since = std::move(since),
          .max_inputs = -1,
          .dtypes = integers ? kNumericTypes : kFloatTypes,
          .infer = InferBroadcast,
          .gradient = std::move(gradient),
          .reference = std::move(reference),
          .traits = OpTrait::kElementwise,
          .samples = std::move(samples)};
}

template <typename T>
bool IsNan(T value) {
  return value != value;
}

}  // namespace

std::vector<OpDef> VariadicOps() {  // a NaN anywhere wins
  const auto larger = [](auto a, auto b) { return IsNan(a) || a > b ? a : b; };
  const auto smaller = [](auto a, auto b) { return IsNan(a) || a < b ? a : b; };
  return {
      Define("Max", {1, 6, 8, 12, 13}, Fold(larger), ExtremeGradient, true),
      Define("Min", {1, 6, 8, 12, 13}, Fold(smaller), ExtremeGradient, true),
      Define("Sum", {1, 6, 8, 13}, Fold([](auto a, auto b) { return WrapAdd(a, b); }), SumGradient,
             false),
      Define("Mean", {1, 6, 8, 13}, MeanReference, MeanGradient, false),
  };
}

}  // namespace minim::ops
