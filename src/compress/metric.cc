#include "compress/metric.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numeric>
#include <span>

#include "core/dtype.h"
#include "core/error.h"
#include "core/stats.h"

namespace minim {
namespace {

constexpr double kLeastProbability = 1e-12;  // so that a logarithm is finite

// Class scores as rows; a row of one score is that of class 1 of two.
class ClassRows {
 public:
  ClassRows(const Tensor& scores, bool probabilities)
      : scores_(scores), probabilities_(probabilities) {}

  int64_t count() const { return scores_.dims()[0]; }
  int64_t width() const { return scores_.dims().Elements(1, scores_.dims().rank()); }
  int64_t classes() const { return std::max<int64_t>(2, width()); }
  std::span<const float> row(int64_t i) const {
    return scores_.as<float>().subspan(static_cast<size_t>(i * width()),
                                       static_cast<size_t>(width()));
  }

  int64_t Best(int64_t i) const {
    const auto r = row(i);
    if (r.size() == 1) return r[0] > (probabilities_ ? 0.5f : 0.0f);
    return std::max_element(r.begin(), r.end()) - r.begin();
  }
  // How many classes have a higher score, or an equal one and a lower number.
  int64_t RankOf(int64_t i, int64_t c) const {
    const auto r = row(i);
    if (r.size() == 1) return Best(i) != c;
    int64_t rank = 0;
    for (int64_t k = 0; k < width(); ++k) rank += r[k] > r[c] || (r[k] == r[c] && k < c);
    return rank;
  }
  // Of class 1 of two: what ranks the samples.
  float Margin(int64_t i) const {
    const auto r = row(i);
    return r.size() == 1 ? r[0] : r[1] - r[0];
  }
  std::vector<double> Probabilities(int64_t i) const {
    const auto r = row(i);
    std::vector<double> p(r.begin(), r.end());
    if (p.size() == 1) {
      const double one = probabilities_ ? p[0] : 1 / (1 + std::exp(-p[0]));
      return {1 - one, one};
    }
    if (probabilities_) return p;
    const double most = *std::max_element(p.begin(), p.end());
    double sum = 0;
    for (double& v : p) sum += v = std::exp(v - most);
    for (double& v : p) v /= sum;
    return p;
  }

