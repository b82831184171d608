// Normalisations that ONNX Runtime's optimizer writes: a residual sum and a normalisation in one
// op, and the embedding of a transformer.
#include "ops/builder.h"
#include "ops/infer.h"

namespace minim::ops {
namespace {

constexpr float kSkipEpsilon = 1e-12f;

OpDef Define(std::string name, std::string domain, int min_inputs, int max_inputs,
             std::function<Status(InferContext&)> infer,
             std::function<Status(ExpandContext&)> expand, std::string samples) {
  return {.name = std::move(name),
          .domain = std::move(domain),
          .onnx_since = {1},
          .min_inputs = min_inputs,
          .max_inputs = max_inputs,
          .infer = std::move(infer),
          .expand = std::move(expand),
          .precision = PrecisionClass::kFp32,
          .samples = std::move(samples)};
}

bool Wants(const ExpandContext& e, size_t output) { return e.node().output(output) != kNoValue; }

// 1 / sqrt(mean(x^2) + epsilon) over `axes`, in f32.
ValueId InverseRootMean(ExpandContext& e, ValueId x, const std::vector<int64_t>& axes,
                        float epsilon) {
  const ValueId wide = e.Cast(x, DType::f32);
  const ValueId mean =
      e.Emit("ReduceMean", {e.Mul(wide, wide), e.Ints(axes)}, {{"keepdims", int64_t{1}}});
  return e.Emit("Reciprocal", {e.Emit("Sqrt", {e.Add(mean, epsilon)})});
}

// ---- SkipLayerNormalization: input, skip, gamma, beta, bias; the simplified form has no beta

Status InferSkip(InferContext& op) {
  MINIM_TRY(op.SameDType(0, 1));
  const TensorType& x = op.input(0);
  MINIM_TRY(op.SetOutput(0, x));
  MINIM_TRY(op.SetOutput(3, x));
  for (int i = 1; i < 3; ++i) MINIM_TRY(op.SetUnknown(i, DType::f32));
  if (!x.ranked()) return {};
  if (x.rank() < 2) return op.Error("input has shape {}, expected rank 2 or 3", ToString(*x.shape));
  for (int i = 1; i < op.input_count(); ++i) {
    if (!op.has_input(i) || !op.input(i).ranked()) continue;
    const auto merged = BroadcastShapes(*x.shape, *op.input(i).shape);
    if (!merged.ok() || merged->size() != x.shape->size())
      return op.Error("input {} has shape {}, which does not broadcast to {}", i,
                      ToString(*op.input(i).shape), ToString(*x.shape));
  }
  Shape statistics = *x.shape;
  statistics.back() = Dim(1);
  for (int i = 1; i < 3; ++i) MINIM_TRY(op.SetOutput(i, DType::f32, statistics));
  return {};
}

// The sum of input, skip and, at input `bias`, the bias.
ValueId SkipSum(ExpandContext& e, int bias) {
  const ValueId sum = e.Add(e.input(0), e.input(1));
  return e.has_input(bias) ? e.Add(sum, e.input(bias)) : sum;
}

Status ExpandSkip(ExpandContext& e) {
  const ValueId sum = SkipSum(e, 4);
  std::vector<ValueId> inputs = {sum, e.input(2)};
  if (e.has_input(3)) inputs.push_back(e.input(3));
  const auto y = e.EmitMany("LayerNormalization", inputs, 3,
                            {{"epsilon", e.attributes().Float("epsilon", kSkipEpsilon)}});
  for (int i = 0; i < 3; ++i) e.SetOutput(i, y[i]);
  e.SetOutput(3, sum);
  return {};
}

Status ExpandSkipSimplified(ExpandContext& e) {
  if (Wants(e, 1)) return Unsupported("{} '{}': has no mean to give", e.node().op, e.node().name);
  const float epsilon = e.attributes().Float("epsilon", kSkipEpsilon);
  const ValueId sum = SkipSum(e, 3);
  e.SetOutput(0, e.Emit("RMSNormalization", {sum, e.input(2)}, {{"epsilon", epsilon}}));
  if (Wants(e, 2)) e.SetOutput(2, InverseRootMean(e, sum, {-1}, epsilon));
  e.SetOutput(3, sum);
  return {};
}

// ---- SimplifiedLayerNormalization, which ONNX Runtime keeps in ONNX's domain

Status InferSimplified(InferContext& op) {
  MINIM_TRY(op.SetUnknown(1, DType::f32));
  const TensorType& x = op.input(0);
  MINIM_TRY(op.SetOutput(0, {op.dtype(1), x.shape}));
  if (!x.ranked()) return {};
  MINIM_TRY(const int axis, op.Axis(op.attributes().Int("axis", -1), x.rank()));
  Shape statistics = *x.shape;
  for (int i = axis; i < x.rank(); ++i) statistics[i] = Dim(1);
  return op.SetOutput(1, DType::f32, std::move(statistics));
}

Status ExpandSimplified(ExpandContext& e) {
  const float epsilon = e.attributes().Float("epsilon", 1e-5f);
  const int64_t axis = e.attributes().Int("axis", -1);
  const ValueId x = e.Cast(e.input(0), e.dtype(e.input(1)));
  e.SetOutput(0,
              e.Emit("RMSNormalization", {x, e.input(1)}, {{"epsilon", epsilon}, {"axis", axis}}));
  if (!Wants(e, 1)) return {};
  if (!e.type(x).ranked())
    return Unsupported("{} '{}': needs an input of known rank", e.node().op, e.node().name);
  std::vector<int64_t> axes;
  for (int64_t i = axis < 0 ? axis + e.rank(x) : axis; i < e.rank(x); ++i) axes.push_back(i);
  e.SetOutput(1, InverseRootMean(e, x, axes, epsilon));
  return {};
}

// ---- EmbedLayerNormalization

enum EmbedInput {
  kWordIds,
  kSegmentIds,
  kWords,
  kPositions,
  kSegments,
  kGamma,
  kBeta,
  kMask,
  kPositionIds
};

Status InferEmbed(InferContext& op) {
  for (int i : {kWords, kPositions, kGamma, kBeta})
    if (!op.has_input(i)) return op.Error("input {} is missing", i);
  if (op.has_input(kSegmentIds) != op.has_input(kSegments))
    return op.Error("has only one of the segments' ids and embedding");
  for (int i : {kWordIds, kWords, kPositions}) MINIM_TRY(op.HasRank(i, 2));
  const Shape ids = op.input(kWordIds).ranked() ? *op.input(kWordIds).shape : Shape(2);
  const Dim width = op.input(kWords).ranked() ? (*op.input(kWords).shape)[1] : Dim();
  const DType dtype = op.dtype(kWords);
  MINIM_TRY(op.SetOutput(0, dtype, Shape{ids[0], ids[1], width}));
  MINIM_TRY(op.SetOutput(1, DType::i32, Shape{ids[0]}));
  return op.SetOutput(2, dtype, Shape{ids[0], ids[1], width});
}

// The number of ones of each row of the mask; zeros without a mask.
ValueId MaskIndex(ExpandContext& e, int64_t batch) {
  if (!e.has_input(kMask)) return e.Filled(0, DType::i32, Dims({batch}));
  const ValueId mask = e.input(kMask);
  const ValueId ones = e.Emit("Equal", {mask, e.ScalarLike(1, mask)});
  return e.ReduceSum(e.Cast(ones, DType::i32), {1}, false);
}

Status ExpandEmbed(ExpandContext& e) {
  const TensorType ids = e.type(e.input(kWordIds));
  if (!ids.Static())
    return Unsupported("{} '{}': the ids have type {}, expected a static shape", e.node().op,
                       e.node().name, ids.ToString());
  const ValueId words = e.Emit("Gather", {e.input(kWords), e.input(kWordIds)});
  const ValueId places = e.has_input(kPositionIds)
                             ? e.Emit("Gather", {e.input(kPositions), e.input(kPositionIds)})
                             : e.Slice(e.input(kPositions), {0}, {ids.dims()[1]}, {0});
  ValueId sum = e.Add(words, places);
  if (e.has_input(kSegments))
    sum = e.Add(sum, e.Emit("Gather", {e.input(kSegments), e.input(kSegmentIds)}));
  e.SetOutput(0, e.Emit("LayerNormalization", {sum, e.input(kGamma), e.input(kBeta)},
                        {{"epsilon", e.attributes().Float("epsilon", kSkipEpsilon)}}));
  if (Wants(e, 1)) e.SetOutput(1, MaskIndex(e, ids.dims()[0]));
  e.SetOutput(2, sum);
  return {};
}

}  // namespace

std::vector<OpDef> ContribNorms() {
  const std::string domain(kMicrosoftDomain);
  return {
      Define(
          "SkipLayerNormalization", domain, 3, 5, InferSkip, ExpandSkip,
          "y, _, _, s = SkipLayerNormalization(x: f32[2,3,4], k: f32[3,4], g: f32[4], b: f32[4], "
          "c: f32[4]) {epsilon=0.01}\n"
          "SkipLayerNormalization(x: f16[2,3], k: f16[2,3], g: f16[3])\n"),
      Define("SkipSimplifiedLayerNormalization", domain, 3, 4, InferSkip, ExpandSkipSimplified,
             "y, _, i, s = SkipSimplifiedLayerNormalization(x: f32[2,3,4], k: f32[2,3,4], "
             "g: f32[4], c: f32[4]) {epsilon=0.01}\n"
             "SkipSimplifiedLayerNormalization(x: f16[2,3], k: f16[2,3], g: f16[3])\n"),
      Define("SimplifiedLayerNormalization", "", 2, 2, InferSimplified, ExpandSimplified,
             "y, i = SimplifiedLayerNormalization(x: f32[2,3,4], g: f32[3,4]) {axis=1, "
             "epsilon=0.01, stash_type=1}\n"
             "SimplifiedLayerNormalization(x: f16[2,3], g: f16[3])\n"),
      Define(
          "EmbedLayerNormalization", domain, 1, 9, InferEmbed, ExpandEmbed,
          "y, m, s = EmbedLayerNormalization(w: i32[2,3] = index(4), t: i32[2,3] = index(2), "
          "we: f32[4,5], pe: f32[6,5], se: f32[2,5], g: f32[5], b: f32[5], "
          "m: i32[2,3] = index(2)) {epsilon=0.01, mask_index_type=1}\n"
          "y, m = EmbedLayerNormalization(w: i32[1,3] = index(4), _, we: f16[4,2], pe: f16[6,2], "
          "_, g: f16[2], b: f16[2], _, p: i32[1,3] = index(6))\n"),
  };
}

}  // namespace minim::ops
