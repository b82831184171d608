// MatMulInteger, QLinearMatMul, QGemm and RowQuantizedMatMul over the exact integer product.
#include <algorithm>
#include <optional>

#include "core/requantize.h"
#include "kernels/cpu/bindings.h"
#include "kernels/cpu/carver.h"
#include "kernels/cpu/int_gemm.h"
#include "kernels/cpu/nhwc_int_conv.h"
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
  const NhwcIntLevel* row_level = nullptr;  // of `rows`, or none
  Result8 result = Result8::kSums;
  IntForm form = IntForm::kPairs;
  DType a_dtype = DType::u8, b_dtype = DType::i8, y_dtype = DType::i32, zero_dtype = DType::u8;
  int64_t a_zeros = 0, b_zeros = 0, b_scales = 0, bias_count = 0;
  float alpha = 1;
  bool float_bias = false;
  std::shared_ptr<const std::byte> packed;  // per matrix as PackB has it, when constant; or ...
  /// ... where rows of A are read in place, as the pixels of a convolution with the channels last:
  /// its filters, then the sum of each column.
  std::optional<NhwcCuts> rows;
  int row_threads = 1;

  int64_t depth() const { return WordsOf(form, s.k); }
  int64_t columns() const { return PanelsOf(s.n) * kPanel; }
  size_t matrix_bytes() const { return PackedBBytes(form, s.k, s.n) + columns() * sizeof(int32_t); }
  /// Rows of A are put together before they are placed.
  bool gathers() const { return result == Result8::kRowFloat || s.a_column != 1; }
  /// An integer bias per column, or one for all, is where the sums start.
  bool starts_with_bias() const { return !float_bias && (bias_count == 1 || bias_count == s.n); }
};

struct Scratch {
  std::byte *a, *packed, *stages;
  uint8_t* bytes;  // rows of A ...
  int16_t* pairs;  // ... as they are placed
  int32_t *sums, *row_start, *column_start;
  float *scales, *row_scales;
};

size_t Carve(const Plan& p, std::byte* base, Scratch* to, int threads) {
  Carver carver(base);
  to->column_start = carver.Take<int32_t>(p.columns());
  to->scales = carver.Take<float>(p.columns());
  if (p.rows) {
    to->stages =
        carver.Take<std::byte>(static_cast<int64_t>(AlignUp(p.rows->stage_bytes())) * threads);
    return carver.bytes();
  }
  to->a = carver.Take<std::byte>(PackedABytes(*p.level, p.form, p.s.m, p.s.k));
  to->packed = carver.Take<std::byte>(p.packed ? 0 : p.matrix_bytes());
  to->bytes = carver.Take<uint8_t>(p.gathers() ? p.s.m * p.s.k : 0);
  to->pairs = carver.Take<int16_t>(p.form == IntForm::kPairs ? p.s.m * p.depth() * 2 : 0);
  to->sums = carver.Take<int32_t>(p.result == Result8::kSums ? 0 : p.s.m * p.s.n);
  to->row_start = carver.Take<int32_t>(p.s.m);
  to->row_scales = carver.Take<float>(p.s.m);
  return carver.bytes();
}

float ScaleAt(const KernelArgs& args, int role, int64_t i) { return In<float>(args, role)[i]; }
int32_t ZeroOfA(const Plan& p, const KernelArgs& args, int64_t row) {
  const void* zeros = In<std::byte>(args, p.roles.a_zero);
  return ZeroPoints{zeros, p.a_dtype, p.a_zeros}.At(row);
}

/// Panels of one matrix, bytes flipped as the level wants them, then the sum of each column less
/// its zero points.
void PackB(const Plan& p, const void* b, const ZeroPoints& zeros, int64_t first, int64_t last,
           std::byte* packed) {
  const ProductShape& s = p.s;
  PackIntB(p.form, b, p.b_dtype, s.b_row, s.b_column, s.k, s.n, zeros, first, last, packed);
  if (p.form != IntForm::kBytes) return;
  auto* sums = reinterpret_cast<int32_t*>(packed + PackedBBytes(p.form, s.k, s.n));
  const auto flip = static_cast<int8_t>(p.level->flip_of_b());
  for (int64_t panel = first; panel < last; ++panel) {
    const int64_t bytes = p.depth() * kPanel * 4;
    auto* words = reinterpret_cast<int8_t*>(packed) + panel * bytes;
    std::fill_n(sums + panel * kPanel, kPanel, 0);
    for (int64_t i = 0; i < bytes; ++i) sums[panel * kPanel + i / 4 % kPanel] += words[i];
    for (int64_t i = 0; i < bytes; ++i) words[i] = static_cast<int8_t>(words[i] ^ flip);
  }
}

