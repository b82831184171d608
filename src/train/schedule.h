// The learning rate over the steps of the optimizer.
#pragma once

#include <limits>

#include "minim/train.h"
#include "train/saved_values.h"

namespace minim {

/// The formulas are those of torch.optim.lr_scheduler (StepLR, CosineAnnealingLR behind a linear
/// warm-up, OneCycleLR with cosine annealing, ReduceLROnPlateau); only plateau has a memory.
class LearningRate {
 public:
  /// steps, steps_per_epoch: of the optimizer, at least 1.
  LearningRate(const ScheduleSpec& spec, double rate, int64_t steps, int64_t steps_per_epoch)
      : spec_(spec), rate_(rate), steps_(steps), steps_per_epoch_(steps_per_epoch) {}

  /// For the step after `taken` others.
  double At(int64_t taken) const;
  /// Tells a plateau schedule the loss of an epoch.
  void EndEpoch(double loss);

  void Save(SavedValues& to) const;
  /// Errors: kInvalidArgument names the entry that is missing or no number.
  Status Restore(const SavedValues& saved);

 private:
  double OneCycle(double step) const;

  ScheduleSpec spec_;
  double rate_;
  int64_t steps_, steps_per_epoch_;
  double plateau_factor_ = 1;
  double best_ = std::numeric_limits<double>::infinity();  // the lowest loss
  int64_t worse_epochs_ = 0;
};

/// Errors: kInvalidArgument names the field, what was found and what is expected.
Status CheckSchedule(const ScheduleSpec& spec);

}  // namespace minim
