// MatMul, FusedMatMul, Gemm and FusedGemm over the packed FP32 product; 2-byte floats are widened.
#include <algorithm>

#include "kernels/cpu/bindings.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/product_shape.h"

namespace minim {
namespace {

constexpr int64_t kFewRows = 8;  // below this, packing a run-time B costs more than it saves

struct Plan {
  ProductShape shape;
  const GemmLevel* level = nullptr;
  Epilogue epilogue;  // without run-time pointers
  CKind c_kind = CKind::kNone;
  float beta = 1;
  std::shared_ptr<const std::byte> packed;  // all of B, when constant
  DType a_dtype = DType::f32, b_dtype = DType::f32, c_dtype = DType::f32;
  int64_t a_count = 0, b_count = 0, y_count = 0;
  size_t a_bytes = 0, b_bytes = 0, y_bytes = 0, bias_bytes = 0, pack_bytes = 0;  // scratch parts
  bool pack_at_run = false;

  GemmPack Source(const float* b) const {
    return {b, shape.b_row, shape.b_column, shape.k, shape.n, level->group};
  }
};

size_t WidenBytes(DType dtype, int64_t count) {
  return dtype == DType::f32 ? 0 : AlignUp(count * sizeof(float));
}

const float* Widen(const void* src, DType dtype, int64_t count, std::byte* scratch) {
  if (dtype == DType::f32) return static_cast<const float*>(src);
  ConvertElements({src, dtype, Dims{count}}, {scratch, DType::f32, Dims{count}});
  return reinterpret_cast<const float*>(scratch);
}

void RunBatch(const Plan& plan, GemmArgs gemm, int64_t batch, const float* a, const float* b,
              float* pack, const ThreadBudget& threads) {
  const ProductShape& s = plan.shape;
  gemm.a = a + s.a_offset[batch];
  gemm.c += batch * s.m * s.n;
  if (plan.packed) {
    const int64_t matrix = s.b_offset[batch] / std::max<int64_t>(1, s.k * s.n);
    gemm.packed =
        reinterpret_cast<const float*>(plan.packed.get()) + matrix * PackedFloats(s.k, s.n);
  } else if (plan.pack_at_run) {
    const GemmPack source = plan.Source(b + s.b_offset[batch]);
    threads.ParallelRange(source.groups(), 16, [&](int64_t first, int64_t last) {
      plan.level->pack(source, first, last, pack);
    });
    gemm.packed = pack;
  } else {
    gemm.b = b + s.b_offset[batch];
    gemm.b_row = s.b_row;
  }
  ParallelGemm(*plan.level, gemm, threads);
}

void Run(const Plan& plan, const KernelArgs& args) {
  const ProductShape& s = plan.shape;
  auto* scratch = static_cast<std::byte*>(args.scratch);
  const float* a = Widen(args.inputs[0], plan.a_dtype, plan.a_count, scratch);
  scratch += plan.a_bytes;
  const float* b =
      plan.packed ? nullptr : Widen(args.inputs[1], plan.b_dtype, plan.b_count, scratch);
  scratch += plan.b_bytes;
  float* y = plan.y_bytes ? reinterpret_cast<float*>(scratch) : Out<float>(args, 0);
  scratch += plan.y_bytes;
  Epilogue epilogue = plan.epilogue;
  if (plan.c_kind != CKind::kNone) {
    const int64_t count = plan.c_kind == CKind::kFull     ? s.m * s.n
                          : plan.c_kind == CKind::kColumn ? s.n
                          : plan.c_kind == CKind::kRow    ? s.m
                                                          : 1;
    const float* c = Widen(args.inputs[2], plan.c_dtype, count, scratch);
    if (plan.c_kind == CKind::kColumn) epilogue.column_bias = c;
    if (plan.c_kind == CKind::kRow) epilogue.row_bias = c;
    if (plan.c_kind == CKind::kFull) epilogue.residual = c, epilogue.residual_stride = s.n;
    if (plan.c_kind == CKind::kScalar) {
      float* row = reinterpret_cast<float*>(scratch + AlignUp(sizeof(float)));
      std::fill_n(row, s.n, c[0]);
      epilogue.column_bias = row;
    }
  }
  scratch += plan.bias_bytes;
  GemmArgs gemm{.m = s.m,
                .n = s.n,
                .k = s.k,
                .a_row = s.a_row,
                .a_column = s.a_column,
                .group = plan.packed || plan.pack_at_run ? plan.level->group : 1,
                .c = y,
                .c_row = s.n,
                .epilogue = epilogue.empty() ? nullptr : &epilogue};
  const int pieces = static_cast<int>(std::min<int64_t>(args.threads.threads, s.batches));
  if (s.batches >= args.threads.threads && pieces > 1) {
    args.threads.ParallelFor(pieces, [&](int i) {
      auto* pack = reinterpret_cast<float*>(scratch + i * plan.pack_bytes);
      for (int64_t batch = s.batches * i / pieces; batch < s.batches * (i + 1) / pieces; ++batch)
        RunBatch(plan, gemm, batch, a, b, pack, {});
    });
  } else {
    for (int64_t batch = 0; batch < s.batches; ++batch)
      RunBatch(plan, gemm, batch, a, b, reinterpret_cast<float*>(scratch), args.threads);
  }
  if (plan.y_bytes)
    ConvertElements({y, DType::f32, Dims{plan.y_count}},
                    {args.outputs[0], plan.a_dtype, Dims{plan.y_count}});
}

Status CheckTypes(const KernelRequest& request) {
  for (const TensorDesc& input : request.inputs) {
    if (input.present && (!IsFloat(input.dtype) || input.dtype == DType::f64))
      return Unsupported("operands are {}; expected f32, f16 or bf16", Name(input.dtype));
  }
  if (request.outputs[0].dtype != request.inputs[0].dtype)
    return Unsupported("the output's dtype differs from the first operand's");
  return {};
}

Result<ProductShape> ShapeOf(const KernelRequest& request, bool trans_a, bool trans_b) {
  return ShapeOfProduct(request.inputs[0].dims, request.inputs[1].dims, trans_a, trans_b);
}

Unpack UnpackOf(const GemmPack& shape, int64_t matrices, DType dtype) {
  return [=](const std::byte* blob, void* b) {
    const Dims dims = {matrices, shape.k, shape.n};
    Tensor wide = dtype == DType::f32 ? Tensor() : Tensor(DType::f32, dims);
    auto* to = static_cast<float*>(wide.defined() ? wide.data() : b);
    for (int64_t i = 0; i < matrices; ++i)
      UnpackB(shape, reinterpret_cast<const float*>(blob) + i * PackedFloats(shape.k, shape.n),
              to + i * shape.k * shape.n);
    if (wide.defined()) ConvertElements(wide.view(), {b, dtype, dims});
  };
}

BindResult Finish(const KernelRequest& request, Plan plan) {
  const ProductShape& s = plan.shape;
  plan.a_dtype = request.inputs[0].dtype;
  plan.b_dtype = request.inputs[1].dtype;
  plan.a_count = request.inputs[0].dims.Elements();
  plan.b_count = request.inputs[1].dims.Elements();
  plan.y_count = request.outputs[0].dims.Elements();
  plan.a_bytes = WidenBytes(plan.a_dtype, plan.a_count);
  plan.y_bytes = WidenBytes(plan.a_dtype, plan.y_count);
  if (HasInput(request, 2))
    plan.bias_bytes = AlignUp(4 + 4 * std::max(s.m, s.n) *
                                      (plan.c_kind == CKind::kFull ? std::min(s.m, s.n) : 1)) +
                      kAlignment;
  if (const TensorDesc& b = request.inputs[1]; b.constant != nullptr) {
    const size_t matrix = PackedFloats(s.k, s.n);
    const std::string key =
        fmt::format("gemm16x{}.{}.{}.{}.{}", plan.level->group, s.k, s.n, s.b_row, s.b_column);
    plan.packed = request.packs->GetOrPack(
        b.ConstantView(), key, s.b_matrices * matrix * sizeof(float),
        [&](std::byte* bytes) {
          const Tensor wide = Converted(b.ConstantView(), DType::f32);
          for (int64_t i = 0; i < s.b_matrices; ++i) {
            const GemmPack source = plan.Source(wide.as<float>().data() + i * s.k * s.n);
            plan.level->pack(source, 0, source.groups(),
                             reinterpret_cast<float*>(bytes) + i * matrix);
          }
        },
        UnpackOf(plan.Source(nullptr), s.b_matrices, b.dtype));
  } else {
    plan.b_bytes = WidenBytes(plan.b_dtype, plan.b_count);
    plan.pack_at_run = s.b_column != 1 || s.m > kFewRows;
    if (plan.pack_at_run) plan.pack_bytes = AlignUp(PackedFloats(s.k, s.n) * sizeof(float));
  }
  const size_t packs = plan.pack_bytes * std::min<int64_t>(std::max(1, request.threads),
                                                           std::max<int64_t>(1, s.batches));
  const size_t scratch = plan.a_bytes + plan.b_bytes + plan.y_bytes + plan.bias_bytes + packs;
  std::string name = fmt::format("gemm {}, B {}", plan.level->name,
                                 plan.packed        ? "packed once"
                                 : plan.pack_at_run ? "packed per run"
                                                    : "in place");
  std::vector<int> packed = {plan.packed ? 1 : -1};
  return MakeKernel(
      std::move(name), [plan = std::move(plan)](const KernelArgs& args) { Run(plan, args); },
      scratch, {}, std::move(packed));
}

BindResult BindMatMul(const KernelRequest& request, const GemmLevel& level) {
  MINIM_TRY(CheckTypes(request));
  const Attributes& attributes = AttributesOf(request);
  if (attributes.Int("transBatchA", 0) || attributes.Int("transBatchB", 0))
    return Unsupported("transposed batch axes");
  Plan plan{.level = &level};
  MINIM_TRY(plan.shape, ShapeOf(request, attributes.Int("transA", 0), attributes.Int("transB", 0)));
  plan.epilogue.alpha = attributes.Float("alpha", 1);
  return Finish(request, std::move(plan));
}

BindResult BindGemm(const KernelRequest& request, const GemmLevel& level) {
  MINIM_TRY(CheckTypes(request));
  const Attributes& attributes = AttributesOf(request);
  Plan plan{.level = &level};
  MINIM_TRY(plan.shape, ShapeOf(request, attributes.Int("transA", 0), attributes.Int("transB", 0)));
  plan.epilogue.alpha = attributes.Float("alpha", 1);
  plan.epilogue.beta = attributes.Float("beta", 1);
  MINIM_TRY(plan.epilogue.activation, ActivationOf(attributes));
  MINIM_TRY(plan.c_kind, KindOfC(request, plan.shape, plan.epilogue.beta));
  if (plan.c_kind != CKind::kNone) plan.c_dtype = request.inputs[2].dtype;
  return Finish(request, std::move(plan));
}

// Any arithmetic type, plain loops: f64 and the integer types, which wrap.
template <typename T>
void PlainMatMul(const ProductShape& s, const T* a, const T* b, T* y) {
  using Sum =
      std::conditional_t<std::is_integral_v<T>, std::make_unsigned<T>, std::type_identity<T>>::type;
  for (int64_t batch = 0; batch < s.batches; ++batch) {
    const T* pa = a + s.a_offset[batch];
    const T* pb = b + s.b_offset[batch];
    for (int64_t i = 0; i < s.m; ++i) {
      for (int64_t j = 0; j < s.n; ++j) {
        Sum sum = 0;
        for (int64_t k = 0; k < s.k; ++k)
          sum += static_cast<Sum>(pa[i * s.a_row + k * s.a_column]) *
                 static_cast<Sum>(pb[k * s.b_row + j * s.b_column]);
        *y++ = static_cast<T>(sum);
      }
    }
  }
}

template <typename T>
BindResult MakePlain(ProductShape shape) {
  return MakeKernel("matmul plain", [shape = std::move(shape)](const KernelArgs& args) {
    PlainMatMul(shape, In<T>(args, 0), In<T>(args, 1), Out<T>(args, 0));
  });
}

}  // namespace

BindResult MatMulAvx512(const KernelRequest& request) { return BindMatMul(request, GemmAvx512()); }
BindResult MatMulAvx2(const KernelRequest& request) { return BindMatMul(request, GemmAvx2()); }
BindResult MatMulPortable(const KernelRequest& request) {
  return BindMatMul(request, GemmPortable());
}
BindResult GemmF32Avx512(const KernelRequest& request) { return BindGemm(request, GemmAvx512()); }
BindResult GemmF32Avx2(const KernelRequest& request) { return BindGemm(request, GemmAvx2()); }
BindResult GemmF32Portable(const KernelRequest& request) {
  return BindGemm(request, GemmPortable());
}

BindResult MatMulPlain(const KernelRequest& request) {
  MINIM_TRY(RequireInputs(request, 0, 2, request.outputs[0].dtype));
  MINIM_TRY(ProductShape shape, ShapeOf(request, false, false));
  switch (request.outputs[0].dtype) {
    case DType::f64: return MakePlain<double>(std::move(shape));
    case DType::i32: return MakePlain<int32_t>(std::move(shape));
    case DType::i64: return MakePlain<int64_t>(std::move(shape));
    case DType::u32: return MakePlain<uint32_t>(std::move(shape));
    case DType::u64: return MakePlain<uint64_t>(std::move(shape));
    default: return Unsupported("dtype {}", Name(request.outputs[0].dtype));
  }
}

}  // namespace minim
