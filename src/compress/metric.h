// Metric: what the gate compares, measured over samples of a reference and of its variants.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "minim/status.h"
#include "minim/tensor.h"

namespace minim {

/// The value of a metric and what each sample contributes: their mean is the value. Of AUC and F1,
/// which are no means, a contribution is the value plus the sample's influence on it, so that the
/// differences of two models have the variance of the difference (of AUC: DeLong et al. 1988).
struct Measured {
  double value = 0;
  std::vector<double> each;
  double samples_each = 1;  // that a contribution stands for
};

/// The answers of a model beside those of its reference, f32 [N, ...], and the labels, class ids
/// i64 [N] or targets f32 [N, ...]; undefined if there are none.
struct Answers {
  const Tensor& scores;
  const Tensor& reference;
  const Tensor& labels;
};

class Metric {
 public:
  /// One of MetricNames(). Errors: kInvalidArgument lists them.
  static Result<Metric> Parse(std::string_view name);
  /// With labels: accuracy of classes, mse of targets. Without: agreement of class scores [N, C],
  /// cosine of other answers.
  static Metric Default(const Tensor& reference, const Tensor& labels);
  /// Of MeasureByCommand; it has no Measure.
  static Metric OfCommand(bool higher_is_better);

  const std::string& name() const { return name_; }
  bool higher_is_better() const;
  bool needs_labels() const;
  /// Contributions are 0 or 1.
  bool counts() const;
  /// Answers are read as scores of classes.
  bool of_classes() const;

  /// Scores are logits, or probabilities if all those of the reference are: within 0 and 1 and, of
  /// several classes, with a sum of 1.
  /// Errors: kInvalidArgument for labels or shapes that the metric cannot read.
  Result<Measured> Measure(const Answers& answers) const;

 private:
  struct Row;
  static const Row kRows[];
  Metric(const Row* row, std::string name, int64_t k) : row_(row), name_(std::move(name)), k_(k) {}

  const Row* row_;
  std::string name_;
  int64_t k_ = 1;  // of top-K
};

/// "accuracy, top-K, ...": for help and errors.
std::string MetricNames();

/// How alike two models answer, whatever the metric.
struct Likeness {
  double agreement = -1;   // the share of samples of the same class; -1: answers are no classes
  double confidence = -1;  // the mean difference of the probability of the reference's class
};
/// Of class scores as Metric::Measure reads them; else all -1.
Likeness CompareAnswers(const Tensor& scores, const Tensor& reference);

}  // namespace minim