// One row of A as pairs less the zero point.
void FillPairs(const Plan& p, const uint8_t* src, DType dtype, int32_t zero, int16_t* pairs) {
  for (int64_t k = 0; k < p.s.k; ++k) {
    const int32_t x = dtype == DType::u8 ? src[k] : static_cast<int8_t>(src[k]);
    pairs[k] = static_cast<int16_t>(x - zero);
  }
  if (p.s.k % 2) pairs[p.s.k] = 0;
}

// A of one batch, packed; RowQuantizedMatMul rounds here, row by row.
void PrepareA(const Plan& p, const KernelArgs& args, int64_t batch, const Scratch& to) {
  const ProductShape& s = p.s;
  const bool rounds = p.result == Result8::kRowFloat;
  const DType dtype = rounds ? DType::i8 : p.a_dtype;
  const auto place = [&](int64_t i) {
    const uint8_t* src = to.bytes + i * s.k;
    if (rounds) {
      to.row_scales[i] = p.level->quantize_row(In<float>(args, 0) + s.a_offset[batch] + i * s.k,
                                               s.k, reinterpret_cast<int8_t*>(to.bytes) + i * s.k);
    } else {
      const uint8_t* a = In<uint8_t>(args, p.roles.a) + s.a_offset[batch] + i * s.a_row;
      for (int64_t k = 0; p.gathers() && k < s.k; ++k) to.bytes[i * s.k + k] = a[k * s.a_column];
      if (!p.gathers()) src = a;
    }
    if (p.form == IntForm::kBytes) {
      to.row_start[i] = PlaceBytes(*p.level, src, FlipOf(dtype), s.k, i, s.m, to.a);
    } else {
      int16_t* pairs = to.pairs + i * p.depth() * 2;
      FillPairs(p, src, dtype, rounds ? 0 : ZeroOfA(p, args, i), pairs);
      PlacePairs(pairs, p.depth(), i, s.m, to.a);
      to.row_start[i] = 0;
    }
  };
  args.threads.ParallelRange(s.m, 65536 / std::max<int64_t>(1, s.k) + 1,
                             [&](int64_t first, int64_t last) {
                               for (int64_t i = first; i < last; ++i) place(i);
                             });
}

const std::byte* PackedB(const Plan& p, const KernelArgs& args, int64_t batch, std::byte* scratch) {
  const ProductShape& s = p.s;
  if (p.packed) {
    const int64_t matrix = s.b_offset[batch] / std::max<int64_t>(1, s.k * s.n);
    return p.packed.get() + matrix * p.matrix_bytes();
  }
  const void* zeros = In<std::byte>(args, p.roles.b_zero);
  args.threads.ParallelRange(PanelsOf(s.n), 16, [&](int64_t first, int64_t last) {
    PackB(p, In<std::byte>(args, p.roles.b) + s.b_offset[batch], {zeros, p.b_dtype, p.b_zeros},
          first, last, scratch);
  });
  return scratch;
}

