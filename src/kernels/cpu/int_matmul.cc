// MatMulInteger, QLinearMatMul, QGemm and RowQuantizedMatMul over the exact integer product.
#include <algorithm>

#include "core/requantize.h"
#include "kernels/cpu/bindings.h"
#include "kernels/cpu/int_gemm.h"
#include "kernels/cpu/product_shape.h"

namespace minim {
namespace {

constexpr int kAbsent = -1;

// Which input plays which part.
struct Roles {
  int a, b, a_zero, b_zero, a_scale, b_scale, y_scale, y_zero, bias;
};
constexpr Roles kMatMulInteger{0, 1, 2, 3, kAbsent, kAbsent, kAbsent, kAbsent, kAbsent};
constexpr Roles kQLinearMatMul{0, 3, 2, 5, 1, 4, 6, 7, kAbsent};
constexpr Roles kQGemm{0, 3, 2, 5, 1, 4, 7, 8, 6};
constexpr Roles kRowQuantized{0, 1, kAbsent, kAbsent, kAbsent, 2, kAbsent, kAbsent, 3};

constexpr Roles kIntegerToFloat{0, 1, 4, 5, 2, 3, kAbsent, kAbsent, 6};

enum class Result8 { kSums, kQuantized, kFloat, kRowFloat };

struct Plan {
  ProductShape s;
  Roles roles;
  const IntLevel* level = nullptr;
  Result8 result = Result8::kSums;
  DType a_dtype = DType::u8, b_dtype = DType::i8, y_dtype = DType::i32, zero_dtype = DType::u8;
  int64_t a_zeros = 0, b_zeros = 0, b_scales = 0, bias_count = 0;
  float alpha = 1;
  bool float_bias = false;
  std::shared_ptr<const std::byte> packed;
  size_t a_bytes = 0, pack_bytes = 0, sum_bytes = 0, scale_bytes = 0, row_bytes = 0;

  size_t scratch() const { return a_bytes + pack_bytes + sum_bytes + scale_bytes + row_bytes; }
};

bool Given(const KernelArgs& args, int role) {
  return role >= 0 && role < static_cast<int>(args.inputs.size()) && args.inputs[role] != nullptr;
}
float ScaleAt(const KernelArgs& args, int role, int64_t i) { return In<float>(args, role)[i]; }

void WidenRow(const Plan& p, const std::byte* a, int64_t row, int32_t zero, int16_t* dst) {
  const ProductShape& s = p.s;
  dst[PairsOf(s.k) * 2 - 1] = 0;
  if (s.a_column == 1) {
    const std::byte* src = a + row * s.a_row;
    if (p.a_dtype == DType::u8)
      return p.level->widen_u8(reinterpret_cast<const uint8_t*>(src), zero, s.k, dst);
    return p.level->widen_s8(reinterpret_cast<const int8_t*>(src), zero, s.k, dst);
  }
  for (int64_t i = 0; i < s.k; ++i) {
    const std::byte value = a[row * s.a_row + i * s.a_column];
    const int32_t x =
        p.a_dtype == DType::u8 ? std::to_integer<uint8_t>(value) : static_cast<int8_t>(value);
    dst[i] = static_cast<int16_t>(x - zero);
  }
}

// A of one batch as 16-bit rows; RowQuantizedMatMul rounds here, row by row.
void PrepareA(const Plan& p, const KernelArgs& args, int64_t batch, int16_t* a16,
              float* row_scales) {
  const ProductShape& s = p.s;
  const int64_t width = PairsOf(s.k) * 2;
  if (s.k == 0) return;
  args.threads.ParallelRange(s.m, 65536 / width + 1, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      if (p.result == Result8::kRowFloat) {
        a16[(i + 1) * width - 1] = 0;
        row_scales[i] = p.level->quantize_row(In<float>(args, 0) + s.a_offset[batch] + i * s.k, s.k,
                                              a16 + i * width);
      } else {
        const void* zeros = Given(args, p.roles.a_zero) ? args.inputs[p.roles.a_zero] : nullptr;
        WidenRow(p, In<std::byte>(args, p.roles.a) + s.a_offset[batch], i,
                 ZeroPoints{zeros, p.a_dtype, p.a_zeros}.At(i), a16 + i * width);
      }
    }
  });
}

