// ai.onnx.ml: SVMRegressor and SVMClassifier, after libsvm.
#include <algorithm>
#include <cmath>

#include "ops/ml_classifier.h"
#include "ops/reference.h"

namespace minim::ops {
namespace {

// The kernel function between rows and support vectors; without support vectors the coefficients
// are a linear model.
struct Svm {
  std::string kernel = "LINEAR";
  double gamma = 0, coef0 = 0, degree = 0;
  std::vector<float> vectors, coefficients, rho, prob_a, prob_b;
  std::vector<int64_t> per_class;

  explicit Svm(const Attributes& a)
      : kernel(a.String("kernel_type", "LINEAR")),
        vectors(a.Floats("support_vectors")),
        coefficients(a.Floats("coefficients")),
        rho(a.Floats("rho")),
        prob_a(a.Floats("prob_a")),
        prob_b(a.Floats("prob_b")),
        per_class(a.Ints("vectors_per_class")) {
    const std::vector<float> params = a.Floats("kernel_params");
    if (params.size() >= 3) gamma = params[0], coef0 = params[1], degree = params[2];
  }

  double Kernel(std::span<const double> x, const float* v, const std::string& kind) const {
    double sum = 0;
    for (size_t i = 0; i < x.size(); ++i)
      sum += kind == "RBF" ? (x[i] - v[i]) * (x[i] - v[i]) : x[i] * v[i];
    if (kind == "RBF") return std::exp(-gamma * sum);
    if (kind == "POLY") return std::pow(gamma * sum + coef0, degree);
    if (kind == "SIGMOID") return std::tanh(gamma * sum + coef0);
    return sum;
  }
};

Status CheckSizes(const InferContext& op, const Svm& svm, int64_t vectors) {
  if (svm.rho.empty() || svm.coefficients.empty()) return op.Error("has no rho or no coefficients");
  if (!op.input(0).ranked() || vectors == 0) return {};
  const Dim& features = op.input(0).shape->back();
  if (!features.known() || static_cast<int64_t>(svm.vectors.size()) == vectors * features.value())
    return {};
  return op.Error("{} support vectors of {} features, {} numbers", vectors, features.value(),
                  svm.vectors.size());
}

std::vector<double> RowOf(const RefTensor& x, int64_t row, int64_t features) {
  std::vector<double> values(static_cast<size_t>(features));
  for (int64_t f = 0; f < features; ++f) values[f] = x.At(row * features + f);
  return values;
}

Status InferRegressor(InferContext& op) {
  const Svm svm(op.attributes());
  if (op.input(0).ranked() && op.input(0).rank() == 0) return op.Error("takes no scalar");
  MINIM_TRY(CheckSizes(op, svm, op.attributes().Int("n_supports", 0)));
  return op.SetOutput(0, DType::f32, Shape{RowCountOf(op), Dim(1)});
}

Status RegressorReference(RefContext& op) {
  const Svm svm(op.attributes());
  const int64_t vectors = op.attributes().Int("n_supports", 0);
  RefTensor& y = op.Output(0);
  const int64_t rows = y.size(), features = rows ? op.input(0).size() / rows : 0;
  const auto needed = static_cast<size_t>(vectors > 0 ? vectors : features);
  if (svm.coefficients.size() < needed)
    return op.Error("{} coefficients, expected {}", svm.coefficients.size(), needed);
  for (int64_t n = 0; n < rows; ++n) {
    const std::vector<double> x = RowOf(op.input(0), n, features);
    double sum = svm.rho[0];
    if (vectors == 0) sum += svm.Kernel(x, svm.coefficients.data(), "LINEAR");
    for (int64_t v = 0; v < vectors; ++v)
      sum += svm.coefficients[v] * svm.Kernel(x, svm.vectors.data() + v * features, svm.kernel);
    const bool one_class = op.attributes().Int("one_class", 0) != 0;
    y.f64()[n] = one_class ? (sum > 0 ? 1 : -1) : sum;
  }
  return {};
}

// The classifier's work: votes or scores to a class index, decision values or probabilities.

struct ClassifierForm {
  int64_t classes = 1;
  int64_t vectors = 0;
  bool has_probabilities = false;
  int64_t columns = 1;  // before a second score is made of one

