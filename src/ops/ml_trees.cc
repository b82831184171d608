// ai.onnx.ml: TreeEnsembleRegressor, TreeEnsembleClassifier, TreeEnsemble. All expand to
// ai.minim.TreeScores, the sum of the leaves' weights, and what ai.onnx does with it.
#include <algorithm>
#include <set>

#include "core/dtype.h"
#include "core/forest.h"
#include "ops/ml_classifier.h"
#include "ops/reference.h"

namespace minim::ops {
namespace {

ValueId Scores(ExpandContext& e, const std::string& form, int64_t columns) {
  Attributes attributes = e.attributes();
  attributes.Set("form", form);
  attributes.Set("columns", columns);
  // Doubles are compared as doubles, all else as floats.
  ValueId x = e.dtype(e.input(0)) == DType::f64 ? e.input(0) : e.Cast(e.input(0), DType::f32);
  if (e.rank(x) == 1) x = e.Emit("Unsqueeze", {x, e.Ints({0})});
  return e.Emit("TreeScores", {x}, std::move(attributes), kMinimDomain);
}

// base_values are added after aggregation.
ValueId WithBase(ExpandContext& e, ValueId scores) {
  const Tensor base = FloatsOf(e.attributes(), "base_values");
  if (base.size() == 0) return scores;
  return e.Add(scores, e.Cast(e.Constant(base), e.dtype(scores)));
}

Status InferScores(InferContext& op) {
  auto forest = ForestOf(op.attributes());
  if (!forest.ok()) return op.Error("{}", forest.status().message());
  MINIM_TRY(op.HasRank(0, 2));
  const int64_t columns = op.attributes().Int("columns", forest->targets);
  if (columns < forest->targets)
    return op.Error("leaves name target {}, there are {}", forest->targets - 1, columns);
  if (op.input(0).ranked() && (*op.input(0).shape)[1].known() &&
      (*op.input(0).shape)[1].value() < forest->features)
    return op.Error("reads feature {} of {}", forest->features - 1,
                    (*op.input(0).shape)[1].ToString());
  return op.SetOutput(0, DType::f32, Shape{RowCountOf(op), Dim(columns)});
}

Status ScoresReference(RefContext& op) {
  MINIM_TRY(const Forest forest, ForestOf(op.attributes()));
  const int64_t rows = op.dims(0)[0], features = op.dims(0)[1];
  RefTensor& y = op.Output(0);
  const int64_t columns = y.dims()[1];
  std::vector<double> row(static_cast<size_t>(features));
  for (int64_t n = 0; n < rows; ++n) {
    for (int64_t f = 0; f < features; ++f) row[f] = op.input(0).At(n * features + f);
    EvaluateForest(forest, row, y.f64().subspan(n * columns, columns));
  }
  return {};
}

Status InferRegressor(InferContext& op) {
  return op.SetOutput(0, DType::f32,
                      Shape{RowCountOf(op), Dim(op.attributes().Int("n_targets", 1))});
}

Status ExpandRegressor(ExpandContext& e, const std::string& form, const std::string& post) {
  const ValueId scores = WithBase(e, Scores(e, form, e.attributes().Int("n_targets", 1)));
  e.SetOutput(0, PostTransform(e, scores, post));
  return {};
}

// Two labels of which the leaves know one: the score of the positive class.
bool HasOneScore(const Attributes& a, const Tensor& labels) {
  const auto ids = a.Ints("class_ids");
  return labels.size() <= 2 && std::set<int64_t>(ids.begin(), ids.end()).size() <= 1;
}

Status InferClassifier(InferContext& op) {
  const Tensor labels = ClassLabels(op.attributes());
  if (!labels.defined()) return op.Error("has no class labels");
  const bool probit = op.attributes().String("post_transform", "NONE") == "PROBIT";
  const bool one = HasOneScore(op.attributes(), labels);
  MINIM_TRY(op.SetOutput(0, labels.dtype(), Shape{RowCountOf(op)}));
  return op.SetOutput(1, DType::f32,
                      Shape{RowCountOf(op), Dim(one ? (probit ? 1 : 2) : labels.size())});
}

// ONNX Runtime: weights that are all positive are probabilities, with 0.5 as the border; else the
// border is 0.
Status ExpandOneScore(ExpandContext& e, Tensor labels, const std::string& post) {
  const std::vector<int64_t> ids = e.attributes().Ints("class_ids");
  const int64_t id = ids.empty() ? 0 : ids[0];
  ValueId score = Scores(e, "class", std::max<int64_t>(id + 1, 1));
  if (id > 0) score = e.Slice(score, {id}, {id + 1}, {1});
  const Tensor base = FloatsOf(e.attributes(), "base_values");
  if (base.size() > 0) {
    const int64_t at = base.size() - 1;
    const float value = Converted(base.view(), DType::f32).as<float>()[at];
    score = e.Add(score, value);
  }
  const Tensor weights = FloatsOf(e.attributes(), "class_weights");
  const Tensor wide = Converted(weights.view(), DType::f64);
  const bool positive = std::all_of(wide.as<double>().begin(), wide.as<double>().end(),
                                    [](double w) { return w >= 0; });
  if (labels.size() == 1) labels = Tensor::From<int64_t>({2}, {0, 1});
  e.SetOutput(0, PickLabels(e, labels, Exceeds(e, score, positive ? 0.5 : 0.0)));
  e.SetOutput(
      1, BothScores(e, score, positive ? SecondScore::kComplement : SecondScore::kNegative, post));
  return {};
}

Status ExpandClassifier(ExpandContext& e) {
  const Tensor labels = ClassLabels(e.attributes());
  const std::string post = e.attributes().String("post_transform", "NONE");
  if (HasOneScore(e.attributes(), labels)) return ExpandOneScore(e, labels, post);
  const ValueId scores = WithBase(e, Scores(e, "class", labels.size()));
  e.SetOutput(0, PickLabels(e, labels, LargestOf(e, scores)));
  e.SetOutput(1, PostTransform(e, scores, post));
  return {};
}

std::string PostOf(int64_t code) {
  constexpr const char* kNames[] = {"NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT"};
  return code >= 0 && code < 5 ? kNames[code] : "NONE";
}

// Two stumps on features 0 and 1.
constexpr const char* kStumps =
    "nodes_treeids=[0,0,0,1,1,1], nodes_nodeids=[0,1,2,0,1,2], nodes_featureids=[0,0,0,1,0,0], "
    "nodes_values=[0.1,0.0,0.0,-0.2,0.0,0.0], "
    "nodes_modes=[\"BRANCH_LEQ\",\"LEAF\",\"LEAF\",\"BRANCH_GT\",\"LEAF\",\"LEAF\"], "
    "nodes_truenodeids=[1,0,0,1,0,0], nodes_falsenodeids=[2,0,0,2,0,0], ";

std::string WeightsOf(std::string_view group, std::string_view ids) {
  return fmt::format(
      "{0}_treeids=[0,0,1,1], {0}_nodeids=[1,2,1,2], {0}_ids=[{1}], "
      "{0}_weights=[0.5,-1.0,2.0,0.25]",
      group, ids);
}

constexpr const char* kSplits =
    "nodes_splits=tensor f32[1] [0.1], nodes_featureids=[0], nodes_modes=tensor u8[1] [0], "
    "nodes_truenodeids=[0], nodes_falsenodeids=[1], nodes_trueleafs=[1], nodes_falseleafs=[1], "
    "leaf_targetids=[0,1], leaf_weights=tensor f32[2] [1.5,2.5], tree_roots=[0], n_targets=2";

}  // namespace

std::vector<OpDef> MlTrees() {
  const std::string domain(kMlDomain);
  return {
      {.name = "TreeEnsembleRegressor",
       .domain = domain,
       .onnx_since = {1, 3},  // 5 deprecates it, and no checker takes it there
       .dtypes = kNumericTypes,
       .infer = InferRegressor,
       .expand =
           [](ExpandContext& e) {
             return ExpandRegressor(e, "target", e.attributes().String("post_transform", "NONE"));
           },
       .samples = fmt::format("TreeEnsembleRegressor(x: f32[5,2]) {{{}{}, base_values=[0.5]}}\n"
                              "TreeEnsembleRegressor(x: f64[5,2]) {{{}{}, n_targets=2, "
                              "aggregate_function=\"MIN\"}}\n",
                              kStumps, WeightsOf("target", "0,0,0,0"), kStumps,
                              WeightsOf("target", "0,1,1,0"))},
      {.name = "TreeEnsembleClassifier",
       .domain = domain,
       .onnx_since = {1, 3},  // 5 deprecates it, and no checker takes it there
       .dtypes = kNumericTypes,
       .infer = InferClassifier,
       .expand = ExpandClassifier,
       .samples = fmt::format(
           "l, s = TreeEnsembleClassifier(x: f32[5,2]) {{{}{}, classlabels_int64s=[4,5], "
           "post_transform=\"LOGISTIC\"}}\n"
           "l, s = TreeEnsembleClassifier(x: i64[5,2]) {{{}{}, "
           "classlabels_strings=[\"a\",\"b\",\"c\"], post_transform=\"SOFTMAX\"}}\n",
           kStumps, WeightsOf("class", "0,0,0,0"), kStumps, WeightsOf("class", "0,2,1,0"))},
      {.name = "TreeEnsemble",
       .domain = domain,
       .onnx_since = {5},
       .dtypes = kNumericTypes,
       .infer =
           [](InferContext& op) {
             return op.SetOutput(0, op.dtype(0),
                                 Shape{RowCountOf(op), Dim(op.attributes().Int("n_targets", 1))});
           },
       .expand = [](ExpandContext& e) -> Status {
         const ValueId scores = Scores(e, "splits", e.attributes().Int("n_targets", 1));
         const ValueId y =
             PostTransform(e, scores, PostOf(e.attributes().Int("post_transform", 0)));
         e.SetOutput(0, e.Cast(y, e.dtype(e.input(0))));
         return {};
       },
       .samples = fmt::format("TreeEnsemble(x: f32[5,2]) {{{}}}\n", kSplits)},
      {.name = "TreeScores",
       .domain = std::string(kMinimDomain),
       .dtypes = {DType::f32, DType::f64},
       .infer = InferScores,
       .reference = ScoresReference,
       .samples = fmt::format("TreeScores(x: f32[5,2]) {{{}{}, columns=2}}\n", kStumps,
                              WeightsOf("target", "0,0,0,0"))}};
}

}  // namespace minim::ops