const int16_t* PackedB(const Plan& p, const KernelArgs& args, int64_t batch, int16_t* scratch) {
  const ProductShape& s = p.s;
  if (p.packed) {
    const int64_t matrix = s.b_offset[batch] / std::max<int64_t>(1, s.k * s.n);
    return reinterpret_cast<const int16_t*>(p.packed.get()) + matrix * PackedInt16(s.k, s.n);
  }
  const void* zeros = Given(args, p.roles.b_zero) ? args.inputs[p.roles.b_zero] : nullptr;
  args.threads.ParallelRange(PanelsOf(s.n), 16, [&](int64_t first, int64_t last) {
    PackIntB(In<std::byte>(args, p.roles.b) + s.b_offset[batch], p.b_dtype, s.b_row, s.b_column,
             s.k, s.n, {zeros, p.b_dtype, p.b_zeros}, first, last, scratch);
  });
  return scratch;
}

void FillScales(const Plan& p, const KernelArgs& args, float* scales) {
  const int64_t count = p.b_scales > 1 ? p.s.n : 1;
  for (int64_t j = 0; j < count; ++j) {
    const float b = ScaleAt(args, p.roles.b_scale, j);
    if (p.result == Result8::kRowFloat) {
      scales[j] = b;
    } else if (p.result == Result8::kFloat) {
      scales[j] = p.alpha * ScaleAt(args, p.roles.a_scale, 0) * b;
    } else {
      scales[j] = RequantizeScale(p.alpha * ScaleAt(args, p.roles.a_scale, 0), b,
                                  ScaleAt(args, p.roles.y_scale, 0));
    }
  }
}

void AddBias(const Plan& p, const int32_t* bias, int64_t row, int32_t* sums) {
  const int64_t n = p.s.n;
  for (int64_t j = 0; j < n; ++j) {
    const int64_t at = p.bias_count == 1 ? 0 : p.bias_count == n ? j : row * n + j;
    sums[j] =
        static_cast<int32_t>(static_cast<uint32_t>(sums[j]) + static_cast<uint32_t>(bias[at]));
  }
}

void FinishRows(const Plan& p, const KernelArgs& args, int64_t batch, int32_t* sums,
                const float* scales, const float* row_scales) {
  const ProductShape& s = p.s;
  RequantizeRow columns{scales, p.b_scales > 1, 0};
  if (Given(args, p.roles.y_zero))
    columns.zero_point = ZeroPoints{args.inputs[p.roles.y_zero], p.zero_dtype, 1}.At(0);
  const bool integer_bias = Given(args, p.roles.bias) && !p.float_bias;
  const float* bias = p.float_bias ? In<float>(args, p.roles.bias) : nullptr;
  args.threads.ParallelRange(
      s.m, 16384 / std::max<int64_t>(1, s.n) + 1, [&](int64_t first, int64_t last) {
        for (int64_t i = first; i < last; ++i) {
          int32_t* row = sums + i * s.n;
          if (integer_bias) AddBias(p, In<int32_t>(args, p.roles.bias), i, row);
          const int64_t at = (batch * s.m + i) * s.n;
          if (p.result == Result8::kRowFloat) {
            p.level->dequantize_sums(row, row_scales[i], columns, bias, s.n,
                                     Out<float>(args, 0) + at);
          } else if (p.result == Result8::kFloat) {
            p.level->dequantize_sums(row, 1.0f, columns, bias, s.n, Out<float>(args, 0) + at);
          } else if (p.y_dtype == DType::u8) {
            p.level->requantize_u8(row, columns, s.n, Out<uint8_t>(args, 0) + at);
          } else {
            p.level->requantize_s8(row, columns, s.n, Out<int8_t>(args, 0) + at);
          }
        }
      });
}