  ClassifierForm(const Attributes& a, const Svm& svm) {
    const Tensor labels = ClassLabels(a);
    classes = labels.defined() ? labels.size() : 1;
    for (int64_t count : svm.per_class) vectors += count;
    has_probabilities = vectors > 0 && !svm.prob_a.empty();
    columns = vectors == 0 || has_probabilities ? classes : classes * (classes - 1) / 2;
  }
};

// Pairwise coupling of class probabilities: Wu, Lin and Weng (2004), as libsvm iterates it.
std::vector<double> Coupled(const std::vector<std::vector<double>>& r) {
  const size_t k = r.size();
  std::vector<std::vector<double>> q(k, std::vector<double>(k, 0));
  std::vector<double> p(k, 1.0 / static_cast<double>(k)), qp(k, 0);
  for (size_t t = 0; t < k; ++t) {
    for (size_t j = 0; j < k; ++j) {
      if (j == t) continue;
      q[t][t] += r[j][t] * r[j][t];
      q[t][j] = -r[j][t] * r[t][j];
    }
  }
  const double tolerance = 0.005 / static_cast<double>(k);
  for (size_t turn = 0; turn < std::max<size_t>(100, k); ++turn) {
    double pqp = 0, error = 0;
    for (size_t t = 0; t < k; ++t) {
      qp[t] = 0;
      for (size_t j = 0; j < k; ++j) qp[t] += q[t][j] * p[j];
      pqp += p[t] * qp[t];
    }
    for (size_t t = 0; t < k; ++t) error = std::max(error, std::fabs(qp[t] - pqp));
    if (error < tolerance) break;
    for (size_t t = 0; t < k; ++t) {
      const double step = (-qp[t] + pqp) / q[t][t];
      p[t] += step;
      pqp = (pqp + step * (step * q[t][t] + 2 * qp[t])) / (1 + step) / (1 + step);
      for (size_t j = 0; j < k; ++j) {
        qp[j] = (qp[j] + step * q[t][j]) / (1 + step);
        p[j] /= 1 + step;
      }
    }
  }
  return p;
}

class Classifier {
 public:
  Classifier(const Svm& svm, const ClassifierForm& form) : svm_(svm), form_(form) {}

  /// Fills the scores of one row and returns its class index.
  int64_t Run(std::span<const double> x, std::span<double> scores) const {
    if (form_.vectors == 0) return Linear(x, scores);
    std::vector<double> decisions, votes(static_cast<size_t>(form_.classes), 0);
    Decide(x, decisions, votes);
    if (form_.has_probabilities) {
      const std::vector<double> p = Probabilities(decisions);
      std::copy(p.begin(), p.end(), scores.begin());
    } else {
      std::copy(decisions.begin(), decisions.end(), scores.begin());
    }
    return std::max_element(votes.begin(), votes.end()) - votes.begin();
  }

 private:
  int64_t Linear(std::span<const double> x, std::span<double> scores) const {
    for (int64_t c = 0; c < form_.classes; ++c)
      scores[c] = svm_.rho[0] + svm_.Kernel(x, svm_.coefficients.data() + c * x.size(), "LINEAR");
    return std::max_element(scores.begin(), scores.end()) - scores.begin();
  }