 private:
  const Tensor& scores_;
  const bool probabilities_;
};

// [N], [N, C], and both with dims of one behind.
bool AreClassScores(const Tensor& scores) {
  const Dims& dims = scores.dims();
  return dims.rank() > 0 && dims[0] > 0 && (dims.rank() < 3 || dims.Elements(2, dims.rank()) == 1);
}

bool AreProbabilities(const Tensor& scores) {
  const ClassRows rows(scores, false);
  for (int64_t i = 0; i < rows.count(); ++i) {
    const auto r = rows.row(i);
    if (!std::all_of(r.begin(), r.end(), [](float p) { return p >= 0 && p <= 1; })) return false;
    const double sum = std::accumulate(r.begin(), r.end(), 0.0);
    if (r.size() > 1 && std::fabs(sum - 1) > 1e-3) return false;
  }
  return true;
}

Measured MeanOf(std::vector<double> each) {
  const double sum = std::accumulate(each.begin(), each.end(), 0.0);
  return {sum / static_cast<double>(each.size()), std::move(each)};
}

struct ClassInput {
  ClassRows rows, reference;
  std::span<const int64_t> labels;
  int64_t k = 1;
};
template <typename F>
Measured PerSample(const ClassInput& in, F&& contribution) {
  std::vector<double> each;
  for (int64_t i = 0; i < in.rows.count(); ++i) each.push_back(contribution(i));
  return MeanOf(std::move(each));
}

Result<Measured> TopK(const ClassInput& in) {
  return PerSample(in, [&](int64_t i) { return in.rows.RankOf(i, in.labels[i]) < in.k ? 1 : 0; });
}

Result<Measured> LogLoss(const ClassInput& in) {
  return PerSample(in, [&](int64_t i) {
    return -std::log(std::max(in.rows.Probabilities(i)[in.labels[i]], kLeastProbability));
  });
}

Result<Measured> Agreement(const ClassInput& in) {
  return PerSample(in, [&](int64_t i) { return in.rows.Best(i) == in.reference.Best(i) ? 1 : 0; });
}

Result<Measured> Divergence(const ClassInput& in) {  // KL(reference || variant), nats
  return PerSample(in, [&](int64_t i) {
    const std::vector<double> p = in.reference.Probabilities(i), q = in.rows.Probabilities(i);
    double sum = 0;
    for (size_t c = 0; c < p.size(); ++c)
      if (p[c] > 0) sum += p[c] * std::log(p[c] / std::max(q[c], kLeastProbability));
    return sum;
  });
}

Result<Measured> AreaUnderCurve(const ClassInput& in) {
  if (in.rows.classes() != 2)
    return InvalidArgument("metric auc: needs two classes, found {}", in.rows.classes());
  std::vector<float> scores;
  std::vector<bool> positive;
  for (int64_t i = 0; i < in.rows.count(); ++i) {
    scores.push_back(in.rows.Margin(i));
    positive.push_back(in.labels[i] == 1);
  }
  std::vector<double> placements = RankPlacements(scores, positive);
  if (placements.empty())
    return InvalidArgument("metric auc: needs samples of both classes and scores that are numbers");
  const double n = static_cast<double>(positive.size());
  const double positives = static_cast<double>(std::count(positive.begin(), positive.end(), true));
  double area = 0;
  for (size_t i = 0; i < placements.size(); ++i)
    area += positive[i] ? placements[i] / positives : 0;
  for (size_t i = 0; i < placements.size(); ++i)
    placements[i] = area + (placements[i] - area) * n / (positive[i] ? positives : n - positives);
  return Measured{area, std::move(placements)};
}

// F1 of a class is 2 tp / (predicted + actual); of more than two classes their mean.
Result<Measured> F1(const ClassInput& in) {
  const int64_t n = in.rows.count(), classes = in.rows.classes();
  std::vector<double> tp(classes), both(classes);
  for (int64_t i = 0; i < n; ++i) {
    const int64_t guess = in.rows.Best(i), label = in.labels[i];
    ++both[guess];
    ++both[label];
    if (guess == label) ++tp[label];
  }
  std::vector<double> f(classes);
  std::vector<int64_t> used;  // classes that occur; of two only class 1 counts
  for (int64_t c = classes == 2; c < classes; ++c) {
    if (both[c] == 0) continue;
    f[c] = 2 * tp[c] / both[c];
    used.push_back(c);
  }
  double value = 0;
  const double share = used.empty() ? 0 : 1 / static_cast<double>(used.size());
  for (int64_t c : used) value += f[c] * share;
  std::vector<double> each(static_cast<size_t>(n), value);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t c : used) {
      const int guessed = in.rows.Best(i) == c, actual = in.labels[i] == c;
      each[i] += share * static_cast<double>(n) / both[c] *
                 (2 * guessed * actual - f[c] * (guessed + actual));
    }
  }
  return Measured{value, std::move(each)};
}

// Of a sample's numbers beside others of the same sample.
using Distance = double (*)(std::span<const float> a, std::span<const float> b);

double SquaredError(std::span<const float> a, std::span<const float> b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += std::pow(double{a[i]} - b[i], 2);
  return sum / static_cast<double>(a.size());
}

double AbsoluteError(std::span<const float> a, std::span<const float> b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += std::fabs(double{a[i]} - b[i]);
  return sum / static_cast<double>(a.size());
}

double Cosine(std::span<const float> a, std::span<const float> b) {
  double ab = 0, aa = 0, bb = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    ab += double{a[i]} * b[i];
    aa += double{a[i]} * a[i];
    bb += double{b[i]} * b[i];
  }
  if (aa == 0 || bb == 0) return aa == bb ? 1 : 0;
  return ab / std::sqrt(aa * bb);
}

Result<Measured> Distances(const Tensor& scores, const Tensor& targets, Distance distance) {
  const int64_t n = scores.dims()[0];
  if (scores.size() != targets.size() || n == 0)
    return InvalidArgument("labels of shape {} do not fit answers of shape {}",
                           targets.dims().ToString(), scores.dims().ToString());
  const Tensor wanted = Converted(targets.view(), DType::f32);
  const auto width = static_cast<size_t>(scores.size() / n);
  std::vector<double> each;
  for (int64_t i = 0; i < n; ++i) {
    const size_t first = static_cast<size_t>(i) * width;
    each.push_back(distance(scores.as<float>().subspan(first, width),
                            wanted.as<float>().subspan(first, width)));
  }
  return MeanOf(std::move(each));
}

Status CheckLabels(const std::string& metric, const Tensor& labels, const ClassRows& rows) {
  if (labels.dtype() != DType::i64 || labels.size() != rows.count())
    return InvalidArgument("metric {}: needs one class id a sample, i64[{}], found labels {}{}",
                           metric, rows.count(), Name(labels.dtype()), labels.dims().ToString());
  const auto ids = labels.as<int64_t>();
  for (size_t i = 0; i < ids.size(); ++i)
    if (ids[i] < 0 || ids[i] >= rows.classes())
      return InvalidArgument("label {} of sample {} is none of the model's {} classes", ids[i], i,
                             rows.classes());
  return {};
}

}  // namespace