void Run(const Plan& p, const KernelArgs& args) {
  const ProductShape& s = p.s;
  auto* scratch = static_cast<std::byte*>(args.scratch);
  auto* a16 = reinterpret_cast<int16_t*>(scratch);
  auto* pack = reinterpret_cast<int16_t*>(scratch + p.a_bytes);
  auto* sums = reinterpret_cast<int32_t*>(scratch + p.a_bytes + p.pack_bytes);
  auto* scales = reinterpret_cast<float*>(scratch + p.a_bytes + p.pack_bytes + p.sum_bytes);
  auto* rows =
      reinterpret_cast<float*>(scratch + p.a_bytes + p.pack_bytes + p.sum_bytes + p.scale_bytes);
  if (p.result != Result8::kSums) FillScales(p, args, scales);
  for (int64_t batch = 0; batch < s.batches; ++batch) {
    PrepareA(p, args, batch, a16, rows);
    int32_t* c = p.result == Result8::kSums ? Out<int32_t>(args, 0) + batch * s.m * s.n : sums;
    ParallelIntGemm(*p.level,
                    {.m = s.m,
                     .n = s.n,
                     .pairs = PairsOf(s.k),
                     .a = a16,
                     .a_row = PairsOf(s.k) * 2,
                     .packed = PackedB(p, args, batch, pack),
                     .c = c,
                     .c_row = s.n},
                    args.threads);
    if (p.result != Result8::kSums) FinishRows(p, args, batch, sums, scales, rows);
  }
}

bool IsByte(DType dtype) { return dtype == DType::u8 || dtype == DType::i8; }

int64_t CountOf(const KernelRequest& request, int role) {
  return role >= 0 && HasInput(request, role) ? request.inputs[role].dims.Elements() : 0;
}

Status CheckParts(const KernelRequest& request, const Plan& p) {
  MINIM_TRY(RequireRowMajor(request));
  if (p.result != Result8::kRowFloat && !IsByte(p.a_dtype))
    return Unsupported("A is {}", Name(p.a_dtype));
  if (!IsByte(p.b_dtype)) return Unsupported("B is {}", Name(p.b_dtype));
  const auto fits = [](int64_t count, int64_t n) { return count <= 1 || count == n; };
  if (!fits(p.a_zeros, p.s.m)) return Unsupported("{} zero points for {} rows", p.a_zeros, p.s.m);
  if (!fits(p.b_zeros, p.s.n) || !fits(p.b_scales, p.s.n))
    return Unsupported("per-column parameters do not match {} columns", p.s.n);
  if (CountOf(request, p.roles.a_scale) > 1 || CountOf(request, p.roles.y_scale) > 1)
    return Unsupported("scales per row");
  for (int role : {p.roles.a_scale, p.roles.b_scale, p.roles.y_scale})
    if (role >= 0 && HasInput(request, role))
      MINIM_TRY(RequireInputs(request, role, role + 1, DType::f32));
  if (p.result == Result8::kQuantized && !IsByte(p.y_dtype))
    return Unsupported("result is {}", Name(p.y_dtype));
  const int64_t b = p.bias_count;
  if (p.float_bias && b != p.s.n) return Unsupported("a float bias of {} values", b);
  if (b > 1 && b != p.s.n && b != p.s.m * p.s.n) return Unsupported("bias of {} values", b);
  return {};
}

void PackWeights(const KernelRequest& request, Plan* p) {
  const ProductShape& s = p->s;
  const TensorDesc& b = request.inputs[p->roles.b];
  const TensorDesc* zero = p->b_zeros ? &request.inputs[p->roles.b_zero] : nullptr;
  if (b.constant == nullptr || (zero && zero->constant == nullptr)) {
    p->pack_bytes = AlignUp(PackedInt16(s.k, s.n) * 2);
    return;
  }
  const ZeroPoints zeros{zero ? zero->constant : nullptr, p->b_dtype, p->b_zeros};
  std::string key = fmt::format("int16x2.{}.{}.{}.{}", s.k, s.n, s.b_row, s.b_column);
  for (int64_t i = 0; i < p->b_zeros; ++i) key += fmt::format(".{}", zeros.At(i));
  const size_t matrix = PackedInt16(s.k, s.n);
  p->packed = request.packs->GetOrPack(
      b.ConstantView(), key, s.b_matrices * matrix * 2, [&](std::byte* bytes) {
        for (int64_t i = 0; i < s.b_matrices; ++i)
          PackIntB(static_cast<const std::byte*>(b.constant) + i * s.k * s.n, p->b_dtype, s.b_row,
                   s.b_column, s.k, s.n, zeros, 0, PanelsOf(s.n),
                   reinterpret_cast<int16_t*>(bytes) + i * matrix);
      });
}

