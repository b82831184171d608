// Softmax, LogSoftmax, Hardmax along one axis, and the two classification losses.
#include <cmath>

#include "ops/elementwise.h"
#include "ops/movement.h"

namespace minim::ops {
namespace {

// Visits the lines of `dims` along `axis`: f(offset of the first element, stride, count).
template <typename F>
void ForEachLine(const Dims& dims, int axis, F&& f) {
  const int64_t outer = dims.Elements(0, axis), inner = dims.Elements(axis + 1, dims.rank());
  for (int64_t o = 0; o < outer; ++o)
    for (int64_t i = 0; i < inner; ++i) f(o * dims[axis] * inner + i, inner, dims[axis]);
}

int AxisOf(const Attributes& a, int rank) { return Positive(a.Int("axis", -1), rank); }

Status InferAxis(InferContext& op) {
  if (op.input(0).ranked() && op.input(0).rank() > 0)
    MINIM_TRY(op.Axis(op.attributes().Int("axis", -1), op.input(0).rank()).status());
  return InferSameAsFirst(op);
}

// log(sum(exp)) of a line, shifted by the largest element.
double LogSumExp(std::span<const double> x, int64_t start, int64_t stride, int64_t count) {
  double largest = -INFINITY, sum = 0;
  for (int64_t i = 0; i < count; ++i) largest = std::max(largest, x[start + i * stride]);
  for (int64_t i = 0; i < count; ++i) sum += std::exp(x[start + i * stride] - largest);
  return largest + std::log(sum);
}

template <typename F>
Reference Lines(F f) {
  return [f](RefContext& op) -> Status {
    const auto x = op.input(0).f64();
    const auto y = op.Output(0).f64();
    const Dims dims = op.dims(0).rank() == 0 ? Dims({1}) : op.dims(0);
    ForEachLine(
        dims, AxisOf(op.attributes(), dims.rank()),
        [&](int64_t start, int64_t stride, int64_t count) { f(x, y, start, stride, count); });
    return {};
  };
}

using Line = std::span<const double>;

void LogSoftmaxLine(Line x, std::span<double> y, int64_t start, int64_t stride, int64_t count) {
  const double total = LogSumExp(x, start, stride, count);
  for (int64_t i = start; count-- > 0; i += stride) y[i] = x[i] - total;
}

void SoftmaxLine(Line x, std::span<double> y, int64_t start, int64_t stride, int64_t count) {
  const double total = LogSumExp(x, start, stride, count);
  for (int64_t i = start; count-- > 0; i += stride) y[i] = std::exp(x[i] - total);
}

void HardmaxLine(Line x, std::span<double> y, int64_t start, int64_t stride, int64_t count) {
  int64_t best = start;
  for (int64_t i = 0; i < count; ++i)
    if (x[start + i * stride] > x[best]) best = start + i * stride;
  if (count > 0) y[best] = 1;
}

ValueId SumAlong(GradContext& g, ValueId value) {
  return g.ReduceSum(value, {g.attributes().Int("axis", -1)}, true);
}

Status SoftmaxGradient(GradContext& g) {  // y (dy - sum(y dy))
  const ValueId y = g.output(0), dy = g.output_grad(0);
  g.SetInputGrad(0, g.Mul(y, g.Sub(dy, SumAlong(g, g.Mul(y, dy)))));
  return {};
}

Status LogSoftmaxGradient(GradContext& g) {  // dy - softmax sum(dy)
  const ValueId dy = g.output_grad(0);
  g.SetInputGrad(0, g.Sub(dy, g.Mul(g.Emit("Exp", {g.output(0)}), SumAlong(g, dy))));
  return {};
}

// Before 13 every axis from `axis` (default 1) on was one: flatten, apply, restore the shape.
Status Upgrade(UpgradeContext& u) {
  if (u.from_version >= 13) return {};
  const int64_t axis = u.node.attributes.Int("axis", 1);
  const ValueId x = u.node.input(0), y = u.node.output(0);
  const TensorType& type = u.graph.type(x);
  if (type.ranked() && (axis == -1 || axis == type.rank() - 1)) {
    u.node.attributes.Set("axis", int64_t{-1});
    return {};
  }
  const auto fresh = [&](DType dtype) { return u.graph.AddValue("", {dtype, std::nullopt}); };
  const DType dtype = u.graph.type(x).dtype;
  const ValueId flat = fresh(dtype), shape = fresh(DType::i64), result = fresh(dtype);
  u.before.push_back({.op = "Shape", .name = "", .inputs = {x}, .outputs = {shape}});
  u.before.push_back({.op = "Flatten",
                      .name = "",
                      .inputs = {x},
                      .outputs = {flat},
                      .attributes = {{"axis", axis}}});
  u.after.push_back({.op = "Reshape", .name = "", .inputs = {result, shape}, .outputs = {y}});
  u.node.inputs[0] = flat;
  u.node.outputs[0] = result;
  u.node.attributes.Set("axis", int64_t{-1});
  return {};
}

OpDef Define(std::string name, Reference reference, std::function<Status(GradContext&)> gradient) {
  std::string samples = fmt::format(
      "{0}(x: f32[3,17])\n{0}(x: f32[2,3,5]) {{axis=1}}\n{0}(x: f32[3,2]) {{axis=0}}\n"
      "{0}(x: f32[0,3])\n{0}(x: f16[2,3])\n{0}(x: bf16[2,3])\n",
      name);
  return {.name = std::move(name),
          .onnx_since = {1, 11, 13},
          .dtypes = kFloatTypes,
          .infer = InferAxis,
          .gradient = std::move(gradient),
          .reference = std::move(reference),
          .upgrade = Upgrade,
          .precision = PrecisionClass::kFp32,
          .samples = std::move(samples)};
}

// ---- Losses over scores [N,C,d1..dk] and labels [N,d1..dk].

// Scores are input `i`; labels and weights follow them.
Status CheckLoss(const InferContext& op, int i) {
  const TensorType &x = op.input(i), &labels = op.input(i + 1);
  const std::string reduction = op.attributes().String("reduction", "mean");
  if (reduction != "mean" && reduction != "sum" && reduction != "none")
    return op.Error("reduction is '{}', expected mean, sum or none", reduction);
  if (!IsInteger(labels.dtype))
    return op.Error("labels are {}, expected integers", Name(labels.dtype));
  if (op.has_input(i + 2)) MINIM_TRY(op.SameDType(i, i + 2));
  if (!x.ranked()) return {};
  if (x.rank() < 2) return op.Error("scores have shape {}, expected [N,C,...]", ToString(*x.shape));
  MINIM_TRY(op.HasRank(i + 1, x.rank() - 1));
  for (int k = 0; labels.ranked() && k < labels.rank(); ++k)
    if (!(*labels.shape)[k].Compatible((*x.shape)[k == 0 ? 0 : k + 1]))
      return op.Error("labels {} do not fit scores {}", ToString(*labels.shape),
                      ToString(*x.shape));
  if (!op.has_input(i + 2)) return {};
  MINIM_TRY(op.HasRank(i + 2, 1));
  const TensorType& weights = op.input(i + 2);
  if (weights.ranked() && !(*weights.shape)[0].Compatible((*x.shape)[1]))
    return op.Error("weights {} do not fit scores {}", ToString(*weights.shape),
                    ToString(*x.shape));
  return {};
}

// dy has an element for each label, or one for their sum.
Status InferLossGrad(InferContext& op) {
  MINIM_TRY(CheckLoss(op, 1));
  const bool each = op.attributes().String("reduction", "mean") == "none";
  const TensorType &dy = op.input(0), &labels = op.input(2);
  if (dy.Static() && labels.Static() &&
      dy.dims().Elements() != (each ? labels.dims().Elements() : 1))
    return op.Error("gradient {} does not fit labels {}", ToString(*dy.shape),
                    ToString(*labels.shape));
  return op.SetOutput(0, op.input(1));
}

Status InferLoss(InferContext& op) {
  const TensorType &x = op.input(0), &labels = op.input(1);
  MINIM_TRY(CheckLoss(op, 0));
  const std::string reduction = op.attributes().String("reduction", "mean");
  MINIM_TRY(op.SetOutput(1, x));
  if (reduction != "none") return op.SetOutput(0, x.dtype, Shape());
  if (!labels.ranked()) return op.SetUnknown(0, x.dtype);
  return op.SetOutput(0, x.dtype, *labels.shape);
}

// What one label means: its class, or ignored, and its weight.
struct Label {
  int64_t index = 0;
  double weight = 0;
  bool ignored = false;
};

Result<std::vector<Label>> Labels(const RefContext& op, int input, int64_t classes) {
  const bool may_ignore = op.attributes().Has("ignore_index");
  const int64_t ignore = op.attributes().Int("ignore_index", 0);
  std::vector<Label> labels;
  for (int64_t value : op.Ints(input)) {
    Label label{.index = value, .weight = 1, .ignored = may_ignore && value == ignore};
    if (label.ignored) {
      label = {.index = 0, .weight = 0, .ignored = true};
    } else if (value < 0 || value >= classes) {
      return op.Error("label {} is outside [0, {})", value, classes);
    } else if (op.has_input(input + 1)) {
      label.weight = op.input(input + 1).f64()[value];
    }
    labels.push_back(label);
  }
  return labels;
}

double TotalWeight(const std::vector<Label>& labels) {
  double total = 0;
  for (const Label& label : labels) total += label.weight;
  return total;
}

// Place of label l's score.
int64_t ScoreOf(const Dims& x, int64_t l, int64_t index) {
  const int64_t inner = x.Elements(2, x.rank());
  return (l / inner * x[1] + index) * inner + l % inner;
}

Status WriteLoss(RefContext& op, std::span<const double> log_prob, const Dims& x) {
  MINIM_TRY(const std::vector<Label> labels, Labels(op, 1, x[1]));
  const std::string reduction = op.attributes().String("reduction", "mean");
  RefTensor& loss = op.Output(0);
  double sum = 0;
  for (size_t l = 0; l < labels.size(); ++l) {
    const double value =
        labels[l].ignored ? 0 : -labels[l].weight * log_prob[ScoreOf(x, l, labels[l].index)];
    if (reduction == "none") loss.f64()[l] = value;
    sum += value;
  }
  if (reduction != "none") loss.f64()[0] = reduction == "sum" ? sum : sum / TotalWeight(labels);
  return {};
}

Status NllReference(RefContext& op) { return WriteLoss(op, op.input(0).f64(), op.dims(0)); }

Status CrossEntropyReference(RefContext& op) {
  const Dims& x = op.dims(0);
  std::vector<double> log_prob(op.input(0).size());
  ForEachLine(x, 1, [&](int64_t start, int64_t stride, int64_t count) {
    LogSoftmaxLine(op.input(0).f64(), log_prob, start, stride, count);
  });
  if (op.has_output(1)) std::copy(log_prob.begin(), log_prob.end(), op.Output(1).f64().begin());
  return WriteLoss(op, log_prob, x);
}

// d loss / d log_prob, on the label's place; for the cross entropy also through the softmax.
template <bool kThroughSoftmax>
Status LossGradReference(RefContext& op) {
  const Dims& x = op.dims(1);
  MINIM_TRY(const std::vector<Label> labels, Labels(op, 2, x[1]));
  const std::string reduction = op.attributes().String("reduction", "mean");
  const double scale = reduction == "mean" ? 1 / TotalWeight(labels) : 1;
  const auto dx = op.Output(0).f64();
  for (size_t l = 0; l < labels.size(); ++l) {
    if (labels[l].ignored) continue;
    const double dy = op.input(0).f64()[reduction == "none" ? l : 0] * scale * labels[l].weight;
    for (int64_t c = 0; kThroughSoftmax && c < x[1]; ++c)
      dx[ScoreOf(x, l, c)] += dy * std::exp(op.input(1).f64()[ScoreOf(x, l, c)]);
    dx[ScoreOf(x, l, labels[l].index)] -= dy;
  }
  return {};
}

Attributes LossAttributes(const Attributes& a) {
  Attributes attributes = {{"reduction", a.String("reduction", "mean")}};
  if (a.Has("ignore_index")) attributes.Set("ignore_index", a.Int("ignore_index", 0));
  return attributes;
}

Status EmitLossGrad(GradContext& g, std::string_view name, ValueId log_prob) {
  std::vector<ValueId> inputs = {g.output_grad(0), log_prob, g.input(1)};
  if (g.has_input(2)) inputs.push_back(g.input(2));
  g.SetInputGrad(0, g.Emit(name, inputs, LossAttributes(g.attributes()), kMinimDomain));
  return {};
}

Status NllGradient(GradContext& g) {
  return EmitLossGrad(g, "NegativeLogLikelihoodLossGrad", g.input(0));
}

Status CrossEntropyGradient(GradContext& g) {
  const bool kept = g.output(1) != kNoValue;
  const ValueId log_prob =
      kept ? g.output(1) : g.Emit("LogSoftmax", {g.input(0)}, {{"axis", int64_t{1}}});
  MINIM_TRY(EmitLossGrad(g, "SoftmaxCrossEntropyGrad", log_prob));
  if (!kept || !g.has_output_grad(1)) return {};
  const ValueId dy = g.output_grad(1);
  const ValueId spread = g.Mul(g.Emit("Exp", {log_prob}), g.ReduceSum(dy, {1}, true));
  g.SetInputGrad(0, g.Add(g.input_grads()[0], g.Sub(dy, spread)));
  return {};
}

std::string LossSamples(std::string_view op, std::string_view outputs) {
  return fmt::format(
      "{1}{0}(x: f32[5,4], t: i64[5] = [0,3,1,2,2])\n"
      "{1}{0}(x: f32[3,4], t: i32[3] = [0,-1,1]) {{ignore_index=-1, reduction=\"sum\"}}\n"
      "{1}{0}(x: f32[2,3,2,2], t: i64[2,2,2] = [0,1,2,0,1,2,2,1], w: f32[3] = const [0.5,1,2]) "
      "{{ignore_index=1}}\n"
      "{1}{0}(x: f32[3,4], t: i64[3] = [0,3,1], w: f32[4] = const [1,2,3,4]) "
      "{{reduction=\"none\"}}\n"
      "{1}{0}(x: f16[3,4], t: i64[3] = [0,3,1])\n",
      op, outputs);
}

OpDef DefineLoss(std::string name, std::vector<int> since, Reference reference,
                 std::function<Status(GradContext&)> gradient, std::string samples) {
  return {.name = std::move(name),
          .onnx_since = std::move(since),
          .min_inputs = 2,
          .max_inputs = 3,
          .dtypes = kFloatTypes,
          .infer = InferLoss,
          .gradient = std::move(gradient),
          .reference = std::move(reference),
          .precision = PrecisionClass::kFp32,
          .samples = std::move(samples)};
}

OpDef DefineLossGrad(std::string name, Reference reference) {
  std::string samples = fmt::format(
      "{0}(dy: f32, p: f32[3,4], t: i64[3] = [0,3,1])\n"
      "{0}(dy: f32[2,2], p: f32[2,3,2], t: i64[2,2] = [0,2,1,1], w: f32[3]) "
      "{{reduction=\"none\", ignore_index=1}}\n",
      name);
  return {.name = std::move(name),
          .domain = std::string(kMinimDomain),
          .min_inputs = 3,
          .max_inputs = 4,
          .dtypes = kFloatTypes,
          .infer = InferLossGrad,
          .reference = std::move(reference),
          .precision = PrecisionClass::kFp32,
          .samples = std::move(samples)};
}

}  // namespace

std::vector<OpDef> SoftmaxOps() {
  return {
      Define("Softmax", Lines(SoftmaxLine), SoftmaxGradient),
      Define("LogSoftmax", Lines(LogSoftmaxLine), LogSoftmaxGradient),
      Define("Hardmax", Lines(HardmaxLine), {}),
      DefineLoss("NegativeLogLikelihoodLoss", {12, 13, 22}, NllReference, NllGradient,
                 LossSamples("NegativeLogLikelihoodLoss", "")),
      DefineLoss("SoftmaxCrossEntropyLoss", {12, 13}, CrossEntropyReference, CrossEntropyGradient,
                 LossSamples("SoftmaxCrossEntropyLoss", "") +
                     LossSamples("SoftmaxCrossEntropyLoss", "y, log_prob = ")),
      DefineLossGrad("NegativeLogLikelihoodLossGrad", LossGradReference<false>),
      DefineLossGrad("SoftmaxCrossEntropyGrad", LossGradReference<true>),
  };
}

}  // namespace minim::ops