// What a column's sums start from: the bias, and what A's zero point takes off signed bytes.
void StartColumns(const Plan& p, const KernelArgs& args, const std::byte* packed,
                  int32_t* column_start) {
  std::fill_n(column_start, p.columns(), 0);
  const auto add = [&](int64_t column, int32_t value, int32_t factor) {
    column_start[column] =
        static_cast<int32_t>(static_cast<uint32_t>(column_start[column]) +
                             static_cast<uint32_t>(value) * static_cast<uint32_t>(factor));
  };
  for (int64_t j = 0; p.starts_with_bias() && j < p.s.n; ++j)
    add(j, In<int32_t>(args, p.roles.bias)[p.bias_count == 1 ? 0 : j], 1);
  if (p.form != IntForm::kBytes || p.result == Result8::kRowFloat) return;
  const int32_t zero = ZeroOfA(p, args, 0) - MiddleOf(p.a_dtype);
  const auto* sums = reinterpret_cast<const int32_t*>(packed + PackedBBytes(p.form, p.s.k, p.s.n));
  for (int64_t j = 0; zero != 0 && j < p.s.n; ++j) add(j, sums[j], -zero);
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

// A bias of its own for every sum.
void AddBias(const int32_t* bias, int64_t n, int32_t* sums) {
  for (int64_t j = 0; j < n; ++j)
    sums[j] = static_cast<int32_t>(static_cast<uint32_t>(sums[j]) + static_cast<uint32_t>(bias[j]));
}

void FinishRows(const Plan& p, const KernelArgs& args, int64_t batch, const Scratch& scratch) {
  const ProductShape& s = p.s;
  RequantizeRow columns{scratch.scales, p.b_scales > 1, 0};
  columns.zero_point = ZeroPoints{In<std::byte>(args, p.roles.y_zero), p.zero_dtype, 1}.At(0);
  const bool bias_of_sums =
      In<std::byte>(args, p.roles.bias) != nullptr && !p.float_bias && !p.starts_with_bias();
  const float* bias = p.float_bias ? In<float>(args, p.roles.bias) : nullptr;
  args.threads.ParallelRange(
      s.m, 16384 / std::max<int64_t>(1, s.n) + 1, [&](int64_t first, int64_t last) {
        for (int64_t i = first; i < last; ++i) {
          int32_t* row = scratch.sums + i * s.n;
          if (bias_of_sums) AddBias(In<int32_t>(args, p.roles.bias) + i * s.n, s.n, row);
          const int64_t at = (batch * s.m + i) * s.n;
          if (p.result == Result8::kRowFloat) {
            p.level->dequantize_sums(row, scratch.row_scales[i], columns, bias, s.n,
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

int64_t RowFilterBytes(const Plan& p) { return p.rows->filled() * p.rows->depth(); }

void RunRows(const Plan& p, const KernelArgs& args) {
  const NhwcCuts& rows = *p.rows;
  Scratch to;
  Carve(p, static_cast<std::byte*>(args.scratch), &to, std::max(1, args.threads.threads));
  FillScales(p, args, to.scales);
  if (p.b_scales <= 1) std::fill_n(to.scales + 1, p.s.n - 1, to.scales[0]);
  std::fill(to.scales + p.s.n, to.scales + p.columns(), 0.0f);
  std::fill_n(to.column_start, p.columns(), 0);
  const auto* sums = reinterpret_cast<const int32_t*>(p.packed.get() + RowFilterBytes(p));
  const auto zero = static_cast<uint32_t>(ZeroOfA(p, args, 0));
  const auto* ints = p.float_bias ? nullptr : In<int32_t>(args, p.roles.bias);
  for (int64_t j = 0; j < p.s.n; ++j) {
    const int32_t start = ints ? ints[p.bias_count == 1 ? 0 : j] : 0;
    to.column_start[j] =
        static_cast<int32_t>(static_cast<uint32_t>(start) - zero * static_cast<uint32_t>(sums[j]));
  }
  const bool quantized = p.result == Result8::kQuantized;
  const float* bias = p.float_bias ? In<float>(args, p.roles.bias) : nullptr;
  const int32_t y_zero = ZeroPoints{In<std::byte>(args, p.roles.y_zero), p.zero_dtype, 1}.At(0);
  rows.ForEachPiece({args.threads.pool, std::min(args.threads.threads, p.row_threads)},
                    args.inputs[p.roles.a], 0, to.stages, [&](const NhwcPiece& piece, int) {
                      rows.ForEachRun(
                          piece, p.packed.get(), args.outputs[0], quantized ? 1 : 4,
                          [&](const NhwcRun& run, int64_t count, int64_t column) {
                            const int32_t* starts = to.column_start + column;
                            const float* scales = to.scales + column;
                            if (quantized)
                              p.row_level->to_bytes(
                                  {run, starts, scales, p.y_dtype == DType::i8, y_zero}, count);
                            else
                              p.row_level->to_floats(
                                  {run, starts, scales, bias ? bias + column : nullptr}, count);
                          });
                    });
}

void Run(const Plan& p, const KernelArgs& args) {
  if (p.rows) return RunRows(p, args);
  const ProductShape& s = p.s;
  Scratch scratch;
  Carve(p, static_cast<std::byte*>(args.scratch), &scratch, 1);
  if (p.result != Result8::kSums) FillScales(p, args, scratch.scales);
  for (int64_t batch = 0; batch < s.batches; ++batch) {
    PrepareA(p, args, batch, scratch);
    const std::byte* packed = PackedB(p, args, batch, scratch.packed);
    StartColumns(p, args, packed, scratch.column_start);
    const bool direct = p.result == Result8::kSums;
    ParallelIntGemm(*p.level, p.form,
                    {.m = s.m,
                     .n = s.n,
                     .depth = p.depth(),
                     .a = scratch.a,
                     .packed = packed,
                     .row_start = scratch.row_start,
                     .column_start = scratch.column_start,
                     .c = direct ? Out<int32_t>(args, 0) + batch * s.m * s.n : scratch.sums,
                     .c_row = s.n},
                    args.threads);
    if (!direct) FinishRows(p, args, batch, scratch);
  }
}

Status CheckParts(const KernelRequest& request, const Plan& p) {
  if (p.result != Result8::kRowFloat && !IsByte(p.a_dtype))
    return Unsupported("A is {}", Name(p.a_dtype));
  if (!IsByte(p.b_dtype)) return Unsupported("B is {}", Name(p.b_dtype));
  const auto fits = [](int64_t count, int64_t n) { return count <= 1 || count == n; };
  if (!fits(p.a_zeros, p.s.m)) return Unsupported("{} zero points for {} rows", p.a_zeros, p.s.m);
  if (!fits(p.b_zeros, p.s.n) || !fits(p.b_scales, p.s.n))
    return Unsupported("per-column parameters do not match {} columns", p.s.n);
  if (ElementsOf(request, p.roles.a_scale) > 1 || ElementsOf(request, p.roles.y_scale) > 1)
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

// B's zero points, if they are known at binding.
std::optional<ZeroPoints> KnownZerosOfB(const KernelRequest& request, const Plan& p) {
  const TensorDesc* zero = p.b_zeros ? &request.inputs[p.roles.b_zero] : nullptr;
  if (zero && zero->constant == nullptr) return std::nullopt;
  return ZeroPoints{zero ? zero->constant : nullptr, p.b_dtype, p.b_zeros};
}

constexpr int64_t kLeastRows = 8;  // fewer do not fill a tile
// Of rows that stay in the L2 cache while floats, four times their bytes and more, pass through it.
constexpr int64_t kFloatStepBytes = 192 << 10;

// Rows of unsigned bytes, one after the other, by constant signed ones.
void FillRows(const KernelRequest& request, Plan* p) {
  const ProductShape& s = p->s;
  const TensorDesc& b = request.inputs[p->roles.b];
  const std::optional<ZeroPoints> zeros = KnownZerosOfB(request, *p);
  if (!zeros) return;
  const bool bytes = p->result == Result8::kQuantized || p->result == Result8::kFloat;
  if (!bytes || p->row_level == nullptr || p->a_dtype != DType::u8 || p->b_dtype != DType::i8 ||
      !AreMiddle(*zeros) || p->a_zeros > 1 || b.constant == nullptr || s.batches != 1 ||
      s.b_matrices != 1 || s.a_column != 1 || s.a_row != s.k || s.k == 0 || s.m < kLeastRows ||
      s.n == 0 || (p->bias_count > 0 && !p->float_bias && !p->starts_with_bias()))
    return;
  const Window w{.channels = s.k, .in = {1, 1, s.m}, .out = {1, 1, s.m}};
  const auto words = static_cast<double>(s.m * s.n) * static_cast<double>(QuadsOf(s.k));
  p->row_threads = static_cast<int>(
      std::clamp<double>(words / p->row_level->quads_per_thread, 1, std::max(1, request.threads)));
  const bool floats = p->result == Result8::kFloat;
  const NhwcStep step = floats ? NhwcStep{kFloatStepBytes} : NhwcStepOf(w, s.n, 1, s.n);
  auto cuts = NhwcCutsOf(w, s.n, 1, step, p->row_threads);
  if (!cuts.ok()) return;
  p->rows = *std::move(cuts);
  p->rows->joins_lines = p->row_level->joins_lines;
  p->rows->release = p->row_level->release;
  const auto form = NhwcFilters::Columns(*p->rows, 1, s.b_row, s.b_column);
  p->packed = request.packs->GetOrPack(
      b.ConstantView(), fmt::format("rows.{}.{}.{}.{}", s.k, s.n, s.b_row, s.b_column),
      RowFilterBytes(*p) + s.n * static_cast<int64_t>(sizeof(int32_t)),
      [&](std::byte* blob) {
        form.Pack(b.constant, blob);
        const auto* from = static_cast<const int8_t*>(b.constant);
        auto* sums = reinterpret_cast<int32_t*>(blob + RowFilterBytes(*p));
        for (int64_t j = 0; j < s.n; ++j) {
          sums[j] = 0;
          for (int64_t k = 0; k < s.k; ++k) sums[j] += from[k * s.b_row + j * s.b_column];
        }
      },
      [form](const std::byte* blob, void* to) { form.Unpack(blob, to); });
}

void PackWeights(const KernelRequest& request, Plan* p) {
  const ProductShape& s = p->s;
  const TensorDesc& b = request.inputs[p->roles.b];
  const std::optional<ZeroPoints> zeros = KnownZerosOfB(request, *p);
  if (!zeros) return;
  if (AreMiddle(*zeros) && p->a_zeros <= 1) p->form = IntForm::kBytes;
  if (b.constant == nullptr) return;
  std::string key = fmt::format("int{}.{}.{}.{}.{}.{}", PerWord(p->form),
                                p->form == IntForm::kBytes ? p->level->flip_of_b() : 0, s.k, s.n,
                                s.b_row, s.b_column);
  for (int64_t i = 0; i < p->b_zeros; ++i) key += fmt::format(".{}", zeros->At(i));
  p->packed = request.packs->GetOrPack(
      b.ConstantView(), key, s.b_matrices * p->matrix_bytes(), [&](std::byte* bytes) {
        for (int64_t i = 0; i < s.b_matrices; ++i)
          PackB(*p, static_cast<const std::byte*>(b.constant) + i * s.k * s.n, *zeros, 0,
                PanelsOf(s.n), bytes + i * p->matrix_bytes());
      });
}

BindResult Bind(const KernelRequest& request, const IntLevel& level, const Roles& roles,
                Result8 result, const NhwcIntLevel* row_level = nullptr) {
  const Attributes& attributes = AttributesOf(request);
  Plan p{.roles = roles, .level = &level, .row_level = row_level, .result = result};
  if (HasInput(request, roles.b) == false) return Unsupported("B is absent");
  MINIM_TRY(p.s, ShapeOfProduct(request.inputs[roles.a].dims, request.inputs[roles.b].dims,
                                attributes.Int("transA", 0), attributes.Int("transB", 0)));
  p.a_dtype = request.inputs[roles.a].dtype;
  p.b_dtype = request.inputs[roles.b].dtype;
  p.y_dtype = request.outputs[0].dtype;
  p.a_zeros = ElementsOf(request, roles.a_zero);
  p.b_zeros = ElementsOf(request, roles.b_zero);
  p.b_scales = ElementsOf(request, roles.b_scale);
  p.bias_count = ElementsOf(request, roles.bias);
  p.float_bias = p.bias_count > 0 && request.inputs[roles.bias].dtype == DType::f32;
  if (ElementsOf(request, roles.y_zero)) p.zero_dtype = request.inputs[roles.y_zero].dtype;
  if (request.op == "QGemm") p.alpha = attributes.Float("alpha", 1);
  MINIM_TRY(CheckParts(request, p));
  if (p.a_zeros > 1 && p.s.a_offset.size() > 1 && p.s.batches == 1)
    return Unsupported("zero points per row of folded batches");
  FillRows(request, &p);
  if (!p.rows) PackWeights(request, &p);
  Scratch none;
  const size_t scratch = Carve(p, nullptr, &none, std::max(1, request.threads));
  const int packed = p.packed ? roles.b : -1;
  return MakeKernel(
      p.rows ? fmt::format("int8 gemm {}, rows in place", p.row_level->name)
             : fmt::format("int8 gemm {} {}, {}", level.name, level.tile, Name(p.form)),
      [p = std::move(p)](const KernelArgs& args) { Run(p, args); }, scratch, {}, {packed});
}

BindResult BindQGemm(const KernelRequest& request, const IntLevel& level,
                     const NhwcIntLevel* row_level = nullptr) {
  return Bind(request, level, kQGemm, HasInput(request, 7) ? Result8::kQuantized : Result8::kFloat,
              row_level);
}

}  // namespace

BindResult MatMulIntegerAvx2(const KernelRequest& r) {
  return Bind(r, IntAvx2(), kMatMulInteger, Result8::kSums);
}
BindResult MatMulIntegerVnni(const KernelRequest& r) {
  return Bind(r, IntVnni(), kMatMulInteger, Result8::kSums);
}
BindResult MatMulIntegerPortable(const KernelRequest& r) {
  return Bind(r, IntPortable(), kMatMulInteger, Result8::kSums);
}
BindResult QLinearMatMulAvx2(const KernelRequest& r) {
  return Bind(r, IntAvx2(), kQLinearMatMul, Result8::kQuantized);
}
BindResult QLinearMatMulVnni(const KernelRequest& r) {
  return Bind(r, IntVnni(), kQLinearMatMul, Result8::kQuantized, &NhwcIntVnni());
}
BindResult QLinearMatMulAmx(const KernelRequest& r) {
  return Bind(r, IntVnni(), kQLinearMatMul, Result8::kQuantized, &NhwcIntAmx());
}
BindResult QLinearMatMulPortable(const KernelRequest& r) {
  return Bind(r, IntPortable(), kQLinearMatMul, Result8::kQuantized);
}
BindResult QGemmAvx2(const KernelRequest& r) { return BindQGemm(r, IntAvx2()); }
BindResult QGemmVnni(const KernelRequest& r) { return BindQGemm(r, IntVnni(), &NhwcIntVnni()); }
BindResult QGemmAmx(const KernelRequest& r) { return BindQGemm(r, IntVnni(), &NhwcIntAmx()); }
BindResult QGemmPortable(const KernelRequest& r) { return BindQGemm(r, IntPortable()); }
BindResult MatMulIntegerToFloatAvx2(const KernelRequest& r) {
  return Bind(r, IntAvx2(), kIntegerToFloat, Result8::kFloat);
}
BindResult MatMulIntegerToFloatVnni(const KernelRequest& r) {
  return Bind(r, IntVnni(), kIntegerToFloat, Result8::kFloat, &NhwcIntVnni());
}
BindResult MatMulIntegerToFloatAmx(const KernelRequest& r) {
  return Bind(r, IntVnni(), kIntegerToFloat, Result8::kFloat, &NhwcIntAmx());
}
BindResult MatMulIntegerToFloatPortable(const KernelRequest& r) {
  return Bind(r, IntPortable(), kIntegerToFloat, Result8::kFloat);
}
BindResult RowQuantizedMatMulAvx2(const KernelRequest& r) {
  return Bind(r, IntAvx2(), kRowQuantized, Result8::kRowFloat);
}
BindResult RowQuantizedMatMulVnni(const KernelRequest& r) {
  return Bind(r, IntVnni(), kRowQuantized, Result8::kRowFloat);
}
BindResult RowQuantizedMatMulPortable(const KernelRequest& r) {
  return Bind(r, IntPortable(), kRowQuantized, Result8::kRowFloat);
}

}  // namespace minim
