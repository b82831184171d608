// com.microsoft's Attention and MultiHeadAttention, as ONNX Runtime's optimizer writes them.
#include <cmath>

#include "ops/attention.h"
#include "ops/infer.h"

namespace minim::ops {
namespace {

double ScaleOf(const Attributes& a, int64_t head) {
  const float given = a.Float("scale", 0);
  return given != 0 ? given : 1 / std::sqrt(static_cast<double>(head));
}

// 0 where the mask is positive and mask_filter_value elsewhere. Masks: [B,T] and [B,S,T] of flags,
// [B] of lengths, [2B] of ends and then starts.
Result<ValueId> AdditiveMask(ExpandContext& e, ValueId mask, int64_t batch, int64_t keys,
                             DType dtype) {
  const Dims dims = e.DimsOf(mask);
  const auto places = [&](int64_t from) {
    return e.Reshape(e.Slice(mask, {from}, {from + batch}, {0}), Dims({batch, 1, 1, 1}));
  };
  ValueId seen = kNoValue;
  if (dims.rank() == 1 && (dims[0] == batch || dims[0] == 2 * batch)) {
    Tensor steps(DType::i32, Dims({keys}));
    for (int64_t j = 0; j < keys; ++j) steps.as<int32_t>()[j] = static_cast<int32_t>(j);
    const ValueId at = e.Constant(std::move(steps));
    seen = e.Emit("Less", {at, places(0)});
    if (dims[0] == 2 * batch)
      seen = e.Emit("And", {seen, e.Emit("Not", {e.Emit("Less", {at, places(batch)})})});
  } else if (dims.rank() == 2 && dims[1] == keys) {
    seen = e.Reshape(e.Greater(mask, 0), Dims({dims[0], 1, 1, keys}));
  } else if (dims.rank() == 3 && dims[2] == keys) {
    seen = e.Reshape(e.Greater(mask, 0), Dims({dims[0], 1, dims[1], keys}));
  } else {
    return Unsupported("{} '{}': a mask of shape {} for {} keys is not supported", e.node().op,
                       e.node().name, ToString(ToShape(dims)), keys);
  }
  const float filter = e.attributes().Float("mask_filter_value", -10000.0f);
  return e.Select(seen, e.Scalar(0, dtype), e.Scalar(filter, dtype));
}

// Fills in masks and the window, and attends.
Result<AttentionParts> Attend(ExpandContext& e, AttentionForm form, int mask, int bias) {
  const Dims q = e.DimsOf(form.q), k = e.DimsOf(form.k);
  const DType dtype = e.dtype(form.q);
  form.mask_forbids_rows = false;
  if (e.has_input(mask)) {
    MINIM_TRY(form.mask, AdditiveMask(e, e.input(mask), q[0], k[2], dtype));
  }
  if (e.has_input(bias))
    form.mask = form.mask == kNoValue ? e.input(bias) : e.Add(form.mask, e.input(bias));
  form.scale = ScaleOf(e.attributes(), q[3]);
  if (e.attributes().Int("unidirectional", 0) != 0) form.ahead = 0;
  form.softmax_dtype = dtype == DType::f64 ? dtype : DType::f32;
  return EmitAttention(e, form);
}

Dim Sum(const Dim& a, const Dim& b) {
  return a.known() && b.known() ? Dim(a.value() + b.value()) : Dim();
}

// ---- Attention: input, weights, bias, mask_index, past, attention_bias, past_sequence_length

// Widths of Q, K and V in the merged weights.
std::vector<int64_t> Widths(const Attributes& a, int64_t merged) {
  const std::vector<int64_t> given = a.Ints("qkv_hidden_sizes");
  return given.empty() ? std::vector<int64_t>(3, merged / 3) : given;
}

Status CheckMerged(InferContext& op, int64_t heads, int64_t merged) {
  const std::vector<int64_t> widths = Widths(op.attributes(), merged);
  int64_t sum = 0;
  for (int64_t width : widths) {
    if (width < 1 || width % heads != 0)
      return op.Error("{} heads do not divide the width {}", heads, width);
    sum += width;
  }
  if (widths.size() != 3 || sum != merged || widths[0] != widths[1])
    return op.Error("the widths of Q, K and V do not make the {} columns of the weights", merged);
  return {};
}

Status InferMerged(InferContext& op, DType dtype, int past) {
  MINIM_TRY(op.HasRank(0, 3));
  MINIM_TRY(op.HasRank(1, 2));
  const int64_t heads = op.attributes().Int("num_heads", 0);
  if (heads < 1) return op.Error("num_heads is {}, expected 1 or more", heads);
  const Shape x = op.input(0).ranked() ? *op.input(0).shape : Shape(3);
  const Shape w = op.input(1).ranked() ? *op.input(1).shape : Shape(2);
  MINIM_TRY(op.SetOutput(0, dtype, Shape{x[0], x[1], Dim()}));
  MINIM_TRY(op.SetOutput(1, dtype, Shape(5)));
  if (!w[1].known()) return {};
  MINIM_TRY(CheckMerged(op, heads, w[1].value()));
  const std::vector<int64_t> widths = Widths(op.attributes(), w[1].value());
  MINIM_TRY(op.SetOutput(0, dtype, Shape{x[0], x[1], Dim(widths[2])}));
  Dim length = x[1];
  if (op.has_input(past)) {
    MINIM_TRY(op.HasRank(past, 5));
    length = op.input(past).ranked() ? Sum(x[1], (*op.input(past).shape)[3]) : Dim();
  }
  return op.SetOutput(1, dtype, Shape{Dim(2), x[0], Dim(heads), length, Dim(widths[1] / heads)});
}

Status Refuse(const ExpandContext& e, bool shared) {
  const Attributes& a = e.attributes();
  shared = shared || a.Int("past_present_share_buffer", 0) != 0;
  if (!shared && a.Int("do_rotary", 0) == 0) return {};
  return Unsupported("{} '{}': {} is not supported", e.node().op, e.node().name,
                     shared ? "a shared buffer of past and present" : "do_rotary");
}

// [2,B,N,P,D]: both of K and V, or one of them.
ValueId OneOfPast(Builder& b, ValueId past, int64_t i) {
  const Dims dims = b.DimsOf(past);
  return b.Reshape(b.Slice(past, {i}, {i + 1}, {0}), Dims({dims[1], dims[2], dims[3], dims[4]}));
}

ValueId Stacked(Builder& b, ValueId k, ValueId v) {
  const auto lifted = [&](ValueId x) { return b.Emit("Unsqueeze", {x, b.Ints({0})}); };
  return b.Emit("Concat", {lifted(k), lifted(v)}, {{"axis", int64_t{0}}});
}

ValueId After(Builder& b, ValueId past, ValueId now) {
  return b.Emit("Concat", {past, now}, {{"axis", int64_t{2}}});
}

// Attention over `merged` [B,S,Q+K+V] with its mask, past and bias at these inputs.
Status AttendMerged(ExpandContext& e, ValueId merged, int mask, int past, int bias) {
  const int64_t heads = e.attributes().Int("num_heads", 1);
  const auto widths = Widths(e.attributes(), e.DimsOf(e.input(1))[1]);
  const auto part = [&](int64_t from, int64_t width) {
    return SplitHeads(e, e.Slice(merged, {from}, {from + width}, {2}), heads);
  };
  AttentionForm form{.q = part(0, widths[0]),
                     .k = part(widths[0], widths[1]),
                     .v = part(widths[0] + widths[1], widths[2])};
  if (e.has_input(past)) {
    form.offset = e.DimsOf(e.input(past))[3];
    form.k = After(e, OneOfPast(e, e.input(past), 0), form.k);
    form.v = After(e, OneOfPast(e, e.input(past), 1), form.v);
  }
  MINIM_TRY(e.status());
  MINIM_TRY(const AttentionParts parts, Attend(e, form, mask, bias));
  e.SetOutput(0, MergeHeads(e, parts.y));
  if (e.node().output(1) != kNoValue) e.SetOutput(1, Stacked(e, form.k, form.v));
  return {};
}

Status ExpandMerged(ExpandContext& e) {
  MINIM_TRY(NeedShapes(e));
  MINIM_TRY(Refuse(e, e.has_input(6)));
  const ValueId merged = e.Emit("MatMul", {e.input(0), e.input(1)});
  return AttendMerged(e, e.has_input(2) ? e.Add(merged, e.input(2)) : merged, 3, 4, 5);
}

// ---- QAttention: input, weight, bias, input_scale, weight_scale, mask_index, input_zero_point,
// weight_zero_point, past

constexpr int kNoInput = 99;

Status ExpandQuantized(ExpandContext& e) {
  MINIM_TRY(NeedShapes(e));
  MINIM_TRY(Refuse(e, false));
  const auto zero = [&](int i) { return e.has_input(i) ? e.input(i) : kNoValue; };
  const ValueId sums = e.Emit("MatMulInteger", {e.input(0), e.input(1), zero(6), zero(7)});
  const ValueId scale = e.Mul(e.input(3), e.input(4));
  const ValueId merged = e.Mul(e.Cast(sums, e.dtype(scale)), scale);
  return AttendMerged(e, e.Add(merged, e.input(2)), 5, 8, kNoInput);
}

// ---- MultiHeadAttention: query, key, value, bias, key_padding_mask, attention_bias, past_key,
// past_value. Packed: query [B,S,N,3,D] alone, or key [B,T,N,2,D] beside a plain query. A key of
// rank 4 is one of [B,N,T,D], heads apart.

Status InferHeads(InferContext& op) {
  const int64_t heads = op.attributes().Int("num_heads", 0);
  if (heads < 1) return op.Error("num_heads is {}, expected 1 or more", heads);
  for (int i = 0; i < 4; ++i) MINIM_TRY(op.SetUnknown(i, op.dtype(0)));
  for (int i = 0; i < 8; ++i)
    if (op.has_input(i) && !op.input(i).ranked()) return {};
  const Shape& q = *op.input(0).shape;
  const bool packed = q.size() == 5;
  if (q.size() != 3 && !packed) return op.Error("query has shape {}", ToString(q));
  if (packed == op.has_input(1)) return op.Error("needs either a packed query or a key");
  if (op.has_input(6) != op.has_input(7)) return op.Error("has only one of the past tensors");
  const Dim head = packed ? q[4] : q[2].Map([&](int64_t width) { return width / heads; });
  Dim keys = q[1], value_head = head;
  if (op.has_input(1)) {
    const Shape& k = *op.input(1).shape;
    if (k.size() < 3 || k.size() > 5 || (k.size() != 5) != op.has_input(2))
      return op.Error("key has shape {}", ToString(k));
    keys = k.size() == 4 ? k[2] : k[1];
    if (op.has_input(2)) {
      const Shape& v = *op.input(2).shape;
      if (v.size() != k.size()) return op.Error("value has shape {}", ToString(v));
      value_head = v.size() == 4 ? v[3] : v[2].Map([&](int64_t width) { return width / heads; });
    }
  }
  if (op.has_input(6)) keys = Sum(keys, (*op.input(6).shape)[2]);
  const Dim width = value_head.Times(heads);
  MINIM_TRY(op.SetOutput(0, op.dtype(0), Shape{q[0], q[1], width}));
  MINIM_TRY(op.SetOutput(1, op.dtype(0), Shape{q[0], Dim(heads), keys, head}));
  MINIM_TRY(op.SetOutput(2, op.dtype(0), Shape{q[0], Dim(heads), keys, value_head}));
  return op.SetOutput(3, op.dtype(0), Shape{q[0], Dim(heads), q[1], keys});
}

// Part i of a packed [B,S,N,parts,D], as [B,N,S,D].
ValueId Unpacked(ExpandContext& e, ValueId x, int64_t i) {
  const Dims dims = e.DimsOf(x);
  const ValueId part = e.Slice(x, {i}, {i + 1}, {3});
  return e.Transpose(e.Reshape(part, Dims({dims[0], dims[1], dims[2], dims[4]})), {0, 2, 1, 3});
}

// Heads of input i, its share of the bias added: elements `from` and on.
ValueId BiasedHeads(ExpandContext& e, int i, int64_t heads, int64_t from) {
  const ValueId x = e.input(i);
  if (e.rank(x) == 4) return x;
  const int64_t width = e.DimsOf(x)[2];
  const bool biased = e.has_input(3);
  return SplitHeads(e, biased ? e.Add(x, e.Slice(e.input(3), {from}, {from + width}, {0})) : x,
                    heads);
}

AttentionForm HeadsForm(ExpandContext& e) {
  const int64_t heads = e.attributes().Int("num_heads", 1);
  const Dims q = e.DimsOf(e.input(0));
  if (q.rank() == 5)
    return {.q = Unpacked(e, e.input(0), 0),
            .k = Unpacked(e, e.input(0), 1),
            .v = Unpacked(e, e.input(0), 2)};
  AttentionForm form{.q = BiasedHeads(e, 0, heads, 0)};
  if (e.rank(e.input(1)) == 5) {
    form.k = Unpacked(e, e.input(1), 0);
    form.v = Unpacked(e, e.input(1), 1);
  } else {
    form.k = BiasedHeads(e, 1, heads, q[2]);
    form.v = BiasedHeads(e, 2, heads, 2 * q[2]);
  }
  return form;
}

Status ExpandHeads(ExpandContext& e) {
  MINIM_TRY(NeedShapes(e));
  if (e.has_input(8) || e.has_input(9))
    return Unsupported(
        "MultiHeadAttention '{}': a shared buffer of past and present is not "
        "supported",
        e.node().name);
  const bool packed = e.rank(e.input(0)) == 5 || (e.has_input(1) && e.rank(e.input(1)) == 5);
  if (packed && e.has_input(3))
    return Unsupported("MultiHeadAttention '{}': packed inputs take no bias", e.node().name);
  AttentionForm form = HeadsForm(e);
  if (e.has_input(6)) {
    form.offset = e.DimsOf(e.input(6))[2];
    form.k = After(e, e.input(6), form.k);
    form.v = After(e, e.input(7), form.v);
  }
  MINIM_TRY(e.status());
  MINIM_TRY(const AttentionParts parts, Attend(e, form, 4, 5));
  e.SetOutput(0, MergeHeads(e, parts.y));
  e.SetOutput(1, form.k);
  e.SetOutput(2, form.v);
  e.SetOutput(3, parts.weights);
  return {};
}

OpDef Define(std::string name, int min_inputs, int max_inputs,
             std::function<Status(InferContext&)> infer,
             std::function<Status(ExpandContext&)> expand, std::string samples) {
  return {.name = std::move(name),
          .domain = std::string(kMicrosoftDomain),
          .onnx_since = {1},
          .min_inputs = min_inputs,
          .max_inputs = max_inputs,
          .dtypes = kFloatTypes,
          .infer = std::move(infer),
          .expand = std::move(expand),
          .precision = PrecisionClass::kLower,
          .samples = std::move(samples)};
}

}  // namespace

std::vector<OpDef> ContribAttention() {
  OpDef quantized = Define(
      "QAttention", 5, 9, [](InferContext& op) { return InferMerged(op, op.dtype(2), 8); },
      ExpandQuantized,
      "QAttention(x: u8[2,3,5], w: i8[5,12], b: f32[12], s: f32 = [0.02], ws: f32 = [0.01], "
      "m: i32[2] = [2,3], z: u8 = [120], wz: i8 = [0]) {num_heads=2}\n"
      "y, p = QAttention(x: u8[1,2,5], w: i8[5,12], b: f32[12], s: f32 = [0.02], "
      "ws: f32[12] = uniform(0.01,0.02), _, _, _, p: f32[2,1,2,3,2]) "
      "{num_heads=2, unidirectional=1, scale=0.5, mask_filter_value=-1000.0}\n");
  quantized.dtypes = {DType::u8, DType::i8};
  return {
      std::move(quantized),
      Define(
          "Attention", 2, 7,
          [](InferContext& op) -> Status {
            MINIM_TRY(op.SameDType(0, 1));
            return InferMerged(op, op.dtype(0), 4);
          },
          ExpandMerged,
          "Attention(x: f32[2,3,5], w: f32[5,12], b: f32[12], m: i32[2,3] = [1,1,0,1,1,1]) "
          "{num_heads=2}\n"
          "y, p = Attention(x: f32[2,3,5], w: f32[5,12], b: f32[12], m: i32[2] = [4,5], "
          "p: f32[2,2,2,2,2], a: f32[1,2,3,5]) {num_heads=2, unidirectional=1, scale=0.5, "
          "mask_filter_value=-1000.0}\n"
          "Attention(x: f16[1,3,5], w: f16[5,10], b: f16[10], m: i32[2] = [3,1]) {num_heads=2, "
          "qkv_hidden_sizes=[4,4,2]}\n"),
      Define("MultiHeadAttention", 1, 10, InferHeads, ExpandHeads,
             "MultiHeadAttention(q: f32[2,3,4], k: f32[2,5,4], v: f32[2,5,6], b: f32[14], "
             "m: i32[2,5] = index(2)) {num_heads=2}\n"
             "y, k2, v2, w = MultiHeadAttention(q: f32[1,2,4], k: f32[1,2,4], v: f32[1,2,4], _, "
             "m: i32[1,2,5] = [1,1,0,1,1,1,1,1,1,1], a: f32[1,1,2,5], pk: f32[1,2,3,2], "
             "pv: f32[1,2,3,2]) {num_heads=2, unidirectional=1, scale=0.5}\n"
             "MultiHeadAttention(q: f32[2,3,2,3,4]) {num_heads=2}\n"
             "MultiHeadAttention(q: f16[2,3,4], k: f16[2,5,2,2,2]) {num_heads=2, "
             "mask_filter_value=-100.0}\n"
             "MultiHeadAttention(q: f32[2,3,4], k: f32[2,2,5,2], v: f32[2,2,5,2]) {num_heads=2}\n"),
  };
}

}  // namespace minim::ops
