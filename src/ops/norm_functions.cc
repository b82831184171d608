// Ops that ONNX defines by simpler ones: GroupNormalization, MeanVarianceNormalization,
// LpNormalization, SwiGLU; and ONNX Runtime's GroupNorm.
#include "ops/movement.h"

namespace minim::ops {
namespace {

ValueId MeanOver(Builder& b, ValueId x, const std::vector<int64_t>& axes) {
  if (axes.empty()) return x;
  return b.Emit("ReduceMean", {x, b.Ints(axes)}, {{"keepdims", int64_t{1}}});
}

// ---- GroupNormalization

Status InferGroup(InferContext& op) {
  const TensorType& x = op.input(0);
  const int64_t groups = op.attributes().Int("num_groups", 0);
  if (groups < 1) return op.Error("num_groups is {}, expected 1 or more", groups);
  for (int i = 1; i < 3; ++i) {
    MINIM_TRY(op.HasRank(i, 1));
    MINIM_TRY(op.SameDType(0, i));
  }
  if (!x.ranked()) return op.SetOutput(0, x);
  if (x.rank() < 2) return op.Error("input has shape {}, expected [N,C,...]", ToString(*x.shape));
  const Dim& channels = (*x.shape)[1];
  if (channels.known() && channels.value() % groups != 0)
    return op.Error("{} channels do not divide into {} groups", channels.value(), groups);
  for (int i = 1; i < 3; ++i) {
    if (!op.input(i).ranked()) continue;
    const Dim& size = (*op.input(i).shape)[0];
    if (!size.Compatible(channels) && !size.Compatible(Dim(groups)))
      return op.Error("input {} has {} elements for {} channels", i, size.ToString(),
                      channels.ToString());
  }
  return op.SetOutput(0, x);
}

// [C], or before opset 21 a value for each group, as [C,1,..] below a tensor of `rank` axes.
ValueId PerChannel(Builder& b, ValueId v, int64_t channels, int rank) {
  const int64_t count = b.type(v).dims().Elements();
  if (count != channels)
    v = b.Emit("Expand", {b.Reshape(v, Dims({count, 1})), b.Ints({count, channels / count})});
  Dims dims = Dims::Filled(rank - 1, 1);
  dims[0] = channels;
  return b.Reshape(v, dims);
}

Status NeedsStaticShapes(ExpandContext& e) {
  for (int i = 0; i < 3; ++i)
    if (!e.type(e.input(i)).Static())
      return Unsupported("{} '{}': needs static shapes", e.node().op, e.node().name);
  return {};
}

// Each group of the channels of x[N,C,...] is an instance of its own.
ValueId NormalizedGroups(ExpandContext& e, ValueId x, int64_t groups) {
  const Dims dims = e.type(x).dims();
  const Dims grouped({dims[0], groups, dims.Elements(1, dims.rank()) / groups});
  const ValueId xhat = e.Emit(
      "InstanceNormalization",
      {e.Reshape(x, grouped), e.Filled(1, e.dtype(x), {groups}), e.Filled(0, e.dtype(x), {groups})},
      {{"epsilon", e.attributes().Float("epsilon", 1e-5f)}});
  return e.Reshape(xhat, dims);
}

// 2-byte floats are normalised in f32 unless told otherwise.
Status ExpandGroup(ExpandContext& e) {
  MINIM_TRY(NeedsStaticShapes(e));
  const Dims x = e.type(e.input(0)).dims();
  const DType dtype = e.dtype(e.input(0));
  const bool widen = SizeOf(dtype) == 2 && e.attributes().Int("stash_type", 1) == 1;
  const int64_t groups = e.attributes().Int("num_groups", 1);
  const ValueId wide = e.Cast(e.input(0), widen ? DType::f32 : dtype);
  const ValueId narrow = e.Cast(NormalizedGroups(e, wide, groups), dtype);
  const ValueId scaled = e.Mul(narrow, PerChannel(e, e.input(1), x[1], x.rank()));
  e.SetOutput(0, e.Add(scaled, PerChannel(e, e.input(2), x[1], x.rank())));
  return {};
}

// ---- GroupNorm of [N,C,...] or, with channels_last, [N,...,C]; perhaps SiLU after it

bool ChannelsLast(const Attributes& attributes) { return attributes.Int("channels_last", 1) != 0; }

Status InferGroupNorm(InferContext& op) {
  const TensorType& x = op.input(0);
  const int64_t groups = op.attributes().Int("groups", 0),
                activation = op.attributes().Int("activation", 0);
  if (groups < 1) return op.Error("groups is {}, expected 1 or more", groups);
  if (activation != 0 && activation != 1)
    return op.Error("activation is {}, expected 0 (none) or 1 (SiLU)", activation);
  for (int i = 1; i < 3; ++i) MINIM_TRY(op.HasRank(i, 1));
  if (!x.ranked()) return op.SetOutput(0, x);
  if (x.rank() < 2) return op.Error("input has shape {}, expected [N,C,...]", ToString(*x.shape));
  const Dim& channels = ChannelsLast(op.attributes()) ? x.shape->back() : (*x.shape)[1];
  if (channels.known() && channels.value() % groups != 0)
    return op.Error("{} channels do not divide into {} groups", channels.value(), groups);
  for (int i = 1; i < 3; ++i)
    if (op.input(i).ranked() && !(*op.input(i).shape)[0].Compatible(channels))
      return op.Error("input {} has {} elements for {} channels", i,
                      (*op.input(i).shape)[0].ToString(), channels.ToString());
  return op.SetOutput(0, x);
}

// In f32 (Wu and He, "Group normalization", 2018).
Status ExpandGroupNorm(ExpandContext& e) {
  MINIM_TRY(NeedsStaticShapes(e));
  const DType dtype = e.dtype(e.input(0));
  const int rank = e.rank(e.input(0));
  const bool last = ChannelsLast(e.attributes());
  std::vector<int64_t> to_first = {0, rank - 1}, to_last = {0};
  for (int i = 1; i + 1 < rank; ++i) to_first.push_back(i);
  for (int i = 2; i < rank; ++i) to_last.push_back(i);
  to_last.push_back(1);
  ValueId x = e.Cast(e.input(0), dtype == DType::f64 ? dtype : DType::f32);
  if (last) x = e.Transpose(x, to_first);
  const int64_t channels = e.type(x).dims()[1];
  const auto line = [&](int i) {
    return PerChannel(e, e.Cast(e.input(i), e.dtype(x)), channels, rank);
  };
  ValueId y = NormalizedGroups(e, x, e.attributes().Int("groups", 1));
  y = e.Add(e.Mul(y, line(1)), line(2));
  if (e.attributes().Int("activation", 0) != 0) y = e.Mul(y, e.Emit("Sigmoid", {y}));
  e.SetOutput(0, e.Cast(last ? e.Transpose(y, to_last) : y, dtype));
  return {};
}

// ---- MeanVarianceNormalization and LpNormalization

Status InferMeanVariance(InferContext& op) {
  const std::vector<int64_t> axes = op.attributes().Ints("axes", {0, 2, 3});
  if (op.input(0).ranked()) MINIM_TRY(Axes(op, axes, op.input(0).rank()).status());
  return InferSameAsFirst(op);
}

Status ExpandMeanVariance(ExpandContext& e) {
  const std::vector<int64_t> axes = e.attributes().Ints("axes", {0, 2, 3});
  const ValueId centred = e.Sub(e.input(0), MeanOver(e, e.input(0), axes));
  const ValueId variance = MeanOver(e, e.Mul(centred, centred), axes);
  e.SetOutput(0, e.Div(centred, e.Add(e.Emit("Sqrt", {variance}), 1e-9)));
  return {};
}

Status InferLp(InferContext& op) {
  const int64_t p = op.attributes().Int("p", 2);
  if (p != 1 && p != 2) return op.Error("p is {}, expected 1 or 2", p);
  if (op.input(0).ranked())
    MINIM_TRY(op.Axis(op.attributes().Int("axis", -1), op.input(0).rank()).status());
  return InferSameAsFirst(op);
}

// Zeros stay zeros: there the norm is taken of ones, which also keeps the gradient finite.
Status ExpandLp(ExpandContext& e) {
  const ValueId x = e.input(0), axis = e.Ints({e.attributes().Int("axis", -1)});
  const auto norm = [&](ValueId v) {
    return e.Emit(e.attributes().Int("p", 2) == 1 ? "ReduceL1" : "ReduceL2", {v, axis},
                  {{"keepdims", int64_t{1}}});
  };
  const ValueId some = e.Select(e.Greater(norm(x), 0), x, e.ScalarLike(1, x));
  e.SetOutput(0, e.Div(x, norm(some)));
  return {};
}

// ---- SwiGLU: a sigmoid(alpha a) b

Status InferSwiGlu(InferContext& op) {
  MINIM_TRY(op.SameDType(0, 1));
  if (op.input(0).ranked()) MINIM_TRY(op.HasShape(1, *op.input(0).shape));
  return op.SetOutput(0, op.input(0));
}

Status ExpandSwiGlu(ExpandContext& e) {
  const float alpha = e.attributes().Float("alpha", 1.0f);
  const ValueId a = e.input(0);
  const ValueId gate = e.Emit("Sigmoid", {alpha == 1 ? a : e.Mul(a, alpha)});
  e.SetOutput(0, e.Mul(e.Mul(a, gate), e.input(1)));
  return {};
}

OpDef Define(std::string name, std::vector<int> since, int inputs,
             std::function<Status(InferContext&)> infer,
             std::function<Status(ExpandContext&)> expand, std::string samples) {
  return {.name = std::move(name),
          .onnx_since = std::move(since),
          .min_inputs = inputs,
          .max_inputs = inputs,
          .dtypes = kFloatTypes,
          .infer = std::move(infer),
          .expand = std::move(expand),
          .precision = PrecisionClass::kFp32,
          .samples = std::move(samples)};
}

}  // namespace

std::vector<OpDef> NormFunctions() {
  OpDef swiglu = Define("SwiGLU", {28}, 2, InferSwiGlu, ExpandSwiGlu,
                        "SwiGLU(a: f32[3,5], b: f32[3,5])\nSwiGLU(a: f16[4], b: f16[4]) "
                        "{alpha=1.5}\nSwiGLU(a: f32[0], b: f32[0])\n");
  swiglu.precision = PrecisionClass::kWidest;
  swiglu.traits = OpTrait::kElementwise;
  OpDef group_norm = Define(
      "GroupNorm", {1}, 3, InferGroupNorm, ExpandGroupNorm,
      "GroupNorm(x: f32[2,3,2,6], g: f32[6], b: f32[6]) {groups=3, epsilon=0.01, activation=0}\n"
      "GroupNorm(x: f32[2,6,3,2], g: f32[6], b: f32[6]) {groups=2, channels_last=0, "
      "activation=1}\n"
      "GroupNorm(x: f16[1,5,4], g: f32[4], b: f32[4]) {groups=2, activation=1}\n"
      "GroupNorm(x: f16[1,4], g: f16[4], b: f16[4]) {groups=2, activation=1}\n");
  group_norm.domain = std::string(kMicrosoftDomain);
  return {Define("GroupNormalization", {18, 21}, 3, InferGroup, ExpandGroup,
                 "GroupNormalization(x: f32[2,6,3,2], s: f32[6], b: f32[6]) {num_groups=3, "
                 "epsilon=0.01}\n"
                 "GroupNormalization(x: f32[2,6,4], s: f32[2], b: f32[2]) {num_groups=2}\n"
                 "GroupNormalization(x: f16[1,4,5], s: f16[4], b: f16[4]) {num_groups=2}\n"
                 "GroupNormalization(x: f16[1,4,5], s: f16[4], b: f16[4]) {num_groups=1, "
                 "stash_type=10}\n"),
          Define("MeanVarianceNormalization", {9, 13}, 1, InferMeanVariance, ExpandMeanVariance,
                 "MeanVarianceNormalization(x: f32[2,3,4,2])\n"
                 "MeanVarianceNormalization(x: f32[2,5]) {axes=[-1]}\n"
                 "MeanVarianceNormalization(x: f16[2,5]) {axes=[0]}\n"),
          Define("LpNormalization", {1, 22}, 1, InferLp, ExpandLp,
                 "LpNormalization(x: f32[2,3,4])\nLpNormalization(x: f32[3,4]) {axis=0, p=1}\n"
                 "LpNormalization(x: f32[2,2] = const [0,0,1,2]) {axis=1}\n"
                 "LpNormalization(x: f16[5])\n"),
          std::move(swiglu), std::move(group_norm)};
}

}  // namespace minim::ops