BindResult Bind(const KernelRequest& request, const IntLevel& level, const Roles& roles,
                Result8 result) {
  const Attributes& attributes = AttributesOf(request);
  Plan p{.roles = roles, .level = &level, .result = result};
  if (HasInput(request, roles.b) == false) return Unsupported("B is absent");
  MINIM_TRY(p.s, ShapeOfProduct(request.inputs[roles.a].dims, request.inputs[roles.b].dims,
                                attributes.Int("transA", 0), attributes.Int("transB", 0)));
  p.a_dtype = request.inputs[roles.a].dtype;
  p.b_dtype = request.inputs[roles.b].dtype;
  p.y_dtype = request.outputs[0].dtype;
  p.a_zeros = CountOf(request, roles.a_zero);
  p.b_zeros = CountOf(request, roles.b_zero);
  p.b_scales = CountOf(request, roles.b_scale);
  p.bias_count = CountOf(request, roles.bias);
  p.float_bias = p.bias_count > 0 && request.inputs[roles.bias].dtype == DType::f32;
  if (CountOf(request, roles.y_zero)) p.zero_dtype = request.inputs[roles.y_zero].dtype;
  if (request.op == "QGemm") p.alpha = attributes.Float("alpha", 1);
  MINIM_TRY(CheckParts(request, p));
  if (p.a_zeros > 1 && p.s.a_offset.size() > 1 && p.s.batches == 1)
    return Unsupported("zero points per row of folded batches");
  PackWeights(request, &p);
  p.a_bytes = AlignUp(p.s.m * PairsOf(p.s.k) * 4);
  if (result != Result8::kSums) p.sum_bytes = AlignUp(p.s.m * p.s.n * 4);
  p.scale_bytes = AlignUp(std::max<int64_t>(1, p.s.n) * 4);
  p.row_bytes = AlignUp(p.s.m * 4);
  const size_t scratch = p.scratch();
  return MakeKernel(
      fmt::format("int8 gemm {} 4x16", level.name),
      [p = std::move(p)](const KernelArgs& args) { Run(p, args); }, scratch);
}

BindResult BindQGemm(const KernelRequest& request, const IntLevel& level) {
  return Bind(request, level, kQGemm, HasInput(request, 7) ? Result8::kQuantized : Result8::kFloat);
}

}  // namespace

BindResult MatMulIntegerAvx2(const KernelRequest& r) {
  return Bind(r, IntAvx2(), kMatMulInteger, Result8::kSums);
}
BindResult MatMulIntegerPortable(const KernelRequest& r) {
  return Bind(r, IntPortable(), kMatMulInteger, Result8::kSums);
}
BindResult QLinearMatMulAvx2(const KernelRequest& r) {
  return Bind(r, IntAvx2(), kQLinearMatMul, Result8::kQuantized);
}
BindResult QLinearMatMulPortable(const KernelRequest& r) {
  return Bind(r, IntPortable(), kQLinearMatMul, Result8::kQuantized);
}
BindResult QGemmAvx2(const KernelRequest& r) { return BindQGemm(r, IntAvx2()); }
BindResult QGemmPortable(const KernelRequest& r) { return BindQGemm(r, IntPortable()); }
BindResult MatMulIntegerToFloatAvx2(const KernelRequest& r) {
  return Bind(r, IntAvx2(), kIntegerToFloat, Result8::kFloat);
}
BindResult MatMulIntegerToFloatPortable(const KernelRequest& r) {
  return Bind(r, IntPortable(), kIntegerToFloat, Result8::kFloat);
}
BindResult RowQuantizedMatMulAvx2(const KernelRequest& r) {
  return Bind(r, IntAvx2(), kRowQuantized, Result8::kRowFloat);
}
BindResult RowQuantizedMatMulPortable(const KernelRequest& r) {
  return Bind(r, IntPortable(), kRowQuantized, Result8::kRowFloat);
}

}  // namespace minim
