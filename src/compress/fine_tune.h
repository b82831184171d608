// Fine-tuning: a short training of a graph that is already good, after something was taken from it.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <string>

#include "data/dataset.h"
#include "train/step.h"

namespace minim {

struct FineTuneOptions {
  double epochs = 1;  // parts of one are allowed
  int64_t batch = 64;
  double learning_rate = 1e-3;  // of Adam, the highest: a short warm-up, then a cosine down to 0
  LossKind loss = LossKind::kCrossEntropy;
  uint64_t seed = 1;  // of the order of samples and of dropout
  int threads = 1;
  std::chrono::milliseconds time_limit{0};  // no step starts after it; 0: none
  /// Called after each step with the share of steps that are done and the step's loss; returning
  /// false stops with kCancelled.
  std::function<bool(double fraction, double loss)> progress = {};
};

struct FineTuned {
  Graph graph;
  /// The mean loss before and after, in training form, of the same batches, up to 8: a run that
  /// made it worse shows here.
  double first_loss = 0, last_loss = 0;
  int64_t steps = 0;
  int64_t skipped_steps = 0;  // whose gradients were not finite; they changed nothing
  bool timed_out = false;
};

/// The parameters between two steps.
class TunedParameters {
 public:
  TunedParameters(const StepGraph& step, std::vector<Tensor>& states);
  /// By the name of the constant; null if it is not trained. Writing changes what is trained.
  Tensor* Find(const std::string& name) const;

 private:
  std::map<std::string, Tensor*, std::less<>> by_name_;
};

struct FineTuneHooks {
  LossBuilder loss = {};  // instead of options.loss
  /// Called before the first step and after each: what it writes is what the next step starts from.
  std::function<void(const TunedParameters&)> after_step = {};
};

/// The graph with its float constants trained on `train`; what is a literal, a scale or a zero
/// point stays. The same seed and thread count give the same bits, unless the time limit strikes.
/// Errors: kInvalidArgument where graph, data and options disagree; kUnsupported names an operator
/// without a gradient or says that the training diverged: gradients stay non-finite; those of the
/// data.
Result<FineTuned> FineTune(const Graph& graph, DataSource& train, const FineTuneOptions& options,
                           const FineTuneHooks& hooks = {});
Result<FineTuned> FineTune(const Graph& graph, const Dataset& train, const FineTuneOptions& options,
                           const FineTuneHooks& hooks = {});

}  // namespace minim
