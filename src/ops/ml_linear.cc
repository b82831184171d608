// ai.onnx.ml: LinearRegressor, LinearClassifier, and the post transforms that ai.onnx lacks.
#include <cmath>

#include "ops/elementwise.h"
#include "ops/ml_classifier.h"
#include "ops/reference.h"

namespace minim::ops {
namespace {

// x W^T + b with W [outputs, features] given flat.
Result<ValueId> LinearScores(ExpandContext& e, int64_t outputs) {
  const std::vector<float> weights = e.attributes().Floats("coefficients");
  std::vector<float> bias = e.attributes().Floats("intercepts");
  const auto count = static_cast<int64_t>(weights.size());
  if (outputs < 1 || count % outputs != 0)
    return InvalidArgument("{} '{}': {} coefficients for {} outputs", e.node().op, e.node().name,
                           count, outputs);
  if (bias.empty()) bias.assign(static_cast<size_t>(outputs), 0);
  if (static_cast<int64_t>(bias.size()) != outputs)
    return InvalidArgument("{} '{}': {} intercepts for {} outputs", e.node().op, e.node().name,
                           bias.size(), outputs);
  const ValueId w = e.Constant(Tensor::From<float>({outputs, count / outputs}, weights));
  const ValueId b = e.Constant(Tensor::From<float>({outputs}, bias));
  return e.Emit("Gemm", {FeatureRows(e, e.input(0)), w, b}, {{"transB", int64_t{1}}});
}

Status InferRegressor(InferContext& op) {
  return op.SetOutput(0, DType::f32, Shape{RowCountOf(op), Dim(op.attributes().Int("targets", 1))});
}

Status ExpandRegressor(ExpandContext& e) {
  MINIM_TRY(const ValueId scores, LinearScores(e, e.attributes().Int("targets", 1)));
  e.SetOutput(0, PostTransform(e, scores, e.attributes().String("post_transform", "NONE")));
  return {};
}

// One row of coefficients per class, or one for both of two classes.
int64_t RowsOfWeights(const Attributes& a) {
  return std::max<int64_t>(1, static_cast<int64_t>(a.Floats("intercepts").size()));
}

Status InferClassifier(InferContext& op) {
  const Tensor labels = ClassLabels(op.attributes());
  const int64_t rows = RowsOfWeights(op.attributes());
  const bool both = rows == 1 && labels.defined() && labels.size() == 2 &&
                    op.attributes().String("post_transform", "NONE") != "PROBIT";
  MINIM_TRY(op.SetOutput(0, labels.defined() ? labels.dtype() : DType::i64, Shape{RowCountOf(op)}));
  return op.SetOutput(1, DType::f32, Shape{RowCountOf(op), Dim(both ? 2 : rows)});
}

Status ExpandClassifier(ExpandContext& e) {
  const std::string kind = e.attributes().String("post_transform", "NONE");
  Tensor labels = ClassLabels(e.attributes());
  const int64_t rows = RowsOfWeights(e.attributes());
  MINIM_TRY(const ValueId scores, LinearScores(e, rows));
  if (rows > 1) {
    if (labels.defined() && labels.size() != rows)
      return InvalidArgument("LinearClassifier '{}': {} labels for {} rows of coefficients",
                             e.node().name, labels.size(), rows);
    const ValueId largest = LargestOf(e, scores);
    e.SetOutput(0, labels.defined() ? PickLabels(e, labels, largest) : largest);
    e.SetOutput(1, PostTransform(e, scores, kind));
    return {};
  }
  const bool both = labels.defined() && labels.size() == 2;
  if (!both) labels = Tensor::From<int64_t>({2}, {0, 1});
  e.SetOutput(0, PickLabels(e, labels, Exceeds(e, scores, 0)));
  e.SetOutput(1, both ? BothScores(e, scores, SecondScore::kComplement, kind)
                      : PostTransform(e, scores, kind));
  return {};
}

// sqrt(2) erf^-1(2 p - 1) by Winitzki's approximation, as ONNX Runtime has it.
double Probit(double p) {
  const double x = 2 * p - 1, sign = x < 0 ? -1 : 1;
  const double rest = (1 - x) * (1 + x);
  if (rest == 0) return 0;
  const double log = std::log(rest);
  const double v = 2 / (3.14159274101257324 * 0.147) + 0.5 * log;
  return 1.41421356 * sign * std::sqrt(-v + std::sqrt(v * v - log / 0.147));
}

// A softmax in which scores of zero keep to zero's share of the scale.
Status SoftmaxZeroReference(RefContext& op) {
  const RefTensor& x = op.input(0);
  RefTensor& y = op.Output(0);
  const int64_t width = x.dims()[x.dims().rank() - 1];
  for (int64_t row = 0; width > 0 && row < x.size() / width; ++row) {
    const auto in = x.f64().subspan(row * width, width);
    const auto out = y.f64().subspan(row * width, width);
    const double largest = *std::max_element(in.begin(), in.end());
    double sum = 0;
    for (int64_t i = 0; i < width; ++i) {
      const bool zero = std::fabs(in[i]) <= 1e-7;
      out[i] = zero ? in[i] * std::exp(-largest) : std::exp(in[i] - largest);
      sum += out[i];
    }
    for (double& value : out) value = sum == 0 ? 0.5 : value / sum;
  }
  return {};
}

Status ProbitReference(RefContext& op) {
  RefTensor& y = op.Output(0);
  for (int64_t i = 0; i < y.size(); ++i) y.f64()[i] = Probit(op.input(0).f64()[i]);
  return {};
}

}  // namespace

std::vector<OpDef> MlLinear() {
  const std::string domain(kMlDomain), minim(kMinimDomain);
  return {
      {.name = "LinearRegressor",
       .domain = domain,
       .onnx_since = {1},
       .dtypes = kNumericTypes,
       .infer = InferRegressor,
       .expand = ExpandRegressor,
       .samples =
           "LinearRegressor(x: f32[3,2]) {coefficients=[0.5,-1.5], intercepts=[0.25]}\n"
           "LinearRegressor(x: i64[3,2]) {coefficients=[0.5,-1.5,1.0,2.0], targets=2}\n"
           "LinearRegressor(x: f64[2]) {coefficients=[0.5,1.5], post_transform=\"LOGISTIC\"}\n"},
      {.name = "LinearClassifier",
       .domain = domain,
       .onnx_since = {1},
       .dtypes = kNumericTypes,
       .infer = InferClassifier,
       .expand = ExpandClassifier,
       .samples =
           "l, s = LinearClassifier(x: f32[3,2]) {coefficients=[0.5,-1.5], intercepts=[0.25], "
           "classlabels_ints=[3,7], post_transform=\"LOGISTIC\"}\n"
           "l, s = LinearClassifier(x: f32[3,2]) {coefficients=[0.5,-1.5,1.0,2.0,0.1,0.2], "
           "intercepts=[0.25,0.0,-0.5], classlabels_strings=[\"a\",\"b\",\"c\"], "
           "post_transform=\"SOFTMAX\"}\n"
           "l, s = LinearClassifier(x: f32[3,2]) {coefficients=[0.5,-1.5], intercepts=[0.25]}\n"},
      {.name = "SoftmaxZero",
       .domain = minim,
       .dtypes = kFloatTypes,
       .infer = InferSameAsFirst,
       .reference = SoftmaxZeroReference,
       .samples = "SoftmaxZero(x: f32[2,3])\nSoftmaxZero(x: f32[1,3] = [0.0,1.5,0.0])\n"},
      {.name = "Probit",
       .domain = minim,
       .dtypes = kFloatTypes,
       .infer = InferSameAsFirst,
       .reference = ProbitReference,
       .samples = "Probit(x: f32[2,3] = uniform(0.01,0.99))\n"}};
}

}  // namespace minim::ops
