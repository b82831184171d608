// Metrics of a model over a data set.
#pragma once

#include <vector>

#include "data/dataset.h"
#include "minim/session.h"
#include "minim/train.h"

namespace minim {

/// The class of each sample, in order: the largest of its scores in the first output [N, classes],
/// or, of a single score, 1 if it is above 0, as a logit. Runs in batches of 100.
Result<std::vector<int64_t>> Classify(const Session& session, const Dataset& data);

/// The probability that a positive sample scores above a negative one, a tie counting half: the
/// area under the ROC curve, by ranks. Negative when all samples are of one kind or a score is NaN.
double Auc(std::span<const float> scores, const std::vector<bool>& positive);

/// How a model does; negative: does not apply.
struct Metrics {
  double loss = -1;  // the mean of the loss trained, unweighted: of cross-entropies the log-loss
  double accuracy = -1;  // of classes
  double auc = -1;       // of two classes, if both occur
};

/// The first output against the labels, as `loss` reads them. Runs in batches of 100, or of the
/// size that the model fixes. Errors: kInvalidArgument where shapes disagree or a label is no class
/// of the model.
Result<Metrics> Evaluate(const Session& session, DataSource& data, LossKind loss);

}  // namespace minim
