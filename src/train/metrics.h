// Metrics of a model over a data set.
#pragma once

#include <vector>

#include "data/dataset.h"
#include "minim/session.h"
#include "minim/train.h"

namespace minim {

/// The tensors of a batch as the session reads them: in the order and the dtypes of its inputs.
/// Errors: kInvalidArgument for another number of them.
Result<std::vector<Tensor>> SessionInputs(const Session& session, const Batch& batch);
std::vector<ConstView> ViewsOf(const std::vector<Tensor>& tensors);

/// Output `output` for every sample, in order, as f32 [samples, ...]. Runs in batches of 100, or of
/// the size that the model fixes.
/// Errors: those of the model; kInvalidArgument where the output's first dim does not count
/// samples.
Result<Tensor> Predict(const Session& session, DataSource& data, size_t output = 0);

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
