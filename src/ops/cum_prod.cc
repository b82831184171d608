// CumProd.
#include "ops/elementwise.h"
#include "ops/movement.h"

namespace minim::ops {
namespace {

Status CumProdReference(RefContext& op) {
  const Dims& x = op.dims(0);
  const int64_t given = op.input(1).IntAt(0);
  if (given < -x.rank() || given >= x.rank())
    return op.Error("axis {} is outside shape {}", given, x.ToString());
  const int axis = Positive(given, x.rank());
  const bool exclusive = op.attributes().Int("exclusive", 0) != 0;
  const bool reverse = op.attributes().Int("reverse", 0) != 0;
  const int64_t count = x[axis], inner = x.Elements(axis + 1, x.rank());
  RefTensor& y = op.Output(0);
  VisitWideNumber(y.wide.dtype(), [&]<typename T>() {
    const auto src = op.input(0).wide.as<T>();
    for (int64_t line = 0; line < x.Elements(0, axis) * inner; ++line) {
      T product{1};
      for (int64_t i = 0; i < count; ++i) {
        const int64_t place = reverse ? count - 1 - i : i;
        const int64_t at = (line / inner * count + place) * inner + line % inner;
        const T next = WrapMul(product, src[at]);
        y.wide.as<T>()[at] = exclusive ? product : next;
        product = next;
      }
    }
  });
  return {};
}

// Ones and zeros [n, n]: whether place k comes after place i, or is it where `same`.
ValueId After(GradContext& g, int64_t n, bool reverse, bool same) {
  Tensor mask(DType::bool_, Dims({n, n}));
  for (int64_t i = 0; i < n; ++i)
    for (int64_t k = 0; k < n; ++k)
      mask.as<bool>()[i * n + k] = (reverse ? k < i : k > i) || (same && k == i);
  return g.Constant(std::move(mask));
}

// dx_i = (product before i) x sum over j of dy_j x (product between i and j): a table of n x n
// places, so that zeros in x need no division.
Status CumProdGradient(GradContext& g) {
  MINIM_TRY(const std::vector<int64_t> axes, g.ConstantInts(1));
  const Dims dims = g.type(g.input(0)).dims();
  const int axis = Positive(axes.at(0), dims.rank());
  const bool exclusive = g.attributes().Int("exclusive", 0) != 0;
  const bool reverse = g.attributes().Int("reverse", 0) != 0;
  const int64_t outer = dims.Elements(0, axis), n = dims[axis],
                inner = dims.Elements(axis + 1, dims.rank());
  const auto lines = [&](ValueId v) {  // [outer, inner, 1, n]
    return g.Reshape(g.Transpose(g.Reshape(v, Dims({outer, n, inner})), {0, 2, 1}),
                     Dims({outer, inner, 1, n}));
  };
  const auto scan = [&](ValueId v, bool without_last) {
    return g.Emit("CumProd", {v, g.Constant(Tensor::Scalar<int64_t>(3))},
                  {{"exclusive", int64_t{without_last}}, {"reverse", int64_t{reverse}}});
  };
  const ValueId x = lines(g.input(0)), dy = lines(g.output_grad(0));
  const ValueId later = g.Select(After(g, n, reverse, false), x, g.ScalarLike(1, x));
  const ValueId between = g.Select(After(g, n, reverse, !exclusive), scan(later, exclusive), 0.0);
  const ValueId sums = g.ReduceSum(g.Mul(between, dy), {3}, false);  // [outer, inner, n]
  const ValueId before = g.Reshape(scan(x, true), Dims({outer, inner, n}));
  g.SetInputGrad(0, g.Reshape(g.Transpose(g.Mul(before, sums), {0, 2, 1}), dims));
  return {};
}

}  // namespace

OpDef CumProd() {
  return {.name = "CumProd",
          .onnx_since = {26},
          .min_inputs = 2,
          .max_inputs = 2,
          .dtypes = kNumericTypes,
          .infer = InferSameAsFirst,
          .gradient = CumProdGradient,
          .reference = CumProdReference,
          .precision = PrecisionClass::kFp32,
          .samples =
              "CumProd(x: f32[3,4], a: i64 = [1])\nCumProd(x: i32[0,2], a: i32 = [0])\n"
              "CumProd(x: f32[2,3,2], a: i64 = [-2]) {exclusive=1}\n"
              "CumProd(x: f32[5] = [2,0,3,-1,0.5], a: i64 = [0]) {reverse=1}\n"
              "CumProd(x: f32[3,4], a: i64 = [0]) {exclusive=1, reverse=1}\n"
              "CumProd(x: i8[3], a: i64 = [0])\n"};
}

}  // namespace minim::ops