struct Metric::Row {
  std::string_view name;
  bool higher_is_better, needs_labels, counts;
  Result<Measured> (*of_classes)(const ClassInput&);  // or:
  Distance distance;  // to the labels, or to the reference if there is no need for labels
};

const Metric::Row Metric::kRows[] = {
    {"accuracy", true, true, true, TopK, nullptr},
    {"top-", true, true, true, TopK, nullptr},
    {"f1", true, true, false, F1, nullptr},
    {"auc", true, true, false, AreaUnderCurve, nullptr},
    {"log-loss", false, true, false, LogLoss, nullptr},
    {"mse", false, true, false, nullptr, SquaredError},
    {"mae", false, true, false, nullptr, AbsoluteError},
    {"agreement", true, false, true, Agreement, nullptr},
    {"kl", false, false, false, Divergence, nullptr},
    {"cosine", true, false, false, nullptr, Cosine},
    // Not found by Parse.
    {"command", true, false, false, nullptr, nullptr},
    {"command", false, false, false, nullptr, nullptr},
};

std::string MetricNames() {
  return "accuracy, top-K, f1, auc, log-loss, mse, mae; without labels agreement, kl, cosine";
}

Result<Metric> Metric::Parse(std::string_view name) {
  for (const Row& row : kRows) {
    if (row.of_classes == nullptr && row.distance == nullptr) continue;
    const bool numbered = row.name.ends_with('-');
    if (!numbered && row.name == name) return Metric(&row, std::string(name), 1);
    if (!numbered || !name.starts_with(row.name)) continue;
    int64_t k = 0;
    const char* end = name.data() + name.size();
    const auto [at, error] = std::from_chars(name.data() + row.name.size(), end, k);
    if (error == std::errc() && at == end && k > 0) return Metric(&row, std::string(name), k);
  }
  return InvalidArgument("metric '{}' is unknown; there are {}", name, MetricNames());
}

Metric Metric::Default(const Tensor& reference, const Tensor& labels) {
  if (labels.defined()) return *Parse(labels.dtype() == DType::i64 ? "accuracy" : "mse");
  const bool classes = AreClassScores(reference) && reference.size() > reference.dims()[0];
  return *Parse(classes ? "agreement" : "cosine");
}

Metric Metric::OfCommand(bool higher_is_better) {
  const Row* row = std::end(kRows) - (higher_is_better ? 2 : 1);
  return Metric(row, "command", 1);
}

bool Metric::higher_is_better() const { return row_->higher_is_better; }
bool Metric::needs_labels() const { return row_->needs_labels; }
bool Metric::counts() const { return row_->counts; }
bool Metric::of_classes() const { return row_->of_classes != nullptr; }

Result<Measured> Metric::Measure(const Answers& answers) const {
  const Tensor& scores = answers.scores;
  if (needs_labels() && !answers.labels.defined())
    return InvalidArgument("metric {}: needs labels; without them there are agreement, kl, cosine",
                           name_);
  if (scores.dims() != answers.reference.dims() || scores.dims().rank() == 0)
    return InvalidArgument("answers of shape {} beside the reference's of shape {}",
                           scores.dims().ToString(), answers.reference.dims().ToString());
  if (row_->distance != nullptr)
    return Distances(scores, needs_labels() ? answers.labels : answers.reference, row_->distance);
  if (!AreClassScores(scores))
    return InvalidArgument("metric {}: needs answers of shape [N,classes], found {}", name_,
                           scores.dims().ToString());
  const bool probabilities = AreProbabilities(answers.reference);
  ClassInput in{
      ClassRows(scores, probabilities), ClassRows(answers.reference, probabilities), {}, k_};
  if (needs_labels()) {
    MINIM_TRY(CheckLabels(name_, answers.labels, in.rows));
    in.labels = answers.labels.as<int64_t>();
  }
  return row_->of_classes(in);
}

Likeness CompareAnswers(const Tensor& scores, const Tensor& reference) {
  if (!AreClassScores(reference) || scores.dims() != reference.dims()) return {};
  const bool probabilities = AreProbabilities(reference);
  const ClassRows a(scores, probabilities), b(reference, probabilities);
  Likeness result{0, 0};
  const double n = static_cast<double>(a.count());
  for (int64_t i = 0; i < a.count(); ++i) {
    const int64_t c = b.Best(i);
    result.agreement += (a.Best(i) == c) / n;
    result.confidence += std::fabs(a.Probabilities(i)[c] - b.Probabilities(i)[c]) / n;
  }
  return result;
}

}  // namespace minim
