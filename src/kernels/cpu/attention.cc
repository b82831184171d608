// FusedAttention: softmax(scale Q K + mask) V by blocks of rows whose scores stay in the cache. The
// weights of a row, which meet V as they are, sum up to one only in what becomes of them. BF16 has
// its scores and sums in FP32, and rounds weights and results.
#include <algorithm>
#include <cstring>
#include <numeric>

#include "kernels/cpu/bindings.h"
#include "kernels/cpu/carver.h"
#include "kernels/cpu/dot_rows.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/nhwc_conv.h"
#include "kernels/cpu/rows.h"

namespace minim {
namespace {

constexpr int64_t kScoreBytes = 128 << 10;  // of a block, beside K and V in the L2 cache
constexpr int64_t kLeastRows = 32;          // of a block, however long they are

// A stack of matrices within a tensor: element strides, and where each one begins.
struct Matrices {
  Dims batch;
  int64_t rows = 0, columns = 0, row = 0, column = 0;
  std::vector<int64_t> offset;
};

std::vector<int64_t> PermOf(const KernelRequest& request, std::string_view side, int rank) {
  std::vector<int64_t> perm = AttributesOf(request).Ints(fmt::format("perm_{}", side));
  if (perm.empty()) {
    perm.resize(rank);
    std::iota(perm.begin(), perm.end(), 0);
  }
  return perm;
}

// Where each multi-index of `batch` lies, with these strides.
std::vector<int64_t> Offsets(const Dims& batch, const std::vector<int64_t>& strides) {
  std::vector<int64_t> offsets(static_cast<size_t>(batch.Elements()));
  for (size_t i = 0; i < offsets.size(); ++i) {
    auto rest = static_cast<int64_t>(i);
    for (int axis = batch.rank() - 1; axis >= 0; rest /= batch[axis--])
      offsets[i] += rest % batch[axis] * strides[axis];
  }
  return offsets;
}

Matrices MatricesOf(const Dims& dims, const std::vector<int64_t>& perm) {
  const int rank = dims.rank();
  std::vector<int64_t> turned, strides;
  for (const int64_t axis : perm) {
    turned.push_back(dims[static_cast<int>(axis)]);
    strides.push_back(dims.Elements(static_cast<int>(axis) + 1, rank));
  }
  Matrices m{.batch = Dims(std::span<const int64_t>(turned).first(rank - 2)),
             .rows = turned[rank - 2],
             .columns = turned[rank - 1],
             .row = strides[rank - 2],
             .column = strides[rank - 1]};
  m.offset = Offsets(m.batch, strides);
  return m;
}

// The result's perm leads from [..., T, E] to the tensor; this, back.
std::vector<int64_t> Inverse(const std::vector<int64_t>& perm) {
  std::vector<int64_t> inverse(perm.size());
  for (size_t i = 0; i < perm.size(); ++i) inverse[perm[i]] = static_cast<int64_t>(i);
  return inverse;
}

struct Plan {
  Matrices q, k, v, y, mask;  // mask.rows == 0: none; its row may be 0
  float scale = 1;
  int64_t block = 0;  // rows of one
  int threads = 1;
  const RowLevel* rows = nullptr;
  const GemmLevel* gemm = nullptr;
  const DotLevel* dots = nullptr;  // of BF16, with what packs panels for it
  const NhwcHalfLevel* halves = nullptr;

