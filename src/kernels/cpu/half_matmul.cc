// MatMul, FusedMatMul, Gemm and FusedGemm of BF16 rows by a constant B: the rows are read in place,
// as the pixels of a convolution with the channels last (nhwc_cuts.h).
#include <algorithm>

#include "kernels/cpu/bindings.h"
#include "kernels/cpu/carver.h"
#include "kernels/cpu/nhwc_conv.h"
#include "kernels/cpu/product_shape.h"

namespace minim {
namespace {

struct Plan {
  const NhwcHalfLevel* level = nullptr;
  ProductShape s;
  NhwcCuts rows;
  int threads = 1;
  std::shared_ptr<const std::byte> packed;  // B's columns, as filters
  CKind c_kind = CKind::kNone;
  float beta = 1;
  Activation activation;
};

struct Scratch {
  float* starts;      // of the columns
  std::byte* stages;  // one of each thread
};

size_t Carve(const Plan& p, std::byte* base, Scratch* to) {
  Carver carver(base);
  to->starts = carver.Take<float>(p.rows.filled());
  to->stages =
      carver.Take<std::byte>(static_cast<int64_t>(AlignUp(p.rows.stage_bytes())) * p.threads);
  return carver.bytes();
}

void FillStartsOf(const Plan& p, const KernelArgs& args, float* starts) {
  const bool columns = p.c_kind == CKind::kColumn, scalar = p.c_kind == CKind::kScalar;
  FillStarts(columns || scalar ? In<void>(args, 2) : nullptr, DType::bf16, scalar ? 1 : p.s.n,
             p.rows.filled(), starts);
  if (scalar) std::fill_n(starts + 1, p.s.n - 1, starts[0]);
  for (int64_t j = 0; p.beta != 1 && j < p.s.n; ++j) starts[j] *= p.beta;
}

void Run(const Plan& p, const KernelArgs& args) {
  Scratch to;
  Carve(p, static_cast<std::byte*>(args.scratch), &to);
  FillStartsOf(p, args, to.starts);
  const auto* residual = p.c_kind == CKind::kFull ? In<std::byte>(args, 2) : nullptr;
  p.rows.ForEachPiece({args.threads.pool, std::min(args.threads.threads, p.threads)},
                      args.inputs[0], 0, to.stages, [&](const NhwcPiece& piece, int) {
                        p.rows.ForEachRun(piece, p.packed.get(), args.outputs[0], sizeof(BFloat16),
                                          [&](const NhwcRun& run, int64_t count, int64_t column) {
                                            const int64_t at = run.dst - Out<std::byte>(args, 0);
                                            p.level->run({run, to.starts + column,
                                                          residual ? residual + at : nullptr,
                                                          p.activation.low(), p.activation.high()},
                                                         count);
                                          });
                      });
}

std::shared_ptr<const std::byte> Packed(const KernelRequest& request, const Plan& p) {
  const ProductShape& s = p.s;
  const TensorDesc& b = request.inputs[1];
  const std::string key = fmt::format("half rows.{}.{}.{}.{}", s.k, s.n, s.b_row, s.b_column);
  return request.packs->GetOrPack(b.ConstantView(), key, p.rows.filled() * p.rows.depth(),
                                  [&](std::byte* blob) {
                                    const auto* from = static_cast<const BFloat16*>(b.constant);
                                    std::vector<BFloat16> columns(s.n * s.k);
                                    for (int64_t j = 0; j < s.n; ++j)
                                      for (int64_t k = 0; k < s.k; ++k)
                                        columns[j * s.k + k] = from[k * s.b_row + j * s.b_column];
                                    PackNhwcFilters(p.rows, columns.data(), sizeof(BFloat16), blob);
                                  });
}

BindResult Bind(const KernelRequest& request, Plan p) {
  const Attributes& attributes = AttributesOf(request);
  MINIM_TRY(RequireInputs(request, 0, 3, DType::bf16));
  MINIM_TRY(p.s, ShapeOfProduct(request.inputs[0].dims, request.inputs[1].dims,
                                attributes.Int("transA", 0), attributes.Int("transB", 0)));
  const ProductShape& s = p.s;
  MINIM_TRY(p.c_kind, KindOfC(request, s, p.beta));
  if (request.inputs[1].constant == nullptr) return Unsupported("a B that is not constant");
  if (s.batches != 1 || s.b_matrices != 1) return Unsupported("batches");
  if (s.a_column != 1 || s.a_row != s.k) return Unsupported("rows of A that do not lie in order");
  if (s.m == 0 || s.n == 0 || s.k == 0) return Unsupported("no elements");
  if (attributes.Float("alpha", 1) != 1) return Unsupported("a scaled product");
  if (!p.activation.clamp()) return Unsupported("an activation that is no clamp");
  if (p.c_kind == CKind::kRow || (p.c_kind == CKind::kFull && p.beta != 1))
    return Unsupported("a C of such dims");
  const double work = static_cast<double>(s.m * s.n) * static_cast<double>(s.k);
  if (work < p.level->least_products) return Unsupported("too few products");
  p.threads = static_cast<int>(
      std::clamp<double>(work / p.level->products_per_thread, 1, std::max(1, request.threads)));
  const Window w{.channels = s.k, .in = {1, 1, s.m}, .out = {1, 1, s.m}};
  MINIM_TRY(p.rows,
            NhwcCutsOf(w, s.n, sizeof(BFloat16), NhwcStepBytes(kFilterGroup * s.k * 2), p.threads));
  p.rows.always_offsets = p.level->always_offsets;
  p.rows.release = p.level->release;
  p.packed = Packed(request, p);
  Scratch none;
  const size_t scratch = Carve(p, nullptr, &none);
  return MakeKernel(
      fmt::format("bf16 gemm {}, rows in place", p.level->name),
      [p = std::move(p)](const KernelArgs& args) { Run(p, args); }, scratch);
}

BindResult BindMatMul(const KernelRequest& request, const NhwcHalfLevel& level) {
  const Attributes& attributes = AttributesOf(request);
  if (attributes.Int("transBatchA", 0) || attributes.Int("transBatchB", 0))
    return Unsupported("transposed batch axes");
  return Bind(request, {.level = &level});
}

BindResult BindGemm(const KernelRequest& request, const NhwcHalfLevel& level) {
  Plan p{.level = &level, .beta = AttributesOf(request).Float("beta", 1)};
  MINIM_TRY(p.activation, ActivationOf(AttributesOf(request)));
  return Bind(request, std::move(p));
}

}  // namespace

BindResult MatMulBf16(const KernelRequest& r) { return BindMatMul(r, NhwcHalfBf16()); }
BindResult MatMulAmx(const KernelRequest& r) { return BindMatMul(r, NhwcHalfAmx()); }
BindResult GemmBf16(const KernelRequest& r) { return BindGemm(r, NhwcHalfBf16()); }
BindResult GemmAmx(const KernelRequest& r) { return BindGemm(r, NhwcHalfAmx()); }

}  // namespace minim
