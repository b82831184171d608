// ai.onnx.ml: Scaler, Normalizer, Imputer, Binarizer, FeatureVectorizer, ArrayFeatureExtractor.
#include <algorithm>
#include <cmath>

#include "core/dtype.h"
#include "ops/ml_classifier.h"
#include "ops/reference.h"

namespace minim::ops {
namespace {

Status InferAsFloat(InferContext& op) {
  if (!op.input(0).ranked()) return op.SetUnknown(0, DType::f32);
  return op.SetOutput(0, DType::f32, *op.input(0).shape);
}

// One number for all features, or one for each.
ValueId PerFeature(Builder& b, const std::vector<float>& values) {
  const Dims dims = values.size() == 1 ? Dims() : Dims({static_cast<int64_t>(values.size())});
  return b.Constant(Tensor::From<float>(dims, values));
}

Status ExpandScaler(ExpandContext& e) {
  ValueId y = e.Cast(e.input(0), DType::f32);
  const auto offset = e.attributes().Floats("offset"), scale = e.attributes().Floats("scale");
  if (!offset.empty()) y = e.Sub(y, PerFeature(e, offset));
  if (!scale.empty()) y = e.Mul(y, PerFeature(e, scale));
  e.SetOutput(0, y);
  return {};
}

// A row of zeros stays zero.
Status ExpandNormalizer(ExpandContext& e) {
  const std::string norm = e.attributes().String("norm", "MAX");
  const ValueId x = e.Cast(e.input(0), DType::f32);
  const Attributes keep{{"keepdims", int64_t{1}}};
  const ValueId axes = e.Ints({-1});
  const char* reduce = norm == "L1" ? "ReduceL1" : norm == "L2" ? "ReduceL2" : "ReduceMax";
  const ValueId magnitude = norm == "MAX" ? e.Emit("Abs", {x}) : x;
  const ValueId divisor = e.Emit(reduce, {magnitude, axes}, keep);
  const ValueId zero = e.Emit("Equal", {divisor, e.ScalarLike(0, divisor)});
  e.SetOutput(0, e.Div(x, e.Select(zero, e.ScalarLike(1, divisor), divisor)));
  return {};
}

Status ExpandImputer(ExpandContext& e) {
  const ValueId x = e.input(0);
  const Attributes& a = e.attributes();
  const auto floats = a.Floats("imputed_value_floats");
  const auto ints = a.Ints("imputed_value_int64s");
  ValueId missing = kNoValue, value = kNoValue;
  if (IsFloat(e.dtype(x))) {
    const double replaced = a.Float("replaced_value_float", 0);
    missing = std::isnan(replaced) ? e.Emit("IsNaN", {x})
                                   : e.Emit("Equal", {x, e.ScalarLike(replaced, x)});
    value = e.Cast(PerFeature(e, floats), e.dtype(x));
  } else {
    missing = e.Emit(
        "Equal", {x, e.Cast(e.Constant(Tensor::Scalar<int64_t>(a.Int("replaced_value_int64", 0))),
                            e.dtype(x))});
    const Dims dims = ints.size() == 1 ? Dims() : Dims({static_cast<int64_t>(ints.size())});
    value = e.Cast(e.Constant(Tensor::From<int64_t>(dims, ints)), e.dtype(x));
  }
  e.SetOutput(0, e.Select(missing, value, x));
  return {};
}

Status InferImputer(InferContext& op) {
  const size_t count = IsFloat(op.dtype(0)) ? op.attributes().Floats("imputed_value_floats").size()
                                            : op.attributes().Ints("imputed_value_int64s").size();
  if (count == 0) return op.Error("has no imputed values for {}", Name(op.dtype(0)));
  return InferSameAsFirst(op);
}

Status ExpandBinarizer(ExpandContext& e) {
  const ValueId above = e.Greater(e.input(0), e.attributes().Float("threshold", 0));
  e.SetOutput(0, e.Cast(above, e.dtype(e.input(0))));
  return {};
}

// Each input [N] or [N, C] cut or filled with zeros to its given width, side by side.
Status InferVectorizer(InferContext& op) {
  const auto widths = op.attributes().Ints("inputdimensions");
  if (static_cast<int>(widths.size()) != op.input_count())
    return op.Error("has {} inputdimensions and {} inputs", widths.size(), op.input_count());
  int64_t sum = 0;
  for (int64_t width : widths) {
    if (width < 0) return op.Error("inputdimensions holds {}", width);
    sum += width;
  }
  const Dim rows = op.input(0).ranked() && op.input(0).rank() > 0 ? (*op.input(0).shape)[0] : Dim();
  return op.SetOutput(0, DType::f32, Shape{rows, Dim(sum)});
}

Status ExpandVectorizer(ExpandContext& e) {
  const auto widths = e.attributes().Ints("inputdimensions");
  std::vector<ValueId> parts;
  for (size_t i = 0; i < widths.size(); ++i) {
    ValueId x = e.Cast(e.input(static_cast<int>(i)), DType::f32);
    if (e.rank(x) == 1) x = e.Emit("Unsqueeze", {x, e.Ints({1})});
    const Dims dims = e.type(x).dims();
    if (widths[i] < dims[1]) x = e.Slice(x, {0}, {widths[i]}, {1});
    if (widths[i] > dims[1]) x = e.Emit("Pad", {x, e.Ints({0, 0, 0, widths[i] - dims[1]})});
    parts.push_back(x);
  }
  e.SetOutput(0, e.Emit("Concat", parts, {{"axis", int64_t{1}}}));
  return {};
}

// Features of the last axis by index; a row vector comes out as a matrix of one row.
Status InferExtractor(InferContext& op) {
  const TensorType &x = op.input(0), &y = op.input(1);
  if (!x.ranked()) return op.SetUnknown(0, x.dtype);
  if (x.rank() == 0) return op.Error("takes no scalar");
  Shape shape(x.shape->begin(), x.shape->end() - 1);
  if (shape.empty()) shape.push_back(Dim(1));
  const auto count = y.ranked() ? ElementsOf(*y.shape) : std::nullopt;
  shape.push_back(count ? Dim(*count) : Dim());
  return op.SetOutput(0, x.dtype, shape);
}

Status ExpandExtractor(ExpandContext& e) {
  const ValueId index = e.Emit("Reshape", {e.input(1), e.Ints({-1})});
  const ValueId x =
      e.rank(e.input(0)) == 1 ? e.Emit("Unsqueeze", {e.input(0), e.Ints({0})}) : e.input(0);
  e.SetOutput(0, e.Emit("Gather", {x, index}, {{"axis", int64_t{-1}}}));
  return {};
}

OpDef Define(std::string name, int min_inputs, int max_inputs, DTypeList dtypes,
             std::function<Status(InferContext&)> infer,
             std::function<Status(ExpandContext&)> expand, std::string samples) {
  return {.name = std::move(name),
          .domain = std::string(kMlDomain),
          .onnx_since = {1},
          .min_inputs = min_inputs,
          .max_inputs = max_inputs,
          .dtypes = std::move(dtypes),
          .infer = std::move(infer),
          .expand = std::move(expand),
          .samples = std::move(samples)};
}

}  // namespace

std::vector<OpDef> MlFeatures() {
  std::vector<OpDef> defs = {
      Define("Scaler", 1, 1, kNumericTypes, InferAsFloat, ExpandScaler,
             "Scaler(x: f32[3,2]) {offset=[0.5,1.0], scale=[2.0,0.5]}\n"
             "Scaler(x: i64[3,2]) {offset=[1.0], scale=[0.5]}\n"),
      Define("Normalizer", 1, 1, kNumericTypes, InferAsFloat, ExpandNormalizer,
             "Normalizer(x: f32[3,2]) {norm=\"L1\"}\nNormalizer(x: f32[3,2]) {norm=\"L2\"}\n"
             "Normalizer(x: i64[3,2])\nNormalizer(x: f32[2,2] = [0,0,1,2]) {norm=\"L2\"}\n"),
      Define("Imputer", 1, 1, {DType::f32, DType::f64, DType::i64, DType::i32}, InferImputer,
             ExpandImputer,
             "Imputer(x: f32[2,2] = away_from(0)) {imputed_value_floats=[5.0,6.0]}\n"
             "Imputer(x: i64[4] = [1,-1,-1,2]) {imputed_value_int64s=[5], "
             "replaced_value_int64=-1}\n"),
      Define("Binarizer", 1, 1, kNumericTypes, InferSameAsFirst, ExpandBinarizer,
             "Binarizer(x: f32[3,2]) {threshold=0.25}\nBinarizer(x: i64[5])\n"),
      Define("FeatureVectorizer", 1, -1, kNumericTypes, InferVectorizer, ExpandVectorizer,
             "FeatureVectorizer(a: f32[3,2], b: f32[3]) {inputdimensions=[2,1]}\n"
             "FeatureVectorizer(a: i64[3,2], b: i64[3,2]) {inputdimensions=[1,4]}\n"),
      Define("ArrayFeatureExtractor", 2, 2, {}, InferExtractor, ExpandExtractor,
             "ArrayFeatureExtractor(x: f32[3,4], i: i64[2] = [3,1])\n"
             "ArrayFeatureExtractor(x: i64[4], i: i64[1,2] = [0,2])\n")};
  defs.back().traits = OpTrait::kStrings;
  return defs;
}

}  // namespace minim::ops
