// Recipe: the steps of shrink that train, on a model as its users have it.
#pragma once

#include "compress/distill.h"
#include "compress/metric.h"
#include "compress/shrink.h"
#include "graph/graph.h"

namespace minim {

/// A model and what it takes to train it again: a loss on what is before a last Softmax or Sigmoid,
/// as the loss reads logits.
class Trainee {
 public:
  /// `labels` are those of training. Errors: kUnsupported for models that cannot be trained.
  static Result<Trainee> Of(const Graph& model, const Tensor& labels);

  const Graph& logits() const { return logits_; }
  LossKind loss() const { return loss_; }
  /// `tuned`, a form of logits(), with the last op of the model again.
  Result<Graph> Whole(Graph tuned) const;
  /// Another form of the same model, of the same outputs, without its last op.
  Result<Graph> LogitsOf(const Graph& other) const;

 private:
  Graph logits_;
  LossKind loss_ = LossKind::kCrossEntropy;
  std::optional<Node> last_;  // the op left out; its values by their names
  std::string output_;        // the name of the model's output
};

/// A step's network and how its training went.
struct Trained {
  Graph graph;
  double first_loss = 0, last_loss = 0;
  bool timed_out = false;

  /// "loss 0.61 -> 0.42", and whether the time budget cut it short.
  std::string Note() const;
};

/// Steps of a recipe; `tune` says how long they may train, `student` is the model so far.
/// kMagnitude leaves zeros, of which nothing becomes smaller or faster by itself.
enum class PruneKind { kChannels, kMagnitude };
Result<Trained> PruneStep(const Trainee& model, const Dataset& train, PruneKind kind,
                          double fraction, const FineTuneOptions& tune);
Result<Trained> DistillStep(const Trainee& teacher, const std::optional<Graph>& student,
                            const Dataset& train, const StudentTemplate& small,
                            const FineTuneOptions& tune);
Result<Trained> QuantizationAwareStep(const Trainee& model, const Graph& prepared,
                                      const Graph& quantized, const Dataset& train,
                                      const FineTuneOptions& tune);

}  // namespace minim
