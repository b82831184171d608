// com.microsoft's MatMulNBits: A times weights of 2, 4 or 8 bits in blocks along K. B is
// u8[N,blocks,bytes], the lowest bits first; scales [N,blocks]; zero points packed the same way,
// one a block, or in A's dtype [N,blocks].
#include "ops/builder.h"
#include "ops/infer.h"

namespace minim::ops {
namespace {

enum Input { kA, kB, kScales, kZeros, kGroups, kBias };

struct Packing {
  int64_t n, k, bits, block;

  explicit Packing(const Attributes& a)
      : n(a.Int("N", 0)), k(a.Int("K", 0)), bits(a.Int("bits", 4)), block(a.Int("block_size", 0)) {}
  int64_t Blocks() const { return (k + block - 1) / block; }
  int64_t Parts() const { return 8 / bits; }
};

Status Infer(InferContext& op) {
  const Packing p(op.attributes());
  if (p.bits != 2 && p.bits != 4 && p.bits != 8)
    return op.Error("bits is {}, expected 2, 4 or 8", p.bits);
  if (p.n < 1 || p.k < 1 || p.block < 16 || p.block > 65536 || p.block % p.Parts() != 0)
    return op.Error("N, K and block_size are {}, {} and {}", p.n, p.k, p.block);
  if (op.dtype(kB) != DType::u8) return op.Error("B is {}, expected u8", Name(op.dtype(kB)));
  for (int i : {kB, kScales}) {
    const int64_t count = p.n * p.Blocks() * (i == kB ? p.block / p.Parts() : 1);
    const auto elements = op.input(i).ranked() ? ElementsOf(*op.input(i).shape) : std::nullopt;
    if (elements && *elements != count)
      return op.Error("input {} has {} elements, expected {}", i, *elements, count);
  }
  const TensorType& a = op.input(kA);
  if (!a.ranked()) return op.SetUnknown(0, a.dtype);
  if (a.rank() < 1 || !a.shape->back().Compatible(Dim(p.k)))
    return op.Error("A has shape {} for K = {}", ToString(*a.shape), p.k);
  Shape shape = *a.shape;
  shape.back() = Dim(p.n);
  return op.SetOutput(0, a.dtype, std::move(shape));
}

// The numbers of `bits` in the bytes [N,..], as [N, count] in u8, the first `count` of each row.
ValueId Unpacked(Builder& b, ValueId bytes, const Packing& p, int64_t count) {
  const int64_t per_row = b.DimsOf(bytes).Elements() / p.n;
  const ValueId flat = b.Reshape(bytes, Dims({p.n, per_row, 1}));
  std::vector<ValueId> parts;
  for (int64_t shift = 0; shift < 8; shift += p.bits) {
    ValueId part = flat;
    if (shift > 0)
      part = b.Emit("BitShift", {part, b.Scalar(static_cast<double>(shift), DType::u8)},
                    {{"direction", std::string("RIGHT")}});
    if (shift + p.bits < 8) {
      const double mask = static_cast<double>((1 << p.bits) - 1);
      part = b.Emit("BitwiseAnd", {part, b.Scalar(mask, DType::u8)});
    }
    parts.push_back(part);
  }
  const ValueId joined = parts.size() == 1 ? flat : b.Emit("Concat", parts, {{"axis", int64_t{2}}});
  const int64_t total = per_row * p.Parts();
  const ValueId rows = b.Reshape(joined, Dims({p.n, total}));
  return total == count ? rows : b.Slice(rows, {0}, {count}, {1});
}

// [N,blocks,1], or the middle of the range where there are none.
ValueId Zeros(ExpandContext& e, const Packing& p, DType dtype) {
  if (!e.has_input(kZeros)) return e.Scalar(static_cast<double>(1 << (p.bits - 1)), dtype);
  const ValueId given = e.input(kZeros);
  const bool packed = e.dtype(given) == DType::u8;
  const ValueId zeros = packed ? Unpacked(e, given, p, p.Blocks()) : given;
  return e.Reshape(e.Cast(zeros, dtype), Dims({p.n, p.Blocks(), 1}));
}

Status Expand(ExpandContext& e) {
  for (int i : {kB, kScales, kZeros})
    if (e.has_input(i) && !e.type(e.input(i)).Static())
      return Unsupported("MatMulNBits '{}': input {} has type {}, expected a static shape",
                         e.node().name, i, e.type(e.input(i)).ToString());
  if (e.has_input(kGroups) || e.attributes().Int("weight_prepacked", 0) != 0)
    return Unsupported("MatMulNBits '{}': group indices and prepacked weights are not supported",
                       e.node().name);
  const Packing p(e.attributes());
  const DType dtype = e.dtype(e.input(kA));
  const int64_t padded = p.Blocks() * p.block;
  const Dims blocks({p.n, p.Blocks(), p.block});
  const ValueId whole = e.Reshape(e.Cast(Unpacked(e, e.input(kB), p, padded), dtype), blocks);
  const ValueId scales = e.Reshape(e.Cast(e.input(kScales), dtype), Dims({p.n, p.Blocks(), 1}));
  ValueId weights = e.Mul(e.Sub(whole, Zeros(e, p, dtype)), scales);
  weights = e.Slice(e.Reshape(weights, Dims({p.n, padded})), {0}, {p.k}, {1});
  const ValueId y = e.Emit("MatMul", {e.input(kA), e.Transpose(weights, {1, 0})});
  e.SetOutput(0, e.has_input(kBias) ? e.Add(y, e.input(kBias)) : y);
  return {};
}

}  // namespace

// The weights unfold to A's dtype when constants are folded: right answers, not small ones.
OpDef MatMulNBits() {
  return {.name = "MatMulNBits",
          .domain = std::string(kMicrosoftDomain),
          .onnx_since = {1},
          .min_inputs = 3,
          .max_inputs = 6,
          .dtypes = kFloatTypes,
          .infer = Infer,
          .expand = Expand,
          .precision = PrecisionClass::kLower,
          .samples =
              "MatMulNBits(a: f32[2,20], b: u8[3,2,8] = index(256), s: f32[3,2], _, _, c: f32[3]) "
              "{N=3, K=20, bits=4, block_size=16, accuracy_level=0}\n"
              "MatMulNBits(a: f16[2,3,32], b: u8[2,2,16] = index(256), s: f16[2,2], "
              "z: u8[2,2] = index(256)) {N=2, K=32, bits=8, block_size=16}\n"
              "MatMulNBits(a: f32[1,48], b: u8[2,3,4] = index(256), s: f32[6], "
              "z: u8[2,1] = index(64)) {N=2, K=48, bits=2, block_size=16}\n"
              "MatMulNBits(a: f32[1,16], b: u8[2,1,8] = index(256), s: f32[2,1], z: f32[2,1]) "
              "{N=2, K=16, bits=4, block_size=16, weight_prepacked=0}\n"};
}

}  // namespace minim::ops