  // One decision for each pair of classes.
  void Decide(std::span<const double> x, std::vector<double>& decisions,
              std::vector<double>& votes) const {
    std::vector<double> kernels(static_cast<size_t>(form_.vectors));
    for (int64_t v = 0; v < form_.vectors; ++v)
      kernels[v] = svm_.Kernel(x, svm_.vectors.data() + v * x.size(), svm_.kernel);
    std::vector<int64_t> starts = {0};
    for (int64_t count : svm_.per_class) starts.push_back(starts.back() + count);
    const auto part = [&](int64_t row, int64_t of) {
      double sum = 0;
      for (int64_t v = starts[of]; v < starts[of + 1]; ++v)
        sum += svm_.coefficients[row * form_.vectors + v] * kernels[v];
      return sum;
    };
    for (int64_t i = 0; i < form_.classes; ++i) {
      for (int64_t j = i + 1; j < form_.classes; ++j) {
        const double s = svm_.rho[decisions.size()] + part(j - 1, i) + part(i, j);
        decisions.push_back(s);
        votes[s > 0 ? i : j] += 1;
      }
    }
  }

  std::vector<double> Probabilities(const std::vector<double>& decisions) const {
    const auto k = static_cast<size_t>(form_.classes);
    std::vector<std::vector<double>> r(k, std::vector<double>(k, 0));
    size_t pair = 0;
    for (size_t i = 0; i < k; ++i) {
      for (size_t j = i + 1; j < k; ++j, ++pair) {
        const double value = decisions[pair] * svm_.prob_a[pair] + svm_.prob_b[pair];
        const double p = 1 - 1 / (1 + std::exp(-value));
        r[i][j] = std::clamp(p, 1e-7, 1 - 1e-7);
        r[j][i] = 1 - r[i][j];
      }
    }
    return Coupled(r);
  }

