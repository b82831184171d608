// MatMul and Gemm.
#include "ops/elementwise.h"
#include "ops/movement.h"

namespace minim::ops {
namespace {

// A vector takes part as a row on the left and as a column on the right, and its added axis goes.
Result<Shape> ProductShape(const InferContext& op) {
  Shape a = *op.input(0).shape, b = *op.input(1).shape;
  if (a.empty() || b.empty()) return op.Error("has a scalar operand, expected rank 1 or more");
  const bool row = a.size() == 1, column = b.size() == 1;
  if (row) a.insert(a.begin(), Dim(1));
  if (column) b.push_back(Dim(1));
  const Dim m = a[a.size() - 2], n = b.back();
  if (!a.back().Compatible(b[b.size() - 2]))
    return op.Error("cannot multiply {} by {}: inner sizes {} and {} differ",
                    ToString(*op.input(0).shape), ToString(*op.input(1).shape), a.back().ToString(),
                    b[b.size() - 2].ToString());
  auto batch = BroadcastShapes(Shape(a.begin(), a.end() - 2), Shape(b.begin(), b.end() - 2));
  if (!batch.ok()) return op.Error("{}", batch.status().message());
  Shape shape = *std::move(batch);
  if (!row) shape.push_back(m);
  if (!column) shape.push_back(n);
  return shape;
}

Status InferMatMul(InferContext& op) {
  MINIM_TRY(op.SameDType(0, 1));
  if (!op.input(0).ranked() || !op.input(1).ranked()) return op.SetUnknown(0, op.dtype(0));
  MINIM_TRY(Shape shape, ProductShape(op));
  return op.SetOutput(0, op.dtype(0), std::move(shape));
}

// Dims with a vector's missing axis put in: [K] on the left is [1,K], on the right [K,1].
Dims AsMatrix(const Dims& dims, bool left) {
  if (dims.rank() != 1) return dims;
  return left ? Dims({1, dims[0]}) : Dims({dims[0], 1});
}

Dims ProductDims(const Dims& a, const Dims& b) {
  Dims dims = Dims(a.span().first(a.rank() - 2));
  dims = *BroadcastDims(dims, Dims(b.span().first(b.rank() - 2)));
  dims.push_back(a[a.rank() - 2]);
  dims.push_back(b[b.rank() - 1]);
  return dims;
}

Status MatMulReference(RefContext& op) {
  const Dims a = AsMatrix(op.dims(0), true), b = AsMatrix(op.dims(1), false);
  const Dims full = ProductDims(a, b);
  const int64_t inner = a[a.rank() - 1], n = full[full.rank() - 1];
  Dims left = full, right = full;  // of one operand's element for inner index 0
  left[full.rank() - 1] = inner;
  right[full.rank() - 2] = inner;
  const Dims sa = BroadcastStrides(a, left), sb = BroadcastStrides(b, right);
  RefTensor& y = op.Output(0);
  VisitWideNumber(y.wide.dtype(), [&]<typename T>() {
    const auto src_a = op.input(0).wide.as<T>(), src_b = op.input(1).wide.as<T>();
    ForEachIndex(full, [&](int64_t flat, const Dims& at) {
      Dims from_a = at, from_b = at;
      from_a[full.rank() - 1] = from_b[full.rank() - 2] = 0;
      const int64_t oa = OffsetOf(from_a, sa), ob = OffsetOf(from_b, sb);
      T sum{};
      for (int64_t k = 0; k < inner; ++k)
        sum = WrapAdd(sum, WrapMul(src_a[oa + k], src_b[ob + k * n]));
      y.wide.as<T>()[flat] = sum;
    });
  });
  return {};
}

ValueId SwapLast(GradContext& g, ValueId a) {
  std::vector<int64_t> perm(g.rank(a));
  for (size_t i = 0; i < perm.size(); ++i) perm[i] = static_cast<int64_t>(i);
  std::swap(perm[perm.size() - 1], perm[perm.size() - 2]);
  return g.Transpose(a, perm);
}

Status MatMulGradient(GradContext& g) {
  const Dims a_dims = g.type(g.input(0)).dims(), b_dims = g.type(g.input(1)).dims();
  Dims a_matrix = AsMatrix(a_dims, true), y_dims = ProductDims(a_matrix, AsMatrix(b_dims, false));
  if (b_dims.rank() <= 2 && a_matrix.rank() > 2) {  // one product over all rows of the batch
    const int64_t rows = a_matrix.Elements(0, a_matrix.rank() - 1);
    y_dims = Dims({rows, y_dims[y_dims.rank() - 1]});
    a_matrix = Dims({rows, a_matrix[a_matrix.rank() - 1]});
  }
  const ValueId a = g.Reshape(g.input(0), a_matrix);
  const ValueId b = g.Reshape(g.input(1), AsMatrix(b_dims, false));
  const ValueId dy = g.Reshape(g.output_grad(0), y_dims);
  const ValueId da = g.Emit("MatMul", {dy, SwapLast(g, b)});
  const ValueId db = g.Emit("MatMul", {SwapLast(g, a), dy});
  g.SetInputGrad(0, g.Reshape(g.SumToShapeOf(da, a), a_dims));
  g.SetInputGrad(1, g.Reshape(g.SumToShapeOf(db, b), b_dims));
  return {};
}

int64_t MatMulFlops(const std::vector<TensorType>& inputs, const std::vector<TensorType>& outputs,
                    const Attributes&) {
  const Shape& a = *inputs[0].shape;
  return 2 * outputs[0].dims().Elements() * a.back().value();
}

OpDef MatMul() {
  return {.name = "MatMul",
          .onnx_since = {1, 9, 13},
          .min_inputs = 2,
          .max_inputs = 2,
          .dtypes = {DType::f64, DType::f32, DType::f16, DType::bf16, DType::i64, DType::i32,
                     DType::u64, DType::u32},
          .infer = InferMatMul,
          .gradient = MatMulGradient,
          .reference = MatMulReference,
          .precision = PrecisionClass::kLower,
          .flops = MatMulFlops,
          .samples =
              "MatMul(a: f32[5,7], b: f32[7,3])\nMatMul(a: f32[2,1,3,4], b: f32[5,4,2])\n"
              "MatMul(a: f32[2,3,4], b: f32[4,2])\nMatMul(a: f32[4], b: f32[2,4,3])\n"
              "MatMul(a: f32[2,3,4], b: f32[4])\nMatMul(a: f32[4], b: f32[4])\n"
              "MatMul(a: f32[0,4], b: f32[4,2])\nMatMul(a: f32[2,0], b: f32[0,3])\n"
              "MatMul(a: f16[3,5], b: f16[5,2])\nMatMul(a: bf16[3,5], b: bf16[5,2])\n"
              "MatMul(a: i32[3,5], b: i32[5,2])\nMatMul(a: u64[3,5], b: u64[5,2])\n"};
}

struct GemmForm {
  bool trans_a, trans_b;
  double alpha, beta;

