#include "ops/ml_classifier.h"

namespace minim {

Tensor ClassLabels(const Attributes& attributes) {
  for (const char* name : {"classlabels_ints", "classlabels_int64s"}) {
    const std::vector<int64_t> ints = attributes.Ints(name);
    if (!ints.empty()) return Tensor::From<int64_t>({static_cast<int64_t>(ints.size())}, ints);
  }
  const std::vector<std::string> strings = attributes.Strings("classlabels_strings");
  if (strings.empty()) return {};
  return Tensor::From<std::string>({static_cast<int64_t>(strings.size())}, strings);
}

ValueId PostTransform(Builder& b, ValueId scores, const std::string& kind) {
  if (kind == "LOGISTIC") return b.Emit("Sigmoid", {scores});
  if (kind == "SOFTMAX") return b.Emit("Softmax", {scores}, {{"axis", int64_t{-1}}});
  if (kind == "SOFTMAX_ZERO") return b.Emit("SoftmaxZero", {scores}, {}, kMinimDomain);
  if (kind == "PROBIT") return b.Emit("Probit", {scores}, {}, kMinimDomain);
  return scores;
}

ValueId BothScores(Builder& b, ValueId score, SecondScore form, const std::string& kind) {
  if (kind == "PROBIT") return PostTransform(b, score, kind);
  const bool logistic = kind == "LOGISTIC";
  const ValueId first = form == SecondScore::kComplement && !logistic
                            ? b.Sub(b.ScalarLike(1, score), score)
                            : b.Neg(score);
  const ValueId both = b.Emit("Concat", {first, score}, {{"axis", int64_t{1}}});
  if (form == SecondScore::kComplement && !logistic) return both;
  return PostTransform(b, both, kind);
}

ValueId PickLabels(Builder& b, const Tensor& labels, ValueId index) {
  return b.Emit("Gather", {b.Constant(labels), index});
}

ValueId Exceeds(Builder& b, ValueId score, double threshold) {
  const ValueId above = b.Cast(b.Greater(score, threshold), DType::i64);
  return b.Emit("Reshape", {above, b.Ints({-1})});
}

ValueId LargestOf(Builder& b, ValueId scores) {
  return b.Emit("ArgMax", {scores}, {{"axis", int64_t{1}}, {"keepdims", int64_t{0}}});
}

ValueId FeatureRows(Builder& b, ValueId x) {
  const ValueId rows = b.Cast(x, DType::f32);
  return b.rank(x) == 1 ? b.Emit("Unsqueeze", {rows, b.Ints({0})}) : rows;
}

Dim RowCountOf(const InferContext& op) {
  if (!op.input(0).ranked() || op.input(0).rank() == 0) return Dim();
  return op.input(0).rank() == 1 ? Dim(1) : (*op.input(0).shape)[0];
}

}  // namespace minim