  const Svm& svm_;
  const ClassifierForm& form_;
};

// [rows, classes], whose index is the class, and the scores.
Status InferScores(InferContext& op) {
  const Svm svm(op.attributes());
  const ClassifierForm form(op.attributes(), svm);
  MINIM_TRY(op.HasRank(0, 2));
  MINIM_TRY(CheckSizes(op, svm, form.vectors));
  if (std::any_of(svm.per_class.begin(), svm.per_class.end(), [](int64_t n) { return n < 0; }))
    return op.Error("vectors_per_class holds a negative count");
  const auto pairs = static_cast<size_t>(form.classes * (form.classes - 1) / 2);
  if (form.vectors > 0 &&
      (static_cast<int64_t>(svm.per_class.size()) != form.classes || svm.rho.size() < pairs ||
       svm.coefficients.size() != static_cast<size_t>((form.classes - 1) * form.vectors)))
    return op.Error("{} classes, but {} vectors_per_class, {} rho and {} coefficients",
                    form.classes, svm.per_class.size(), svm.rho.size(), svm.coefficients.size());
  if (form.has_probabilities && (svm.prob_a.size() < pairs || svm.prob_b.size() < pairs))
    return op.Error("{} prob_a and {} prob_b for {} pairs of classes", svm.prob_a.size(),
                    svm.prob_b.size(), pairs);
  MINIM_TRY(op.SetOutput(0, DType::i64, Shape{RowCountOf(op)}));
  return op.SetOutput(1, DType::f32, Shape{RowCountOf(op), Dim(form.columns)});
}

Status ScoresReference(RefContext& op) {
  const Svm svm(op.attributes());
  const ClassifierForm form(op.attributes(), svm);
  const int64_t rows = op.dims(0)[0], features = op.dims(0)[1];
  if (form.vectors == 0 && svm.coefficients.size() < static_cast<size_t>(form.classes * features))
    return op.Error("{} coefficients for {} classes of {} features", svm.coefficients.size(),
                    form.classes, features);
  const Classifier classifier(svm, form);
  RefTensor& index = op.Output(0);
  RefTensor& scores = op.Output(1);
  for (int64_t n = 0; n < rows; ++n) {
    const std::vector<double> x = RowOf(op.input(0), n, features);
    index.i64()[n] = classifier.Run(x, scores.f64().subspan(n * form.columns, form.columns));
  }
  return {};
}

bool MakesTwoScores(const Attributes& a, const ClassifierForm& form) {
  return form.columns == 1 && form.classes == 2 && a.String("post_transform", "NONE") != "PROBIT";
}

Status InferClassifier(InferContext& op) {
  const Tensor labels = ClassLabels(op.attributes());
  const Svm svm(op.attributes());
  const ClassifierForm form(op.attributes(), svm);
  MINIM_TRY(op.SetOutput(0, labels.defined() ? labels.dtype() : DType::i64, Shape{RowCountOf(op)}));
  return op.SetOutput(
      1, DType::f32,
      Shape{RowCountOf(op), Dim(MakesTwoScores(op.attributes(), form) ? 2 : form.columns)});
}

Status ExpandClassifier(ExpandContext& e) {
  const Attributes& a = e.attributes();
  const Svm svm(a);
  const ClassifierForm form(a, svm);
  const Tensor labels = ClassLabels(a);
  const auto values = e.EmitMany("SVMScores", {FeatureRows(e, e.input(0))}, 2, a, kMinimDomain);
  const std::string post = a.String("post_transform", "NONE");
  e.SetOutput(1, MakesTwoScores(a, form) ? BothScores(e, values[1], SecondScore::kNegative, post)
                                         : PostTransform(e, values[1], post));
  // Without labels a linear model of one row says which side of the border a row is on.
  if (!labels.defined())
    e.SetOutput(0, Exceeds(e, values[1], 0));
  else
    e.SetOutput(0, PickLabels(e, labels, values[0]));
  return {};
}

constexpr const char* kPair =
    "kernel_type=\"RBF\", kernel_params=[0.5,0.0,3.0], support_vectors=[0.1,0.2,-0.5,0.4,0.3,-0.6],"
    " coefficients=[0.5,-1.0,0.75], vectors_per_class=[1,2], rho=[0.1], classlabels_ints=[0,1]";

}  // namespace

std::vector<OpDef> MlSvm() {
  const std::string domain(kMlDomain);
  return {{.name = "SVMRegressor",
           .domain = domain,
           .onnx_since = {1},
           .dtypes = kNumericTypes,
           .infer = InferRegressor,
           .reference = RegressorReference,
           .samples =
               "SVMRegressor(x: f32[3,2]) {kernel_type=\"POLY\", kernel_params=[0.5,0.1,2.0], "
               "support_vectors=[0.1,0.2,-0.5,0.4], coefficients=[0.5,-1.0], n_supports=2, "
               "rho=[0.1]}\n"
               "SVMRegressor(x: f32[3,2]) {coefficients=[0.5,-1.0], rho=[0.1], one_class=1}\n"
               "SVMRegressor(x: i64[3,2]) {kernel_type=\"SIGMOID\", kernel_params=[0.5,0.1,2.0], "
               "support_vectors=[0.1,0.2], coefficients=[0.5], n_supports=1, rho=[0.1]}\n"},
          {.name = "SVMClassifier",
           .domain = domain,
           .onnx_since = {1},
           .dtypes = kNumericTypes,
           .infer = InferClassifier,
           .expand = ExpandClassifier,
           .samples = fmt::format(
               "l, s = SVMClassifier(x: f32[3,2]) {{{}}}\n"
               "l, s = SVMClassifier(x: f32[3,2]) {{{}, prob_a=[-1.5], prob_b=[0.1]}}\n"
               "l, s = SVMClassifier(x: f32[3,2]) {{coefficients=[0.5,-1.0,0.2,0.3], rho=[0.1], "
               "classlabels_strings=[\"a\",\"b\"], post_transform=\"SOFTMAX\"}}\n",
               kPair, kPair)},
          {.name = "SVMScores",
           .domain = std::string(kMinimDomain),
           .infer = InferScores,
           .reference = ScoresReference,
           .samples = fmt::format("i, s = SVMScores(x: f32[3,2]) {{{}}}\n", kPair)}};
}

}  // namespace minim::ops
