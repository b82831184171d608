// MatMul, FusedMatMul, Gemm and FusedGemm of BF16: rows are read in place, as the pixels of a
// convolution with the channels last (nhwc_cuts.h), and the columns of B are its filters.
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
  NhwcCuts rows;  // of one product
  int threads = 1;
  std::shared_ptr<const std::byte> packed;  // the matrices of B, when constant
  CKind c_kind = CKind::kNone;
  float beta = 1;
  Activation activation;

  int64_t matrix_bytes() const { return rows.filled() * rows.depth(); }
  /// Each thread has products of its own.
  bool by_batches() const { return s.batches >= threads; }
};

struct Scratch {
  float* starts;       // of the columns
  std::byte* stages;   // one of each thread
  std::byte* columns;  // packed at run time: one of each thread, or one for all
};

size_t Carve(const Plan& p, std::byte* base, Scratch* to) {
  Carver carver(base);
  const auto stage = static_cast<int64_t>(AlignUp(p.rows.stage_bytes()));
  to->starts = carver.Take<float>(p.rows.filled());
  to->stages = carver.Take<std::byte>(stage * p.threads);
  to->columns =
      carver.Take<std::byte>(p.packed ? 0 : p.matrix_bytes() * (p.by_batches() ? p.threads : 1));
  return carver.bytes();
}

HalfColumns ColumnsOf(const ProductShape& s, const void* b, int64_t offset) {
  return {static_cast<const BFloat16*>(b) + offset, s.b_row, s.b_column, s.k, s.n};
}

// One product on so many threads.
void RunProduct(const Plan& p, const KernelArgs& args, int64_t batch, const ThreadBudget& threads,
                const float* starts, std::byte* stages, std::byte* columns) {
  const ProductShape& s = p.s;
  const std::byte* packed = columns;
  if (p.packed)
    packed = p.packed.get() + s.b_offset[batch] / (s.k * s.n) * p.matrix_bytes();
  else
    p.level->pack(ColumnsOf(s, args.inputs[1], s.b_offset[batch]), columns);
  BFloat16* y = Out<BFloat16>(args, 0) + batch * s.m * s.n;
  const auto* residual = p.c_kind == CKind::kFull ? In<std::byte>(args, 2) : nullptr;
  p.rows.ForEachPiece(
      threads, In<BFloat16>(args, 0) + s.a_offset[batch], 0, stages,
      [&](const NhwcPiece& piece, int) {
        p.rows.ForEachRun(piece, packed, y, sizeof(BFloat16),
                          [&](const NhwcRun& run, int64_t count, int64_t column) {
                            const int64_t at = run.dst - reinterpret_cast<std::byte*>(y);
                            p.level->run({run, starts + column, residual ? residual + at : nullptr,
                                          p.activation.low(), p.activation.high(),
                                          p.activation.kind == Activation::kGelu},
                                         count);
                          });
      });
}

void Run(const Plan& p, const KernelArgs& args) {
  Scratch to;
  Carve(p, static_cast<std::byte*>(args.scratch), &to);
  FillColumnStarts(p.c_kind, In<void>(args, 2), DType::bf16, p.beta, p.s.n, p.rows.filled(),
                   to.starts);
  const ThreadBudget threads{args.threads.pool, std::min(args.threads.threads, p.threads)};
  const int64_t batches = p.s.batches;
  if (batches == 1 || !p.by_batches()) {
    for (int64_t batch = 0; batch < batches; ++batch)
      RunProduct(p, args, batch, threads, to.starts, to.stages, to.columns);
    return;
  }
  const int pieces = std::max(1, threads.threads);
  threads.ParallelFor(pieces, [&](int i) {
    std::byte* stage = to.stages + i * static_cast<int64_t>(AlignUp(p.rows.stage_bytes()));
    std::byte* columns = to.columns + (p.packed ? 0 : i * p.matrix_bytes());
    for (int64_t batch = batches * i / pieces; batch < batches * (i + 1) / pieces; ++batch)
      RunProduct(p, args, batch, {}, to.starts, stage, columns);
  });
}

std::shared_ptr<const std::byte> Packed(const KernelRequest& request, const Plan& p) {
  const ProductShape& s = p.s;
  const TensorDesc& b = request.inputs[1];
  const std::string key = fmt::format("half rows.{}.{}.{}.{}", s.k, s.n, s.b_row, s.b_column);
  const int64_t matrices = s.b_matrices, elements = s.k * s.n, bytes = p.matrix_bytes();
  const auto form = NhwcFilters::Columns(p.rows, sizeof(BFloat16), s.b_row, s.b_column);
  return request.packs->GetOrPack(
      b.ConstantView(), key, matrices * bytes,
      [&](std::byte* blob) {
        for (int64_t i = 0; i < matrices; ++i)
          p.level->pack(ColumnsOf(s, b.constant, i * elements), blob + i * bytes);
      },
      [=](const std::byte* blob, void* to) {
        for (int64_t i = 0; i < matrices; ++i)
          form.Unpack(blob + i * bytes, static_cast<BFloat16*>(to) + i * elements);
      });
}

BindResult Bind(const KernelRequest& request, Plan p) {
  const Attributes& attributes = AttributesOf(request);
  MINIM_TRY(RequireInputs(request, 0, 3, DType::bf16));
  MINIM_TRY(p.s, ShapeOfProduct(request.inputs[0].dims, request.inputs[1].dims,
                                attributes.Int("transA", 0), attributes.Int("transB", 0)));
  const ProductShape& s = p.s;
  MINIM_TRY(p.c_kind, KindOfC(request, s, p.beta));
  if (s.a_column != 1 || s.a_row != s.k) return Unsupported("rows of A that do not lie in order");
  if (s.batches == 0 || s.m == 0 || s.n == 0 || s.k == 0) return Unsupported("no elements");
  if (attributes.Float("alpha", 1) != 1) return Unsupported("a scaled product");
  if (!p.activation.stored()) return Unsupported("an activation that is no clamp and not Gelu");
  if (p.c_kind == CKind::kRow || (p.c_kind == CKind::kFull && p.beta != 1))
    return Unsupported("a C of such dims");
  const double work = static_cast<double>(s.batches * s.m * s.n) * static_cast<double>(s.k);
  if (work < p.level->least_products) return Unsupported("too few products");
  p.threads = static_cast<int>(
      std::clamp<double>(work / p.level->products_per_thread, 1, std::max(1, request.threads)));
  const Window w{.channels = s.k, .in = {1, 1, s.m}, .out = {1, 1, s.m}};
  MINIM_TRY(p.rows, NhwcCutsOf(w, s.n, sizeof(BFloat16),
                               NhwcStepOf(w, s.n, 2, s.n * (p.c_kind == CKind::kFull ? 4 : 2)),
                               s.batches > 1 && p.by_batches() ? 1 : p.threads));
  p.rows.joins_lines = p.level->joins_lines;
  p.rows.release = p.level->release;
  const bool constant = request.inputs[1].constant != nullptr;
  if (constant) p.packed = Packed(request, p);
  Scratch none;
  const size_t scratch = Carve(p, nullptr, &none);
  std::string name = fmt::format("bf16 gemm {}, rows in place, B packed {}", p.level->name,
                                 constant ? "once" : "per run");
  return MakeKernel(std::move(name), [p = std::move(p)](const KernelArgs& args) { Run(p, args); },
                    scratch, {}, {constant ? 1 : -1});
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