  explicit GemmForm(const Attributes& a)
      : trans_a(a.Int("transA", 0) != 0),
        trans_b(a.Int("transB", 0) != 0),
        alpha(a.Float("alpha", 1.0f)),
        beta(a.Float("beta", 1.0f)) {}
};

Status InferGemm(InferContext& op) {
  MINIM_TRY(op.SameDType(0, 1));
  MINIM_TRY(op.HasRank(0, 2));
  MINIM_TRY(op.HasRank(1, 2));
  const GemmForm form(op.attributes());
  const Shape a = op.input(0).ranked() ? *op.input(0).shape : Shape(2);
  const Shape b = op.input(1).ranked() ? *op.input(1).shape : Shape(2);
  if (!a[!form.trans_a].Compatible(b[form.trans_b]))
    return op.Error(
        "cannot multiply {} by {} with transA={}, transB={}: inner sizes {} and {} differ",
        ToString(a), ToString(b), form.trans_a, form.trans_b, a[!form.trans_a].ToString(),
        b[form.trans_b].ToString());
  Shape shape = {a[form.trans_a], b[!form.trans_b]};
  if (op.has_input(2)) {
    MINIM_TRY(op.SameDType(0, 2));
    if (op.input(2).ranked()) {
      const auto merged = BroadcastShapes(shape, *op.input(2).shape);
      const bool grows =
          merged.ok() && (merged->size() != 2 || !(*merged)[0].Compatible(shape[0]) ||
                          !(*merged)[1].Compatible(shape[1]));
      if (!merged.ok() || grows)
        return op.Error("C has shape {}, which does not broadcast to {}",
                        ToString(*op.input(2).shape), ToString(shape));
    }
  }
  return op.SetOutput(0, op.dtype(0), std::move(shape));
}

Status GemmReference(RefContext& op) {
  const GemmForm form(op.attributes());
  RefTensor& y = op.Output(0);
  const Dims &a = op.dims(0), &b = op.dims(1);
  const int64_t inner = a[!form.trans_a];
  const Dims sc = op.has_input(2) ? BroadcastStrides(op.dims(2), y.dims()) : Dims();
  VisitWideNumber(y.wide.dtype(), [&]<typename T>() {
    const auto src_a = op.input(0).wide.as<T>(), src_b = op.input(1).wide.as<T>();
    ForEachIndex(y.dims(), [&](int64_t flat, const Dims& at) {
      T sum{};
      for (int64_t k = 0; k < inner; ++k) {
        const T left = src_a[form.trans_a ? k * a[1] + at[0] : at[0] * a[1] + k];
        const T right = src_b[form.trans_b ? at[1] * b[1] + k : k * b[1] + at[1]];
        sum = WrapAdd(sum, WrapMul(left, right));
      }
      T result = form.alpha == 1 ? sum : ConvertTo<T>(form.alpha * static_cast<double>(sum));
      if (op.has_input(2)) {
        const T c = op.input(2).wide.as<T>()[OffsetOf(at, sc)];
        result =
            WrapAdd(result, form.beta == 1 ? c : ConvertTo<T>(form.beta * static_cast<double>(c)));
      }
      y.wide.as<T>()[flat] = result;
    });
  });
  return {};
}

ValueId ScaledProduct(GradContext& g, ValueId a, bool trans_a, ValueId b, bool trans_b,
                      float alpha) {
  return g.Emit("Gemm", {a, b},
                {{"transA", int64_t{trans_a}}, {"transB", int64_t{trans_b}}, {"alpha", alpha}});
}

Status GemmGradient(GradContext& g) {
  const GemmForm form(g.attributes());
  const auto alpha = static_cast<float>(form.alpha);
  const ValueId a = g.input(0), b = g.input(1), dy = g.output_grad(0);
  g.SetInputGrad(0, form.trans_a ? ScaledProduct(g, b, form.trans_b, dy, true, alpha)
                                 : ScaledProduct(g, dy, false, b, !form.trans_b, alpha));
  g.SetInputGrad(1, form.trans_b ? ScaledProduct(g, dy, true, a, form.trans_a, alpha)
                                 : ScaledProduct(g, a, !form.trans_a, dy, false, alpha));
  if (!g.has_input(2)) return {};
  const ValueId dc = form.beta == 1 ? dy : g.Mul(dy, form.beta);
  g.SetInputGrad(2, g.SumToShapeOf(dc, g.input(2)));
  return {};
}

OpDef Gemm() {
  return {.name = "Gemm",
          .onnx_since = {1, 6, 7, 9, 11, 13},
          .min_inputs = 2,
          .max_inputs = 3,
          .dtypes = {DType::f64, DType::f32, DType::f16, DType::bf16, DType::i64, DType::i32,
                     DType::u64, DType::u32},
          .infer = InferGemm,
          .gradient = GemmGradient,
          .reference = GemmReference,
          .upgrade = [](UpgradeContext& u) -> Status {  // C broadcasts as it did under this flag
            u.node.attributes.Erase("broadcast");
            return {};
          },
          .precision = PrecisionClass::kLower,
          .flops =
              [](const std::vector<TensorType>& inputs, const std::vector<TensorType>& outputs,
                 const Attributes& a) {
                const Dims dims = inputs[0].dims();
                return 2 * outputs[0].dims().Elements() * dims[a.Int("transA", 0) == 0];
              },
          .samples =
              "Gemm(a: f32[3,5], b: f32[5,2], c: f32[2])\n"
              "Gemm(a: f32[5,3], b: f32[2,5], c: f32[3,1]) {transA=1, transB=1, alpha=0.5, "
              "beta=2.0}\n"
              "Gemm(a: f32[5,3], b: f32[5,2], c: f32) {transA=1}\n"
              "Gemm(a: f32[3,5], b: f32[2,5]) {transB=1, alpha=-1.5}\n"
              "Gemm(a: f32[0,5], b: f32[5,2], c: f32[2])\n"
              "Gemm(a: f16[3,5], b: f16[5,2])\nGemm(a: bf16[3,5], b: bf16[5,2])\n"
              "Gemm(a: i32[3,5], b: i32[5,2], c: i32[1])\n"};
}

}  // namespace

std::vector<OpDef> MatrixProducts() { return {MatMul(), Gemm()}; }

}  // namespace minim::ops
