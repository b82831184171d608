// Det, the determinant of square matrices.
#include <cmath>

#include "ops/builder.h"
#include "ops/infer.h"
#include "ops/reference.h"

namespace minim::ops {
namespace {

Status CheckSquare(const InferContext& op, const TensorType& x) {
  if (!x.ranked() ||
      (x.rank() >= 2 && (*x.shape)[x.rank() - 1].Compatible((*x.shape)[x.rank() - 2])))
    return {};
  return op.Error("input has shape {}, expected square matrices", ToString(*x.shape));
}

Status Infer(InferContext& op) {
  const TensorType& x = op.input(0);
  MINIM_TRY(CheckSquare(op, x));
  if (!x.ranked()) return op.SetUnknown(0, x.dtype);
  return op.SetOutput(0, x.dtype, Shape(x.shape->begin(), x.shape->end() - 2));
}

// Gaussian elimination with the largest pivot of each column.
double Determinant(std::vector<double> a, int64_t n) {
  double product = 1;
  for (int64_t c = 0; c < n; ++c) {
    int64_t pivot = c;
    for (int64_t r = c + 1; r < n; ++r)
      if (std::fabs(a[r * n + c]) > std::fabs(a[pivot * n + c])) pivot = r;
    if (a[pivot * n + c] == 0) return 0;
    for (int64_t k = 0; pivot != c && k < n; ++k) std::swap(a[pivot * n + k], a[c * n + k]);
    product *= pivot == c ? a[c * n + c] : -a[c * n + c];
    for (int64_t r = c + 1; r < n; ++r) {
      const double factor = a[r * n + c] / a[c * n + c];
      for (int64_t k = c; k < n; ++k) a[r * n + k] -= factor * a[c * n + k];
    }
  }
  return product;
}

Status Reference(RefContext& op) {
  RefTensor& y = op.Output(0);
  const int64_t n = op.dims(0)[op.dims(0).rank() - 1];
  for (int64_t i = 0; i < y.size(); ++i) {
    const auto matrix = op.input(0).f64().subspan(i * n * n, n * n);
    y.f64()[i] = Determinant({matrix.begin(), matrix.end()}, n);
  }
  return {};
}

// Without row i and column k.
double Minor(std::span<const double> matrix, int64_t n, int64_t i, int64_t k) {
  std::vector<double> rest;
  for (int64_t r = 0; r < n; ++r)
    for (int64_t c = 0; c < n; ++c)
      if (r != i && c != k) rest.push_back(matrix[r * n + c]);
  return Determinant(std::move(rest), n - 1);
}

// Cofactors, which singular matrices have too, unlike an inverse.
Status GradReference(RefContext& op) {
  RefTensor& dx = op.Output(0);
  const int64_t n = dx.dims()[dx.dims().rank() - 1];
  for (int64_t at = 0; at < dx.size(); ++at) {
    const int64_t m = at / (n * n), i = at / n % n, k = at % n;
    const double cofactor = Minor(op.input(1).f64().subspan(m * n * n, n * n), n, i, k);
    dx.f64()[at] = op.input(0).f64()[m] * ((i + k) % 2 ? -cofactor : cofactor);
  }
  return {};
}

Status Gradient(GradContext& g) {
  g.SetInputGrad(0, g.Emit("DetGrad", {g.output_grad(0), g.input(0)}, {}, kMinimDomain));
  return {};
}

}  // namespace

std::vector<OpDef> DetOps() {
  OpDef det = {.name = "Det",
               .onnx_since = {11, 22},
               .dtypes = kFloatTypes,
               .infer = Infer,
               .gradient = Gradient,
               .reference = Reference,
               .precision = PrecisionClass::kFp32,
               .samples =
                   "Det(x: f32[2,3,4,4])\nDet(x: f32[1,1])\nDet(x: f16[2,2])\n"
                   "Det(x: f32[3,3] = [0,1,2,0,1,2,3,4,5])\nDet(x: f64[2,0,0])\n"};
  OpDef grad = {.name = "DetGrad",
                .domain = std::string(kMinimDomain),
                .min_inputs = 2,
                .max_inputs = 2,
                .dtypes = kFloatTypes,
                .infer = [](InferContext& op) -> Status {
                  MINIM_TRY(CheckSquare(op, op.input(1)));
                  MINIM_TRY(CheckGradientShape(op, "Det", {op.input(1)}));
                  return op.SetOutput(0, op.input(1));
                },
                .reference = GradReference,
                .samples = "DetGrad(dy: f32[2], x: f32[2,3,3])\n"};
  return {std::move(det), std::move(grad)};
}

}  // namespace minim::ops