  int64_t batches() const { return static_cast<int64_t>(q.offset.size()); }
  int64_t blocks() const { return (q.rows + block - 1) / block; }
  int64_t keys() const { return k.columns; }
  int64_t score_row() const { return PanelsOf(keys()) * kPanel; }
};

int64_t BlocksOf(int64_t depth) { return (depth * 2 + kDotBlock - 1) / kDotBlock; }
int64_t PanelBytes(int64_t depth) { return BlocksOf(depth) * kDotBlock * kPanel; }

// What one thread has.
struct Scratch {
  std::byte *k = nullptr, *v = nullptr;  // packed
  float* scores = nullptr;
  float* inverses = nullptr;  // of each row's sum of weights
  // Of BF16: rows of Q and of weights as whole blocks, and the sums of the result.
  std::byte *q = nullptr, *weights = nullptr;
  float* sums = nullptr;
};

size_t Carve(const Plan& p, std::byte* base, Scratch* to) {
  Carver carver(base);
  to->scores = carver.Take<float>(p.block * p.score_row());
  to->inverses = carver.Take<float>(p.block);
  const int64_t d = p.k.rows, s = p.keys(), e = p.v.columns;
  if (p.dots == nullptr) {
    to->k = carver.Take<std::byte>(static_cast<int64_t>(PackedFloats(d, s) * sizeof(float)));
    to->v = carver.Take<std::byte>(static_cast<int64_t>(PackedFloats(s, e) * sizeof(float)));
    return carver.bytes();
  }
  to->k = carver.Take<std::byte>(PanelsOf(s) * PanelBytes(d));
  to->v = carver.Take<std::byte>(PanelsOf(e) * PanelBytes(s));
  to->q = carver.Take<std::byte>(p.block * BlocksOf(d) * kDotBlock);
  to->weights = carver.Take<std::byte>(p.block * BlocksOf(s) * kDotBlock);
  to->sums = carver.Take<float>(p.block * PanelsOf(e) * kPanel);
  return carver.bytes();
}

const float* MaskOf(const Plan& p, const KernelArgs& args, int64_t batch, int64_t row) {
  if (p.mask.rows == 0) return nullptr;
  return In<float>(args, 3) + p.mask.offset[batch] + row * p.mask.row;
}

void PackFloats(const Plan& p, const Matrices& m, const float* from, std::byte* to) {
  const GemmPack pack{from, m.row, m.column, m.rows, m.columns, p.gemm->group};
  p.gemm->pack(pack, 0, pack.groups(), reinterpret_cast<float*>(to));
}

void RunFloats(const Plan& p, const KernelArgs& args, int64_t batch, int64_t first, int64_t count,
               const Scratch& at) {
  GemmArgs gemm{.m = count,
                .n = p.keys(),
                .k = p.k.rows,
                .a = In<float>(args, 0) + p.q.offset[batch] + first * p.q.row,
                .a_row = p.q.row,
                .a_column = p.q.column,
                .packed = reinterpret_cast<const float*>(at.k),
                .group = p.gemm->group,
                .c = at.scores,
                .c_row = p.score_row()};
  p.gemm->multiply(gemm);
  for (int64_t i = 0; i < count; ++i)
    at.inverses[i] = p.rows->attend(at.scores + i * p.score_row(), p.scale,
                                    MaskOf(p, args, batch, first + i), p.keys());
  gemm.n = p.v.columns;
  gemm.k = p.keys();
  gemm.a = at.scores;
  gemm.a_row = p.score_row();
  gemm.a_column = 1;
  gemm.packed = reinterpret_cast<const float*>(at.v);
  gemm.c = Out<float>(args, 0) + p.y.offset[batch] + first * p.y.row;
  gemm.c_row = p.y.row;
  p.gemm->multiply(gemm);
  for (int64_t i = 0; i < count; ++i) {
    float* const y = gemm.c + i * p.y.row;
    p.rows->affine(y, at.inverses[i], 0, gemm.n, y);
  }
}

// Panel by panel, the depth filled up to whole blocks with zeros.
void PackHalves(const Plan& p, const Matrices& m, const BFloat16* from, std::byte* to) {
  const int64_t bytes = PanelBytes(m.rows), filled = (m.rows + 1) / 2 * kPanel * 4;
  for (int64_t first = 0; first < m.columns; first += kPanel, to += bytes) {
    p.halves->pack(
        {from + first * m.column, m.row, m.column, m.rows, std::min(kPanel, m.columns - first)},
        to);
    std::memset(to + filled, 0, static_cast<size_t>(bytes - filled));
  }
}

// Rows of whole blocks: in place, if they are such.
const std::byte* RowsOfQ(const Plan& p, const BFloat16* from, int64_t count, const Scratch& at,
                         int64_t* step) {
  const int64_t d = p.k.rows;
  *step = BlocksOf(d) * kDotBlock;
  if (d * 2 == *step) {
    *step = p.q.row * 2;
    return reinterpret_cast<const std::byte*>(from);
  }
  for (int64_t i = 0; i < count; ++i) {
    std::byte* const row = at.q + i * *step;
    std::memcpy(row, from + i * p.q.row, static_cast<size_t>(d * 2));
    std::memset(row + d * 2, 0, static_cast<size_t>(*step - d * 2));
  }
  return at.q;
}

void RunHalves(const Plan& p, const KernelArgs& args, int64_t batch, int64_t first, int64_t count,
               const Scratch& at) {
  const int64_t s = p.keys(), e = p.v.columns, weight_row = BlocksOf(s) * kDotBlock;
  DotRows dots{.rows = count,
               .panels = PanelsOf(s),
               .blocks = BlocksOf(p.k.rows),
               .packed = at.k,
               .c = at.scores,
               .c_row = p.score_row()};
  dots.a = RowsOfQ(p, In<BFloat16>(args, 0) + p.q.offset[batch] + first * p.q.row, count, at,
                   &dots.a_row);
  p.dots->multiply_bf16(dots);
  for (int64_t i = 0; i < count; ++i) {
    float* const scores = at.scores + i * p.score_row();
    std::byte* const weights = at.weights + i * weight_row;
    at.inverses[i] = p.rows->attend(scores, p.scale, MaskOf(p, args, batch, first + i), s);
    p.dots->round(scores, s, reinterpret_cast<uint16_t*>(weights));
    std::memset(weights + s * 2, 0, static_cast<size_t>(weight_row - s * 2));
  }
  dots.panels = PanelsOf(e);
  dots.blocks = BlocksOf(s);
  dots.a = at.weights;
  dots.a_row = weight_row;
  dots.packed = at.v;
  dots.c = at.sums;
  dots.c_row = PanelsOf(e) * kPanel;
  p.dots->multiply_bf16(dots);
  auto* y = Out<uint16_t>(args, 0) + p.y.offset[batch] + first * p.y.row;
  for (int64_t i = 0; i < count; ++i) {
    float* const sums = at.sums + i * dots.c_row;
    p.rows->affine(sums, at.inverses[i], 0, e, sums);
    p.dots->round(sums, e, y + i * p.y.row);
  }
}

void Run(const Plan& p, const KernelArgs& args) {
  Scratch none;
  const size_t own = Carve(p, nullptr, &none);
  const int64_t blocks = p.blocks(), units = p.batches() * blocks;
  const int pieces =
      static_cast<int>(std::min<int64_t>({units, p.threads, std::max(1, args.threads.threads)}));
  args.threads.ParallelFor(pieces, [&](int i) {
    Scratch at;
    Carve(p, static_cast<std::byte*>(args.scratch) + i * own, &at);
    int64_t packed = -1;  // of this thread's scratch, the batch
    for (int64_t unit = units * i / pieces; unit < units * (i + 1) / pieces; ++unit) {
      const int64_t batch = unit / blocks, first = unit % blocks * p.block;
      const int64_t count = std::min(p.block, p.q.rows - first);
      if (packed != batch) {
        packed = batch;
        if (p.dots) {
          PackHalves(p, p.k, In<BFloat16>(args, 1) + p.k.offset[batch], at.k);
          PackHalves(p, p.v, In<BFloat16>(args, 2) + p.v.offset[batch], at.v);
        } else {
          PackFloats(p, p.k, In<float>(args, 1) + p.k.offset[batch], at.k);
          PackFloats(p, p.v, In<float>(args, 2) + p.v.offset[batch], at.v);
        }
      }
      p.dots ? RunHalves(p, args, batch, first, count, at)
             : RunFloats(p, args, batch, first, count, at);
    }
    if (p.dots && p.dots->release) p.dots->release();
  });
}

// Broadcast over the scores; its last axis is theirs.
Status FillMask(const KernelRequest& request, Plan* p) {
  if (!HasInput(request, 3)) return {};
  MINIM_TRY(RequireInputs(request, 3, 4, DType::f32));
  const Dims& dims = request.inputs[3].dims;
  const int rank = p->q.batch.rank() + 2, lead = rank - dims.rank();
  if (lead < 0 || dims.rank() == 0 || dims[dims.rank() - 1] != p->keys())
    return Unsupported("a mask of dims {}", dims.ToString());
  std::vector<int64_t> strides(rank, 0);
  for (int axis = 0; axis < dims.rank(); ++axis) {
    const int64_t of_scores = axis + lead < rank - 2    ? p->q.batch[axis + lead]
                              : axis + lead == rank - 2 ? p->q.rows
                                                        : p->keys();
    if (dims[axis] != 1 && dims[axis] != of_scores)
      return Unsupported("a mask of dims {}", dims.ToString());
    if (dims[axis] != 1) strides[axis + lead] = dims.Elements(axis + 1, dims.rank());
  }
  p->mask.rows = 1;
  p->mask.row = strides[rank - 2];
  p->mask.offset = Offsets(p->q.batch, strides);
  return {};
}

// `dtype`: of the operands; `products_per_thread`: multiply-adds worth waking one for.
BindResult Bind(const KernelRequest& request, DType dtype, double products_per_thread, Plan p) {
  MINIM_TRY(RequireInputs(request, 0, 3, dtype));
  const int rank = request.inputs[0].dims.rank();
  for (size_t i = 0; i < 3; ++i)
    if (request.inputs[i].dims.rank() != rank) return Unsupported("operands of other ranks");
  p.q = MatricesOf(request.inputs[0].dims, PermOf(request, "q", rank));
  p.k = MatricesOf(request.inputs[1].dims, PermOf(request, "k", rank));
  p.v = MatricesOf(request.inputs[2].dims, PermOf(request, "v", rank));
  p.y = MatricesOf(request.outputs[0].dims, Inverse(PermOf(request, "y", rank)));
  if (p.k.batch != p.q.batch || p.v.batch != p.q.batch) return Unsupported("broadcast operands");
  if (p.y.column != 1 || (p.dots && p.q.column != 1))
    return Unsupported("rows that do not lie in order");
  p.scale = AttributesOf(request).Float("scale", 1);
  MINIM_TRY(FillMask(request, &p));
  const int64_t row_bytes = std::max<int64_t>(1, p.score_row()) * 4;
  p.block = std::clamp<int64_t>(kScoreBytes / row_bytes / kLeastRows * kLeastRows, kLeastRows,
                                std::max(kLeastRows, p.q.rows));
  const double work = static_cast<double>(p.batches() * p.q.rows * p.keys()) *
                      static_cast<double>(p.k.rows + p.v.columns);
  p.threads = static_cast<int>(
      std::clamp<double>(work / products_per_thread, 1, std::max(1, request.threads)));
  Scratch none;
  const size_t scratch = Carve(p, nullptr, &none) * static_cast<size_t>(p.threads);
  return MakeKernel(
      fmt::format("attention {}, {} rows together", p.dots ? p.dots->name : p.gemm->name,
                  std::min(p.block, p.q.rows)),
      [p = std::move(p)](const KernelArgs& args) { Run(p, args); }, scratch);
}

BindResult BindFloats(const KernelRequest& request, const GemmLevel& gemm, const RowLevel& rows) {
  return Bind(request, DType::f32, 500e3, {.rows = &rows, .gemm = &gemm});
}
BindResult BindHalves(const KernelRequest& request, const DotLevel& dots,
                      const NhwcHalfLevel& halves) {
  return Bind(request, DType::bf16, halves.products_per_thread,
              {.rows = &RowsAvx512(), .dots = &dots, .halves = &halves});
}

}  // namespace

BindResult AttentionAmx(const KernelRequest& r) { return BindHalves(r, DotsAmx(), NhwcHalfAmx()); }
BindResult AttentionBf16(const KernelRequest& r) {
  return BindHalves(r, DotsBf16(), NhwcHalfBf16());
}
BindResult AttentionAvx512(const KernelRequest& r) {
  return BindFloats(r, GemmAvx512(), RowsAvx512());
}
BindResult AttentionAvx2(const KernelRequest& r) { return BindFloats(r, GemmAvx2(), RowsAvx2()); }
BindResult AttentionPortable(const KernelRequest& r) {
  return BindFloats(r, GemmPortable(), RowsPortable());
}

}  // namespace minim
