// com.microsoft's GroupQueryAttention: query, key, value, past_key, past_value, seqlens_k,
// total_sequence_length, cos_cache, sin_cache, position_ids, attention_bias, head_sink, and in
// places 14 and 15 the weights of a normalisation of Q and K.
#include <cmath>

#include "ops/attention.h"
#include "ops/infer.h"

namespace minim::ops {
namespace {

enum Input {
  kQuery,
  kKey,
  kValue,
  kPastKey,
  kPastValue,
  kLast,
  kTotal,
  kCos,
  kSin,
  kPositions,
  kBias,
  kSink,
  kKeyScale,
  kValueScale,
  kQueryNorm,
  kKeyNorm
};

struct Heads {
  int64_t queries, keys, size = 0;  // numbers of heads, elements of one
};

// A packed query holds the heads of Q, K and V.
Heads HeadsOf(const Attributes& a, int64_t width, bool packed) {
  Heads h{a.Int("num_heads", 0), a.Int("kv_num_heads", 0)};
  const int64_t parts = packed ? h.queries + 2 * h.keys : h.queries;
  if (parts > 0 && width % parts == 0) h.size = width / parts;
  return h;
}

Status CheckInputs(InferContext& op) {
  for (int i : {kLast, kTotal})
    if (!op.has_input(i)) return op.Error("input {} is missing", i);
  if (op.has_input(kKey) != op.has_input(kValue)) return op.Error("has only one of key and value");
  if (op.has_input(kPastKey) != op.has_input(kPastValue))
    return op.Error("has only one of the past tensors");
  const int64_t queries = op.attributes().Int("num_heads", 0);
  const int64_t keys = op.attributes().Int("kv_num_heads", 0);
  if (queries < 1 || keys < 1 || queries % keys != 0)
    return op.Error("{} query heads are no multiple of {} kv heads", queries, keys);
  if (op.attributes().Int("do_rotary", 0) != 0) {
    for (int i : {kCos, kSin}) {
      if (!op.has_input(i)) return op.Error("do_rotary needs the caches");
      MINIM_TRY(op.HasRank(i, 2));
    }
  }
  MINIM_TRY(op.HasRank(kQuery, 3));
  if (op.has_input(kPastKey)) MINIM_TRY(op.HasRank(kPastKey, 4));
  return {};
}

// Places of the cache after the call: those it had, or as many as the total needs.
Result<Dim> PresentLength(InferContext& op, const Dim& block) {
  const auto given = op.IntsInput(kTotal);
  const bool ranked = !op.has_input(kPastKey) || op.input(kPastKey).ranked();
  if (!given || given->size() != 1 || !ranked || !block.known()) return Dim();
  const Dim past = op.has_input(kPastKey) ? (*op.input(kPastKey).shape)[2] : Dim(0);
  if (!past.known()) return Dim();
  const int64_t total = given->front();
  if (total < block.value() || total - block.value() > past.value())
    return op.Error("a total of {} does not fit {} past and {} new places", total, past.value(),
                    block.value());
  return Dim(std::max(past.value(), total));
}

Status InferGrouped(InferContext& op) {
  MINIM_TRY(CheckInputs(op));
  const DType dtype = op.dtype(0);
  const Shape q = op.input(0).ranked() ? *op.input(0).shape : Shape(3);
  const Heads heads =
      HeadsOf(op.attributes(), q[2].known() ? q[2].value() : 0, !op.has_input(kKey));
  if (q[2].known() && heads.size == 0)
    return op.Error("the heads do not divide the width {}", q[2].value());
  const Dim size = q[2].known() ? Dim(heads.size) : Dim();
  MINIM_TRY(const Dim length, PresentLength(op, q[1]));
  const Dim width = size.Times(heads.queries);
  MINIM_TRY(op.SetOutput(0, dtype, Shape{q[0], q[1], width}));
  const Shape present = {q[0], Dim(heads.keys), length, size};
  MINIM_TRY(op.SetOutput(1, dtype, present));
  MINIM_TRY(op.SetOutput(2, dtype, present));
  return op.SetOutput(3, dtype, Shape{q[0], Dim(heads.queries), q[1], length});
}

Status Refuse(const ExpandContext& e) {
  const Attributes& a = e.attributes();
  const auto refused = [&](const char* what) {
    return Unsupported("GroupQueryAttention '{}': {} is not supported", e.node().name, what);
  };
  if (e.has_input(kKeyScale) || e.has_input(kValueScale)) return refused("a quantized cache");
  if (a.Int("sliding_window_cache", 0) != 0) return refused("a cache of the window's size");
  if (a.Int("qk_output", 0) != 0) return refused("qk_output");
  return {};
}

// The sizes and places of one call.
struct Call {
  int64_t batch, length, total;  // length: of the query block
  int64_t present;               // places of the cache
  bool prompt;                   // the first block: nothing before it counts
  ValueId begins;                // i64[B,1,1,1]: keys before the block
};

Result<Call> CallOf(ExpandContext& e) {
  const Tensor* total = e.graph().constant(e.input(kTotal));
  if (total == nullptr || total->size() != 1)
    return Unsupported("GroupQueryAttention '{}': total_sequence_length is not known yet",
                       e.node().name);
  const Dims q = e.DimsOf(e.input(kQuery));
  Call c{.batch = q[0], .length = q[1]};
  c.total = Converted(total->view(), DType::i64).as<int64_t>()[0];
  const int64_t past = e.has_input(kPastKey) ? e.DimsOf(e.input(kPastKey))[2] : 0;
  c.present = std::max(c.total, past);  // inference has checked the total
  c.prompt = c.length == c.total;
  const int64_t lengths = e.DimsOf(e.input(kLast)).Elements();
  if (lengths != c.batch)
    return InvalidArgument("GroupQueryAttention '{}': {} lengths for a batch of {}", e.node().name,
                           lengths, c.batch);
  const Dims column({c.batch, 1, 1, 1});
  const ValueId last = e.Reshape(e.Cast(e.input(kLast), DType::i64), column);
  c.begins =
      c.prompt ? e.Filled(0, DType::i64, column) : e.Add(last, static_cast<double>(1 - c.length));
  return c;
}

ValueId Steps(Builder& b, int64_t count, const Dims& dims) {
  Tensor steps(DType::i64, dims);
  for (int64_t i = 0; i < count; ++i) steps.as<int64_t>()[i] = i;
  return b.Constant(std::move(steps));
}

ValueId Padded(Builder& b, ValueId x, int64_t length) {
  const int64_t missing = length - b.DimsOf(x)[2];
  return missing == 0 ? x : b.Emit("Pad", {x, b.Ints({0, 0, 0, 0, 0, 0, missing, 0})});
}

// The cache after the block: the past before begins[b], the block, and zeros behind it.
ValueId Present(ExpandContext& e, const Call& c, int past, ValueId block) {
  const Dims dims = e.DimsOf(block);
  if (c.prompt && c.present == c.length) return block;
  const ValueId old =
      e.has_input(past) ? Padded(e, e.input(past), c.present)
                        : e.Filled(0, e.dtype(block), Dims({dims[0], dims[1], c.present, dims[3]}));
  const ValueId places = Steps(e, c.present, Dims({c.present, 1}));
  const ValueId from = e.Sub(places, c.begins);  // [B,1,L,1]: the block's row at each place
  const ValueId inside = e.Emit("And", {e.Emit("Less", {e.ScalarLike(-1, from), from}),
                                        e.Less(from, static_cast<double>(c.length))});
  const ValueId clipped = e.Emit(
      "Clip", {from, e.ScalarLike(0, from), e.ScalarLike(static_cast<double>(c.length - 1), from)});
  const ValueId rows =
      e.Emit("GatherElements",
             {block, e.Emit("Expand", {clipped, e.Ints({dims[0], dims[1], c.present, dims[3]})})},
             {{"axis", int64_t{2}}});
  const ValueId before = e.Less(from, 0);
  return e.Select(inside, rows, e.Select(before, old, 0.0));
}

// Rows of the caches at the places of the block, [B,1,S,D/2].
ValueId Rotated(ExpandContext& e, const Call& c, ValueId x) {
  if (e.attributes().Int("do_rotary", 0) == 0) return x;
  ValueId places =
      e.Add(e.Reshape(c.begins, Dims({c.batch, 1})), Steps(e, c.length, Dims({1, c.length})));
  if (e.has_input(kPositions) && e.DimsOf(e.input(kPositions)) == Dims({c.batch, c.length}))
    places = e.input(kPositions);
  const int64_t half = e.DimsOf(e.input(kCos))[1];
  const auto rows = [&](int cache) {
    return e.Reshape(e.Emit("Gather", {e.input(cache), places}),
                     Dims({c.batch, 1, c.length, half}));
  };
  const bool interleaved = e.attributes().Int("rotary_interleaved", 0) != 0;
  return EmitRotation(e, x, rows(kCos), rows(kSin), 2 * half, interleaved);
}

ValueId Normed(ExpandContext& e, ValueId x, int weight) {
  if (!e.has_input(weight)) return x;
  return e.Emit("RMSNormalization", {x, e.input(weight)},
                {{"epsilon", e.attributes().Float("qk_norm_epsilon", 1e-6f)}});
}

// Q, K and V of the block, heads apart.
AttentionForm BlockOf(ExpandContext& e) {
  const ValueId q = e.input(kQuery);
  const bool packed = !e.has_input(kKey);
  const Heads h = HeadsOf(e.attributes(), e.DimsOf(q)[2], packed);
  if (!packed)
    return {.q = SplitHeads(e, q, h.queries),
            .k = SplitHeads(e, e.input(kKey), h.keys),
            .v = SplitHeads(e, e.input(kValue), h.keys)};
  const auto part = [&](int64_t from, int64_t heads) {
    return SplitHeads(e, e.Slice(q, {from * h.size}, {(from + heads) * h.size}, {2}), heads);
  };
  return {
      .q = part(0, h.queries), .k = part(h.queries, h.keys), .v = part(h.queries + h.keys, h.keys)};
}

void SetRules(ExpandContext& e, const Call& c, AttentionForm& form) {
  const Attributes& a = e.attributes();
  const DType dtype = e.dtype(form.q);
  const float scale = a.Float("scale", 0);
  const double size = static_cast<double>(e.DimsOf(form.q)[3]);
  form.scale = scale != 0 ? scale : 1 / std::sqrt(size);
  form.softcap = a.Float("softcap", 0);
  form.softmax_dtype = dtype == DType::f64 ? dtype : DType::f32;
  const int64_t window = a.Int("local_window_size", -1);
  form.behind = window > 0 ? window - 1 : -1;  // the window counts the query's own place
  form.ahead = a.Int("causal", 1) != 0 ? 0 : -1;
  form.mask_forbids_rows = false;
  if (e.has_input(kBias)) form.mask = e.input(kBias);
  const int64_t heads = a.Int("num_heads", 1);
  if (e.has_input(kSink))
    form.sink = e.Reshape(e.input(kSink), Dims({1, heads, 1, 1}));
  else if (a.Int("smooth_softmax", 0) == 1)
    form.sink = e.Filled(0, dtype, Dims({1, 1, 1, 1}));
  if (!c.prompt || form.ahead < 0)
    form.lengths = e.Add(e.Cast(e.Reshape(e.input(kLast), Dims({c.batch})), DType::i64), 1.0);
}

Status ExpandGrouped(ExpandContext& e) {
  MINIM_TRY(NeedShapes(e));
  MINIM_TRY(Refuse(e));
  MINIM_TRY(const Call c, CallOf(e));
  AttentionForm form = BlockOf(e);
  form.q = Rotated(e, c, Normed(e, form.q, kQueryNorm));
  form.k = Present(e, c, kPastKey, Rotated(e, c, Normed(e, form.k, kKeyNorm)));
  form.v = Present(e, c, kPastValue, form.v);
  MINIM_TRY(e.status());
  e.SetOutput(1, form.k);
  e.SetOutput(2, form.v);
  if (c.present > c.total) {  // the rest of the buffer is not there yet
    form.k = e.Slice(form.k, {0}, {c.total}, {2});
    form.v = e.Slice(form.v, {0}, {c.total}, {2});
  }
  SetRules(e, c, form);
  e.SetOutput(0, MergeHeads(e, EmitAttention(e, form).y));
  return {};
}

}  // namespace

OpDef GroupQueryAttention() {
  return {.name = "GroupQueryAttention",
          .domain = std::string(kMicrosoftDomain),
          .onnx_since = {1},
          .min_inputs = 1,
          .max_inputs = 16,
          .dtypes = kFloatTypes,
          .infer = InferGrouped,
          .expand = ExpandGrouped,
          .precision = PrecisionClass::kLower,
          .samples =
              "y, k2, v2 = GroupQueryAttention(q: f32[2,3,8], k: f32[2,3,4], v: f32[2,3,4], _, _, "
              "l: i32[2] = [2,1], t: i32 = [3]) {num_heads=4, kv_num_heads=2}\n"
              "y, k2, v2 = GroupQueryAttention(q: f32[2,1,8], k: f32[2,1,4], v: f32[2,1,4], "
              "pk: f32[2,2,3,2], pv: f32[2,2,3,2], l: i32[2] = [3,2], t: i32 = [4], "
              "c: f32[8,1], s: f32[8,1]) {num_heads=4, kv_num_heads=2, do_rotary=1, softcap=2.0, "
              "scale=0.5, local_window_size=2}\n"
              "y, k2, v2 = GroupQueryAttention(q: f16[1,2,16], _, _, pk: f16[1,2,6,2], "
              "pv: f16[1,2,6,2], l: i32[1] = [3], t: i32[1] = [4], c: f16[8,1], s: f16[8,1], "
              "p: i64[1,2] = [2,3], b: f16[1,1,2,4], k: f16[4]) {num_heads=4, kv_num_heads=2, "
              "do_rotary=1, rotary_interleaved=1}\n"
              "GroupQueryAttention(q: f32[1,2,8], k: f32[1,2,4], v: f32[1,2,4], _, _, "
              "l: i32[1] = [1], t: i32 = [2], _, _, _, _, _, _, _, qn: f32[2], kn: f32[2]) "
              "{num_heads=4, kv_num_heads=2, causal=0, smooth_softmax=1, qk_norm_epsilon=0.001}\n"};
}

}  // namespace minim::ops
