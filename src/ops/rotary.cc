// RotaryEmbedding: ONNX's, and com.microsoft's, which takes the positions first.
#include "ops/attention.h"
#include "ops/infer.h"

namespace minim::ops {
namespace {

// Which inputs hold what.
struct Places {
  int cos, sin, positions;
};
constexpr Places kOnnx = {1, 2, 3};
constexpr Places kMicrosoft = {2, 3, 1};

// x[..,D] split into its even and odd elements (or halves) of the first `count`.
std::pair<ValueId, ValueId> Coordinates(Builder& b, ValueId x, int64_t count, bool interleaved) {
  const int64_t last = b.DimsOf(x).rank() - 1;
  if (!interleaved)
    return {b.Slice(x, {0}, {count / 2}, {last}), b.Slice(x, {count / 2}, {count}, {last})};
  const auto every_second = [&](int64_t from) {
    return b.Emit("Slice", {x, b.Ints({from}), b.Ints({count}), b.Ints({last}), b.Ints({2})});
  };
  return {every_second(0), every_second(1)};
}

ValueId Joined(Builder& b, ValueId first, ValueId second, bool interleaved) {
  Dims whole = b.DimsOf(first), pairs = b.DimsOf(first);
  const int last = whole.rank() - 1;
  if (!interleaved) return b.Emit("Concat", {first, second}, {{"axis", int64_t{last}}});
  whole[last] *= 2;
  if (pairs.rank() < kMaxRank) pairs.push_back(1);
  const ValueId both = b.Emit("Concat", {b.Reshape(first, pairs), b.Reshape(second, pairs)},
                              {{"axis", int64_t{last + 1}}});
  return b.Reshape(both, whole);
}

// The rows of a cache [P,D/2] at the positions, as [B or 1,1,S,D/2] below the heads. Without
// positions the cache is [B,S,D/2] already. A lone position is that of the first row.
ValueId CacheRows(ExpandContext& e, ValueId cache, ValueId positions, int64_t length) {
  if (positions != kNoValue) {
    if (e.DimsOf(positions).Elements() == 1 && e.rank(positions) == 1) {
      Tensor steps(DType::i64, Dims({1, length}));
      for (int64_t i = 0; i < length; ++i) steps.as<int64_t>()[i] = i;
      positions = e.Add(e.Constant(std::move(steps)), e.Cast(positions, DType::i64));
    }
    cache = e.Emit("Gather", {cache, positions});
  }
  const Dims dims = e.DimsOf(cache);
  return e.Reshape(cache, Dims({dims[0], 1, dims[1], dims[2]}));
}

Status CheckRotary(InferContext& op, const Places& at) {
  const TensorType& x = op.input(0);
  if (!x.ranked()) return {};
  if (x.rank() != 3 && x.rank() != 4)
    return op.Error("input has shape {}, expected rank 3 or 4", ToString(*x.shape));
  const int64_t count = op.attributes().Int("rotary_embedding_dim", 0);
  const int64_t heads = op.attributes().Int("num_heads", 0);
  if (count < 0 || count % 2 != 0) return op.Error("rotary_embedding_dim is {}", count);
  if (heads < 0) return op.Error("num_heads is {}", heads);
  const Dim& width = x.shape->back();
  if (x.rank() == 3 && width.known() && heads > 0 && width.value() % heads != 0)
    return op.Error("{} heads do not divide the width {}", heads, width.value());
  for (int i : {at.cos, at.sin})
    if (op.input(i).ranked() && op.input(i).rank() != (op.has_input(at.positions) ? 2 : 3))
      return op.Error("cache {} has shape {}", i, ToString(*op.input(i).shape));
  return {};
}

// Heads of a rank-3 input: given, or as many as the caches' width makes.
int64_t HeadCount(const ExpandContext& e, const Places& at) {
  const int64_t heads = e.attributes().Int("num_heads", 0);
  if (heads > 0) return heads;
  const Dims cache = e.DimsOf(e.input(at.cos)), x = e.DimsOf(e.input(0));
  return std::max<int64_t>(1, x[2] / std::max<int64_t>(1, 2 * cache[cache.rank() - 1]));
}

Status ExpandRotary(ExpandContext& e, const Places& at) {
  MINIM_TRY(NeedShapes(e));
  const Attributes& a = e.attributes();
  if (a.Int("is_packed_batching", 0) != 0)
    return Unsupported("RotaryEmbedding '{}': packed batches are not supported", e.node().name);
  const bool flat = e.rank(e.input(0)) == 3;
  const ValueId x = flat ? SplitHeads(e, e.input(0), HeadCount(e, at)) : e.input(0);
  const Dims dims = e.DimsOf(x);
  const int64_t given = a.Int("rotary_embedding_dim", 0), count = given > 0 ? given : dims[3];
  const ValueId positions = e.has_input(at.positions) ? e.input(at.positions) : kNoValue;
  const ValueId cos = CacheRows(e, e.input(at.cos), positions, dims[2]);
  const ValueId sin = CacheRows(e, e.input(at.sin), positions, dims[2]);
  const ValueId y = EmitRotation(e, x, cos, sin, count, a.Int("interleaved", 0) != 0);
  e.SetOutput(0, flat ? MergeHeads(e, y) : y);
  return {};
}

OpDef Define(std::string domain, int version, const Places& at, std::string samples) {
  return {.name = "RotaryEmbedding",
          .domain = std::move(domain),
          .onnx_since = {version},
          .min_inputs = at.positions == 3 ? 3 : 4,
          .max_inputs = 4,
          .dtypes = kFloatTypes,
          .infer = [at](InferContext& op) -> Status {
            MINIM_TRY(CheckRotary(op, at));
            return InferSameAsFirst(op);
          },
          .expand = [at](ExpandContext& e) { return ExpandRotary(e, at); },
          .samples = std::move(samples)};
}

}  // namespace

ValueId EmitRotation(Builder& b, ValueId x, ValueId cos, ValueId sin, int64_t count,
                     bool interleaved) {
  const Dims dims = b.DimsOf(x);
  const int64_t last = dims.rank() - 1, width = dims[dims.rank() - 1];
  const auto [first, second] = Coordinates(b, x, count, interleaved);
  const ValueId real = b.Sub(b.Mul(cos, first), b.Mul(sin, second));
  const ValueId imaginary = b.Add(b.Mul(sin, first), b.Mul(cos, second));
  const ValueId turned = Joined(b, real, imaginary, interleaved);
  if (count == width) return turned;
  return b.Emit("Concat", {turned, b.Slice(x, {count}, {width}, {last})}, {{"axis", last}});
}

std::vector<OpDef> RotaryOps() {
  return {
      Define("", 23, kOnnx,
             "RotaryEmbedding(x: f32[2,3,4,6], c: f32[9,3], s: f32[9,3], p: i64[2,4] = "
             "[0,1,2,3,8,7,6,5])\n"
             "RotaryEmbedding(x: f32[2,4,8], c: f32[2,4,1], s: f32[2,4,1]) {num_heads=2, "
             "rotary_embedding_dim=2, interleaved=1}\n"
             "RotaryEmbedding(x: f16[1,1,2,4], c: f16[1,2,2], s: f16[1,2,2]) {interleaved=1}\n"),
      Define(std::string(kMicrosoftDomain), 1, kMicrosoft,
             "RotaryEmbedding(x: f32[2,3,8], p: i64[1] = [2], c: f32[9,2], s: f32[9,2])\n"
             "RotaryEmbedding(x: f32[2,2,3,4], p: i64[2,3] = [0,1,2,3,4,5], c: f32[9,2], "
             "s: f32[9,2]) {interleaved=1, scale=1.0, is_packed_batching=0}\n"
             "RotaryEmbedding(x: f32[1,3,8], p: i64[1,3] = [0,1,2], c: f32[9,1], s: f32[9,1]) "
             "{num_heads=2, rotary_embedding_dim=2}\n"),
  };
}

}  // namespace minim::ops
