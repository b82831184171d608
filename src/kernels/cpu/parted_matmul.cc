// MatMul, FusedMatMul, Gemm, FusedGemm and pointwise NhwcFusedConv of FP32 rows by constants, each
// value as the sum of three BF16 ones (dot_rows.h): where tiles multiply BF16 sixteen times
// as fast as FP32, six of their products for one of FP32 still win. The parts of 24 bits leave out
// nothing; products of parts that are left out are under 2^-26 of the whole.
#include <algorithm>
#include <cstring>

#include "kernels/cpu/bindings.h"
#include "kernels/cpu/carver.h"
#include "kernels/cpu/dot_rows.h"
#include "kernels/cpu/nhwc_cuts.h"
#include "kernels/cpu/product_shape.h"

namespace minim {
namespace {

// Fewer rows or columns do not pay for bringing B, which is half as large again as in FP32, or for
// splitting A; fewer products not for the start.
constexpr int64_t kLeastRows = 64, kLeastColumns = 96;
constexpr double kLeastProducts = 400e3;
constexpr double kProductsPerThread = 3e6;  // about 6 us
// Rows in parts stay in the L2 cache, 2 MiB where there are tiles, beside B; or B passes by.
constexpr int64_t kMostOfB = 768 << 10, kRowsBesideB = 128 << 10, kRowsAlone = 1 << 20;
constexpr int64_t kTileRows = 32;  // of two tiles
constexpr int64_t kPanelsTogether = 4;
constexpr int64_t kValuesOfBlock = kDotBlock / 2;

struct Plan {
  const DotLevel* dots = nullptr;
  ProductShape s;
  CKind c_kind = CKind::kNone;
  int residual = -1;  // the input, or none
  float beta = 1;
  Activation activation;
  std::shared_ptr<const std::byte> packed;
  int64_t rows_together = 0, panel_shares = 1;
  int threads = 1;

  int64_t blocks() const { return (s.k + kValuesOfBlock - 1) / kValuesOfBlock; }
  int64_t panels() const { return PanelsOf(s.n); }
  int64_t panel_bytes() const { return blocks() * kDotBlock * kPanel; }
  int64_t part_bytes() const { return panels() * panel_bytes(); }
  int64_t row_bytes() const { return blocks() * kDotBlock; }  // of one part
  bool finishes() const { return residual >= 0 || activation.kind != Activation::kNone; }
  int64_t row_blocks() const { return (s.m + rows_together - 1) / rows_together; }
  int64_t units() const { return row_blocks() * panel_shares; }
};

struct Scratch {
  float* starts;    // of the columns
  std::byte* rows;  // in parts; of each thread, as is ...
  float* last;      // ... what the last panel makes, where it is not whole
};

size_t Carve(const Plan& p, std::byte* base, Scratch* to) {
  Carver carver(base);
  to->starts = carver.Take<float>(p.panels() * kPanel);
  to->rows = carver.Take<std::byte>(kDotParts * p.rows_together * p.row_bytes() * p.threads);
  to->last = carver.Take<float>(p.rows_together * kPanel * p.threads);
  return carver.bytes();
}

void SplitRows(const Plan& p, const float* a, int64_t count, std::byte* to) {
  const int64_t part = p.rows_together * p.row_bytes(), filled = p.s.k * 2;
  for (int64_t i = 0; i < count; ++i, to += p.row_bytes()) {
    for (int64_t j = 0; j < kDotParts; ++j)
      std::memset(to + j * part + filled, 0, static_cast<size_t>(p.row_bytes() - filled));
    p.dots->split(a + i * p.s.a_row, p.s.k, part / 2, reinterpret_cast<uint16_t*>(to));
  }
}

// Some rows by some panels.
void RunUnit(const Plan& p, const KernelArgs& args, int64_t unit, const Scratch& at) {
  const ProductShape& s = p.s;
  const int64_t first = unit % p.row_blocks() * p.rows_together, share = unit / p.row_blocks();
  const int64_t count = std::min(p.rows_together, s.m - first);
  const int64_t end = p.panels() * (share + 1) / p.panel_shares;
  SplitRows(p, In<float>(args, 0) + s.a_offset[0] + first * s.a_row, count, at.rows);
  const float* residual = p.residual < 0 ? nullptr : In<float>(args, p.residual);
  DotRows dots{.rows = count,
               .blocks = p.blocks(),
               .a = at.rows,
               .a_row = p.row_bytes(),
               .a_part = p.rows_together * p.row_bytes(),
               .b_part = p.part_bytes()};
  for (int64_t panel = p.panels() * share / p.panel_shares; panel < end; panel += dots.panels) {
    const int64_t whole = std::min(end, s.n / kPanel) - panel;  // panels
    float* y = Out<float>(args, 0) + first * s.n + panel * kPanel;
    dots.panels = std::clamp<int64_t>(whole, 1, kPanelsTogether);
    dots.packed = p.packed.get() + panel * p.panel_bytes();
    dots.start = at.starts + panel * kPanel;
    dots.c = whole > 0 ? y : at.last;
    dots.c_row = whole > 0 ? s.n : kPanel;
    p.dots->multiply_parts(dots);
    const int64_t columns = std::min(dots.panels * kPanel, s.n - panel * kPanel);
    for (int64_t i = 0; whole <= 0 && i < count; ++i)
      std::copy_n(at.last + i * kPanel, columns, y + i * s.n);
    if (p.finishes())
      p.dots->finish({count, columns, s.n,
                      residual ? residual + (y - Out<float>(args, 0)) : nullptr, p.activation.low(),
                      p.activation.high(), p.activation.kind == Activation::kGelu, y});
  }
}

void Run(const Plan& p, const KernelArgs& args) {
  Scratch at;
  Carve(p, static_cast<std::byte*>(args.scratch), &at);
  FillColumnStarts(p.c_kind, In<void>(args, 2), DType::f32, p.beta, p.s.n, p.panels() * kPanel,
                   at.starts);
  const int64_t units = p.units();
  const int pieces =
      static_cast<int>(std::min<int64_t>({units, p.threads, std::max(1, args.threads.threads)}));
  args.threads.ParallelFor(pieces, [&](int i) {
    Scratch own = at;
    own.rows += i * kDotParts * p.rows_together * p.row_bytes();
    own.last += i * p.rows_together * kPanel;
    for (int64_t unit = units * i / pieces; unit < units * (i + 1) / pieces; ++unit)
      RunUnit(p, args, unit, own);
    if (p.dots->release) p.dots->release();
  });
}

struct PackedB {
  int64_t k, n, row, column, panel_bytes;

