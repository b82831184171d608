// Attention: ONNX's op and the expansion that all forms of attention share.
#include "ops/attention.h"

#include <cmath>
#include <limits>

#include "ops/infer.h"

namespace minim::ops {
namespace {

constexpr double kForbidden = -std::numeric_limits<double>::infinity();

struct Sizes {
  int64_t batch, query_heads, kv_heads, queries, keys;

  Sizes(const Builder& b, const AttentionForm& form) {
    const Dims q = b.DimsOf(form.q), k = b.DimsOf(form.k);
    batch = q[0], query_heads = q[1], queries = q[2];
    kv_heads = k[1], keys = k[2];
  }
};

}  // namespace

ValueId GroupedProduct(Builder& b, ValueId a, ValueId c) {
  const Dims left = b.DimsOf(a), right = b.DimsOf(c);
  const bool grouped = left[1] != right[1] && right[1] > 0 && left[1] % right[1] == 0;
  if (!grouped) return b.Emit("MatMul", {a, c});
  const int64_t rows = left[1] / right[1] * left[2];
  const ValueId rowed = b.Reshape(a, Dims({left[0], right[1], rows, left[3]}));
  return b.Reshape(b.Emit("MatMul", {rowed, c}), Dims({left[0], left[1], left[2], right[3]}));
}

namespace {

ValueId Scaled(Builder& b, ValueId x, double scale) { return scale == 1 ? x : b.Mul(x, scale); }

// Which key [T] each query [S] sees, when every query's place is known; undefined when it sees all.
Tensor StaticWindow(const AttentionForm& form, const Sizes& sizes) {
  Tensor seen(DType::bool_, Dims({sizes.queries, sizes.keys}));
  bool forbids = false;
  for (int64_t i = 0; i < sizes.queries; ++i) {
    for (int64_t j = 0; j < sizes.keys; ++j) {
      const int64_t ahead = j - (i + form.offset);
      const bool sees =
          (form.ahead < 0 || ahead <= form.ahead) && (form.behind < 0 || -ahead <= form.behind);
      seen.as<bool>()[i * sizes.keys + j] = sees;
      forbids = forbids || !sees;
    }
  }
  return forbids ? seen : Tensor();
}

// j - i + S - shift for every query i and key j, to be compared with the lengths [B,1,1,1].
ValueId Distances(Builder& b, const Sizes& sizes, int64_t shift) {
  Tensor table(DType::i64, Dims({sizes.queries, sizes.keys}));
  for (int64_t i = 0; i < sizes.queries; ++i)
    for (int64_t j = 0; j < sizes.keys; ++j)
      table.as<int64_t>()[i * sizes.keys + j] = j - i + sizes.queries - shift;
  return b.Constant(std::move(table));
}

// The bool mask of padding and window where the lengths are inputs.
ValueId LengthMask(Builder& b, const AttentionForm& form, const Sizes& sizes) {
  const ValueId lengths = b.Reshape(b.Cast(form.lengths, DType::i64), Dims({sizes.batch, 1, 1, 1}));
  Tensor places(DType::i64, Dims({sizes.keys}));
  for (int64_t j = 0; j < sizes.keys; ++j) places.as<int64_t>()[j] = j;
  ValueId seen = b.Emit("Less", {b.Constant(std::move(places)), lengths});
  const auto also = [&](ValueId condition) { seen = b.Emit("And", {seen, condition}); };
  if (form.ahead >= 0)  // j - i <= length - S + ahead
    also(b.Emit("Less", {Distances(b, sizes, form.ahead + 1), lengths}));
  if (form.behind >= 0)  // j - i >= length - S - behind
    also(b.Emit("Less", {lengths, Distances(b, sizes, -form.behind - 1)}));
  return seen;
}

ValueId AsBias(Builder& b, ValueId mask, DType dtype) {
  if (b.dtype(mask) != DType::bool_) return b.Cast(mask, dtype);
  return b.Select(mask, b.Scalar(0, dtype), b.Scalar(kForbidden, dtype));
}

// The caller's mask, its missing last keys forbidden.
ValueId FullMask(Builder& b, ValueId mask, int64_t keys) {
  const Dims dims = b.DimsOf(mask);
  if (dims.rank() == 0) return mask;
  const int64_t missing = keys - dims[dims.rank() - 1];
  if (missing <= 0) return mask;
  std::vector<int64_t> pads(2 * dims.rank(), 0);
  pads.back() = missing;
  const bool flags = b.dtype(mask) == DType::bool_;
  return b.Emit("Pad", {mask, b.Ints(pads), b.Scalar(flags ? 0 : kForbidden, b.dtype(mask))});
}

struct Bias {
  ValueId value = kNoValue;
  bool may_forbid_rows = false;
};

Bias BiasOf(Builder& b, const AttentionForm& form, const Sizes& sizes) {
  const DType dtype = b.dtype(form.q);
  Bias bias;
  const auto add = [&](ValueId term) {
    bias.value = bias.value == kNoValue ? term : b.Add(bias.value, term);
  };
  if (form.mask != kNoValue) add(AsBias(b, FullMask(b, form.mask, sizes.keys), dtype));
  if (form.lengths != kNoValue) add(AsBias(b, LengthMask(b, form, sizes), dtype));
  bias.may_forbid_rows =
      (form.mask != kNoValue && form.mask_forbids_rows) || form.lengths != kNoValue;
  if (form.lengths != kNoValue) return bias;
  if (form.behind < 0 && form.ahead < 0) return bias;
  const Tensor window = StaticWindow(form, sizes);
  if (!window.defined()) return bias;
  add(AsBias(b, b.Constant(window), dtype));
  // A causal row always sees the key at its own place, if there is one.
  bias.may_forbid_rows |= form.offset < 0 || form.offset + sizes.queries > sizes.keys;
  return bias;
}

// Softmax over the keys, and over the sink where there is one.
ValueId SoftmaxOver(Builder& b, const AttentionForm& form, ValueId scores) {
  const Attributes last = {{"axis", int64_t{-1}}};
  scores = b.Cast(scores, form.softmax_dtype);
  if (form.sink == kNoValue) return b.Emit("Softmax", {scores}, last);
  Dims dims = b.DimsOf(scores);
  const int64_t keys = dims[3];
  dims[3] = 1;
  const ValueId sink =
      b.Emit("Expand", {b.Cast(form.sink, form.softmax_dtype), b.Ints({dims.begin(), dims.end()})});
  return b.Slice(b.Emit("Softmax", {b.Emit("Concat", {scores, sink}, last)}, last), {0}, {keys},
                 {3});
}

// A row whose bias forbids every key gets zeros.
ValueId Weights(Builder& b, const AttentionForm& form, ValueId scores, const Bias& bias) {
  const DType dtype = b.dtype(scores);
  ValueId none = kNoValue;
  if (bias.may_forbid_rows) {
    const ValueId most = b.Emit("ReduceMax", {bias.value, b.Ints({-1})});
    none = b.Emit("Equal", {most, b.Scalar(kForbidden, dtype)});
    scores = b.Select(none, b.Scalar(0, dtype), scores);
  }
  const ValueId soft = b.Cast(SoftmaxOver(b, form, scores), dtype);
  return none == kNoValue ? soft : b.Select(none, b.Scalar(0, dtype), soft);
}

}  // namespace

DType SoftmaxDType(const Attributes& a, DType dtype) {
  const auto named = DTypeFromOnnx(static_cast<int>(a.Int("softmax_precision", 0)));
  return named ? *named : dtype == DType::f64 ? dtype : DType::f32;
}

Status NeedShapes(ExpandContext& e) {
  for (ValueId id : e.node().inputs)
    if (id != kNoValue && !e.type(id).Static())
      return Unsupported("{} '{}': input '{}' has type {}, expected a static shape", e.node().op,
                         e.node().name, e.graph().value(id).name, e.type(id).ToString());
  return InferNode(e.graph(), e.node());
}

AttentionParts EmitAttention(Builder& b, const AttentionForm& form) {
  const Sizes sizes(b, form);
  AttentionParts parts{};
  const ValueId turned = b.Transpose(form.k, {0, 1, 3, 2});
  parts.scores = GroupedProduct(b, Scaled(b, form.q, form.scale), turned);
  parts.capped = parts.scores;
  if (form.softcap > 0)
    parts.capped = b.Mul(b.Emit("Tanh", {b.Mul(parts.scores, 1 / form.softcap)}), form.softcap);
  if (form.score_mod) parts.capped = form.score_mod(parts.capped);
  const Bias bias = BiasOf(b, form, sizes);
  parts.biased = bias.value == kNoValue ? parts.capped : b.Add(parts.capped, bias.value);
  parts.weights = Weights(b, form, parts.biased, bias);
  if (form.weight_mod) parts.weights = form.weight_mod(parts.weights);
  parts.y = GroupedProduct(b, parts.weights, form.v);
  return parts;
}

ValueId SplitHeads(Builder& b, ValueId x, int64_t heads) {
  const Dims dims = b.DimsOf(x);
  const int64_t size = heads > 0 ? dims[2] / heads : 0;
  return b.Transpose(b.Reshape(x, Dims({dims[0], dims[1], heads, size})), {0, 2, 1, 3});
}

ValueId MergeHeads(Builder& b, ValueId x) {
  const Dims dims = b.DimsOf(x);
  return b.Reshape(b.Transpose(x, {0, 2, 1, 3}), Dims({dims[0], dims[2], dims[1] * dims[3]}));
}

namespace {

// ---- Attention (23): Q, K, V, attn_mask, past_key, past_value, nonpad_kv_seqlen (24)

Status CheckHeads(InferContext& op, const Shape& q, const Shape& k, const Shape& v) {
  for (const Shape* shape : {&q, &k, &v})
    if (shape->size() != q.size() || (q.size() != 3 && q.size() != 4))
      return op.Error("Q, K and V have shapes {}, {} and {}, expected all of rank 3 or 4",
                      ToString(q), ToString(k), ToString(v));
  if (q.size() == 4) return {};
  for (const auto& [name, shape] : {std::pair("q_num_heads", &q), {"kv_num_heads", &k}}) {
    const int64_t heads = op.attributes().Int(name, 0);
    if (heads < 1) return op.Error("{} is {}, expected 1 or more for rank 3", name, heads);
    if ((*shape)[2].known() && (*shape)[2].value() % heads != 0)
      return op.Error("{} {} does not divide the width of {}", name, heads, ToString(*shape));
  }
  return {};
}

// [B,S,H*D] read as [B,H,S,D].
Shape HeadShape(const InferContext& op, int input, const char* heads) {
  const Shape shape = *op.input(input).shape;
  if (shape.size() == 4) return shape;
  const int64_t count = op.attributes().Int(heads, 1);
  return {shape[0], Dim(count), shape[1],
          shape[2].Map([count](int64_t width) { return width / count; })};
}

Status CheckAttention(InferContext& op, const Shape& q, const Shape& k, const Shape& v) {
  if (!q[3].Compatible(k[3]))
    return op.Error("Q and K have heads of {} and {} elements", q[3].ToString(), k[3].ToString());
  if (!k[2].Compatible(v[2]) || !k[1].Compatible(v[1]))
    return op.Error("K and V differ in heads or length: {} and {}", ToString(k), ToString(v));
  if (q[1].known() && k[1].known() && (k[1].value() < 1 || q[1].value() % k[1].value() != 0))
    return op.Error("{} query heads are no multiple of {} kv heads", q[1].value(), k[1].value());
  if (op.has_input(4) != op.has_input(5)) return op.Error("has only one of the past tensors");
  if (op.has_input(4) && op.has_input(6)) return op.Error("has a past and nonpad_kv_seqlen");
  if (op.has_input(3) && op.input(3).ranked() && (op.input(3).rank() < 1 || op.input(3).rank() > 4))
    return op.Error("attn_mask has shape {}", ToString(*op.input(3).shape));
  return {};
}

Dim Sum(const Dim& a, const Dim& b) {
  return a.known() && b.known() ? Dim(a.value() + b.value()) : Dim();
}

Status InferAttention(InferContext& op) {
  MINIM_TRY(op.SameDType(0, 1));
  const DType dtype = op.dtype(0);
  for (int i = 0; i < 4; ++i) MINIM_TRY(op.SetUnknown(i, i == 2 ? op.dtype(2) : dtype));
  for (int i = 0; i < 3; ++i)
    if (!op.input(i).ranked()) return {};
  MINIM_TRY(CheckHeads(op, *op.input(0).shape, *op.input(1).shape, *op.input(2).shape));
  const Shape q = HeadShape(op, 0, "q_num_heads");
  Shape k = HeadShape(op, 1, "kv_num_heads"), v = HeadShape(op, 2, "kv_num_heads");
  MINIM_TRY(CheckAttention(op, q, k, v));
  for (int i = 4; i < 6; ++i) {
    if (!op.has_input(i)) continue;
    MINIM_TRY(op.HasRank(i, 4));
    Dim& length = (i == 4 ? k : v)[2];
    length = op.input(i).ranked() ? Sum(length, (*op.input(i).shape)[2]) : Dim();
  }
  Shape y = {q[0], q[1], q[2], v[3]};
  if (op.input(0).rank() == 3) {
    const int64_t heads = op.attributes().Int("q_num_heads", 1);
    y = {q[0], q[2], v[3].Times(heads)};
  }
  MINIM_TRY(op.SetOutput(0, dtype, std::move(y)));
  MINIM_TRY(op.SetOutput(1, dtype, k));
  MINIM_TRY(op.SetOutput(2, op.dtype(2), v));
  return op.SetOutput(3, dtype, Shape{q[0], q[1], q[2], k[2]});
}

AttentionForm FormOf(ExpandContext& e) {
  const Attributes& a = e.attributes();
  const bool flat = e.rank(e.input(0)) == 3;
  const auto heads = [&](int i, const char* name) {
    return flat ? SplitHeads(e, e.input(i), a.Int(name, 1)) : e.input(i);
  };
  AttentionForm form{
      .q = heads(0, "q_num_heads"), .k = heads(1, "kv_num_heads"), .v = heads(2, "kv_num_heads")};
  if (e.has_input(4)) {
    form.offset = e.DimsOf(e.input(4))[2];
    form.k = e.Emit("Concat", {e.input(4), form.k}, {{"axis", int64_t{2}}});
    form.v = e.Emit("Concat", {e.input(5), form.v}, {{"axis", int64_t{2}}});
  }
  if (e.has_input(3)) form.mask = e.input(3);
  if (e.has_input(6)) form.lengths = e.input(6);
  form.behind = a.Int("left_window_size", -1);
  form.ahead = a.Int("is_causal", 0) != 0 ? 0 : a.Int("right_window_size", -1);
  const double width = static_cast<double>(e.DimsOf(form.q)[3]);
  form.scale = a.Has("scale") ? a.Float("scale", 1) : 1 / std::sqrt(width);
  form.softcap = a.Float("softcap", 0);
  form.softmax_dtype = SoftmaxDType(a, e.dtype(form.q));
  return form;
}

Status ExpandAttention(ExpandContext& e) {
  MINIM_TRY(NeedShapes(e));
  const AttentionForm form = FormOf(e);
  MINIM_TRY(e.status());
  const AttentionParts parts = EmitAttention(e, form);
  e.SetOutput(0, e.rank(e.input(0)) == 3 ? MergeHeads(e, parts.y) : parts.y);
  e.SetOutput(1, form.k);
  e.SetOutput(2, form.v);
  const ValueId stages[] = {parts.scores, parts.capped, parts.biased, parts.weights};
  const int64_t mode = e.attributes().Int("qk_matmul_output_mode", 0);
  if (mode < 0 || mode > 3)
    return InvalidArgument("Attention '{}': qk_matmul_output_mode is {}, expected 0 to 3",
                           e.node().name, mode);
  e.SetOutput(3, stages[mode]);
  return {};
}

}  // namespace

OpDef Attention() {
  return {.name = "Attention",
          .onnx_since = {23, 24, 25},
          .min_inputs = 3,
          .max_inputs = 7,
          .dtypes = kFloatTypes,
          .infer = InferAttention,
          .expand = ExpandAttention,
          .precision = PrecisionClass::kLower,
          .samples =
              "y, _, _, qk = Attention(q: f32[2,4,3,5], k: f32[2,2,6,5], v: f32[2,2,6,7]) "
              "{qk_matmul_output_mode=2}\n"
              "y, k2, v2, qk = Attention(q: f32[1,2,8], k: f32[1,3,4], v: f32[1,3,6], "
              "m: f32[2,5] = [0,-1,-2,0,1,1,1,0,-inf,0], pk: f32[1,1,2,4], pv: f32[1,1,2,6]) "
              "{q_num_heads=2, kv_num_heads=1, is_causal=1, softcap=2.0, qk_matmul_output_mode=3}\n"
              "y, _, _, qk = Attention(q: f32[1,2,3,4], k: f32[1,2,5,4], v: f32[1,2,5,4], m: "
              "bool[3,4]) "
              "{scale=0.3, qk_matmul_output_mode=0}\n"
              "Attention(q: f16[2,1,3,4], k: f16[2,1,5,4], v: f16[2,1,5,4], _, _, _, "
              "l: i64[2] = [5,2]) {is_causal=1, softmax_precision=f64, qk_matmul_output_mode=1}\n"
              "Attention(q: bf16[1,1,4,2], k: bf16[1,1,4,2], v: bf16[1,1,4,2]) "
              "{left_window_size=1, right_window_size=0}\n"};
}

}  // namespace minim::ops