  int64_t part_bytes() const { return PanelsOf(n) * panel_bytes; }

  void Pack(const float* b, std::byte* packed) const {
    std::memset(packed, 0, static_cast<size_t>(kDotParts * part_bytes()));
    auto* to = reinterpret_cast<uint16_t*>(packed);
    for (int64_t first = 0; first < n; first += kPanel, to += panel_bytes / 2)
      for (int64_t i = 0; i < k; ++i)
        for (int64_t j = 0; j < std::min(kPanel, n - first); ++j)
          SplitInParts(b[i * row + (first + j) * column], part_bytes() / 2,
                       to + (i / 2 * kPanel + j) * 2 + i % 2);
  }
  void Unpack(const std::byte* packed, float* b) const {
    const int64_t step = part_bytes() / 4;
    const auto* from = reinterpret_cast<const uint32_t*>(packed);
    for (int64_t first = 0; first < n; first += kPanel, from += panel_bytes / 4)
      for (int64_t i = 0; i < k; i += 2) {
        const uint32_t* pairs = from + i / 2 * kPanel;
        float even[kPanel], odd[kPanel];
        for (int64_t j = 0; j < kPanel; ++j) {
          const uint32_t x = pairs[j], y = pairs[j + step], z = pairs[j + 2 * step];
          even[j] = JoinParts(x << 16, y << 16, z << 16);
          odd[j] = JoinParts(x & 0xFFFF0000, y & 0xFFFF0000, z & 0xFFFF0000);
        }
        for (int64_t j = 0; j < std::min(kPanel, n - first); ++j) {
          b[i * row + (first + j) * column] = even[j];
          if (i + 1 < k) b[(i + 1) * row + (first + j) * column] = odd[j];
        }
      }
  }
};

// Each thread takes as many row blocks; of fewer rows, some columns of all.
void ShareOut(Plan* p) {
  const int64_t room = kDotParts * p->part_bytes() <= kMostOfB ? kRowsBesideB : kRowsAlone;
  const int64_t fit = std::max(kTileRows, room / (kDotParts * p->row_bytes()));
  const auto rows_of = [&](int64_t blocks) {
    const int64_t rows = (p->s.m + blocks - 1) / blocks;
    return std::min(p->s.m, (rows + kTileRows - 1) / kTileRows * kTileRows);
  };
  const int64_t blocks = (p->s.m + fit - 1) / fit;
  p->rows_together = rows_of((blocks + p->threads - 1) / p->threads * p->threads);
  if (p->rows_together >= kLeastRows) return;
  p->rows_together = rows_of(blocks);
  p->panel_shares = std::min<int64_t>(p->threads, p->panels());
}

// `b`: the input of constants.
BindResult Make(const KernelRequest& request, size_t b, Plan p) {
  const ProductShape& s = p.s;
  const TensorDesc& constants = request.inputs[b];
  if (constants.constant == nullptr) return Unsupported("a B that is not constant");
  if (s.batches != 1 || s.b_matrices != 1) return Unsupported("several products");
  if (s.a_column != 1) return Unsupported("rows of A that do not lie in order");
  if (!p.activation.stored()) return Unsupported("an activation that is no clamp and not Gelu");
  const double work = static_cast<double>(s.m * s.n) * static_cast<double>(s.k);
  if (s.m < kLeastRows || s.n < kLeastColumns || work < kLeastProducts)
    return Unsupported("too few products");
  p.threads = static_cast<int>(
      std::clamp<double>(work / kProductsPerThread, 1, std::max(1, request.threads)));
  ShareOut(&p);
  const PackedB form{s.k, s.n, s.b_row, s.b_column, p.panel_bytes()};
  const auto* values = static_cast<const float*>(constants.constant);
  Unpack unpack;
  if (ExactInParts({values, static_cast<size_t>(s.k * s.n)}))
    unpack = [form](const std::byte* blob, void* to) {
      form.Unpack(blob, static_cast<float*>(to));
    };
  p.packed = request.packs->GetOrPack(
      constants.ConstantView(), fmt::format("parts.{}.{}.{}.{}", s.k, s.n, s.b_row, s.b_column),
      kDotParts * p.part_bytes(), [&](std::byte* blob) { form.Pack(values, blob); },
      std::move(unpack));
  Scratch none;
  const size_t scratch = Carve(p, nullptr, &none);
  return MakeKernel(fmt::format("{} in three parts, rows in place", p.dots->name),
                    [p = std::move(p)](const KernelArgs& args) { Run(p, args); }, scratch, {},
                    {static_cast<int>(b)});
}

Result<Plan> PlanOf(const KernelRequest& request) {
  const Attributes& attributes = AttributesOf(request);
  MINIM_TRY(RequireInputs(request, 0, 3, DType::f32));
  Plan p{.dots = &DotsAmx()};
  MINIM_TRY(p.s, ShapeOfProduct(request.inputs[0].dims, request.inputs[1].dims,
                                attributes.Int("transA", 0), attributes.Int("transB", 0)));
  if (attributes.Float("alpha", 1) != 1) return Unsupported("a scaled product");
  return p;
}

}  // namespace

BindResult MatMulParted(const KernelRequest& request) {
  const Attributes& attributes = AttributesOf(request);
  if (attributes.Int("transBatchA", 0) || attributes.Int("transBatchB", 0))
    return Unsupported("transposed batch axes");
  MINIM_TRY(Plan p, PlanOf(request));
  return Make(request, 1, std::move(p));
}

BindResult GemmParted(const KernelRequest& request) {
  const Attributes& attributes = AttributesOf(request);
  MINIM_TRY(Plan p, PlanOf(request));
  p.beta = attributes.Float("beta", 1);
  MINIM_TRY(p.activation, ActivationOf(attributes));
  MINIM_TRY(p.c_kind, KindOfC(request, p.s, p.beta));
  if (p.c_kind == CKind::kRow) return Unsupported("a C of one column");
  if (p.c_kind == CKind::kFull) {
    if (p.beta != 1) return Unsupported("a scaled C");
    p.residual = 2;
    p.c_kind = CKind::kNone;
  }
  return Make(request, 1, std::move(p));
}

BindResult NhwcFusedConvParted(const KernelRequest& request) {
  MINIM_TRY(RequireInputs(request, 0, 4, DType::f32));
  MINIM_TRY(RequireOutputDims(request, 3));
  const Dims& w = request.inputs[1].dims;
  MINIM_TRY(const Window window, NhwcWindowOf(request, w));
  if (!window.pointwise()) return Unsupported("filters of other than 1x1 pixels, side by side");
  Plan p{.dots = &DotsAmx(), .residual = HasInput(request, 3) ? 3 : -1};
  p.c_kind = HasInput(request, 2) ? CKind::kColumn : CKind::kNone;
  MINIM_TRY(p.activation, ActivationOf(AttributesOf(request)));
  p.s = {.m = window.batch * window.out_size(),
         .n = w[0],
         .k = w[1],
         .a_row = w[1],
         .b_row = 1,
         .b_column = w[1],
         .a_offset = {0},
         .b_offset = {0}};
  return Make(request, 1, std::move(p));
}

}  // namespace minim
