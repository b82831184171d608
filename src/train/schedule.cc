#include "train/schedule.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"

namespace minim {
namespace {

// From `from` to `to` as `share` goes from 0 to 1.
double Cosine(double from, double to, double share) {
  return to + (from - to) * 0.5 * (1 + std::cos(M_PI * share));
}

}  // namespace

double LearningRate::OneCycle(double step) const {
  const double total = static_cast<double>(steps_), peak = spec_.rise * total - 1;
  const double first = rate_ / spec_.first_divisor, last = first / spec_.last_divisor;
  if (step <= peak) return Cosine(first, rate_, peak > 0 ? step / peak : 1);
  const double rest = total - 1 - peak;
  return Cosine(rate_, last, rest > 0 ? std::min(1.0, (step - peak) / rest) : 1);
}

double LearningRate::At(int64_t taken) const {
  const auto step = static_cast<double>(taken);
  if (spec_.kind == ScheduleKind::kOneCycle) return OneCycle(step);
  if (taken < spec_.warmup_steps)
    return rate_ * (step + 1) / static_cast<double>(spec_.warmup_steps);
  switch (spec_.kind) {
    case ScheduleKind::kStep: {
      const int64_t epoch = taken / steps_per_epoch_;
      return rate_ * std::pow(spec_.factor, static_cast<double>(epoch / spec_.step_epochs));
    }
    case ScheduleKind::kCosine: {
      const auto rest = static_cast<double>(std::max<int64_t>(1, steps_ - spec_.warmup_steps));
      const double share = (step - static_cast<double>(spec_.warmup_steps)) / rest;
      return Cosine(rate_, spec_.min_rate, std::min(1.0, share));
    }
    case ScheduleKind::kPlateau: return std::max(spec_.min_rate, rate_ * plateau_factor_);
    default: return rate_;
  }
}

void LearningRate::EndEpoch(double loss) {
  if (loss < best_ * (1 - spec_.threshold)) {
    best_ = loss;
    worse_epochs_ = 0;
    return;
  }
  if (++worse_epochs_ <= spec_.patience) return;
  plateau_factor_ *= spec_.factor;
  worse_epochs_ = 0;
}

void LearningRate::Save(SavedValues& to) const {
  Put(to, "schedule.factor", plateau_factor_);
  Put(to, "schedule.best", best_);
  Put(to, "schedule.worse_epochs", worse_epochs_);
}

Status LearningRate::Restore(const SavedValues& saved) {
  MINIM_TRY(Get(saved, "schedule.factor", plateau_factor_));
  MINIM_TRY(Get(saved, "schedule.best", best_));
  return Get(saved, "schedule.worse_epochs", worse_epochs_);
}

Status CheckSchedule(const ScheduleSpec& s) {
  if (s.warmup_steps < 0)
    return InvalidArgument("schedule: warmup_steps is {}, expected at least 0", s.warmup_steps);
  if (s.step_epochs < 1)
    return InvalidArgument("schedule: step_epochs is {}, expected at least 1", s.step_epochs);
  if (!(s.factor > 0 && s.factor < 1))
    return InvalidArgument("schedule: factor is {}, expected between 0 and 1", s.factor);
  if (!(s.rise > 0 && s.rise < 1))
    return InvalidArgument("schedule: rise is {}, expected between 0 and 1", s.rise);
  if (!(s.first_divisor >= 1) || !(s.last_divisor >= 1))
    return InvalidArgument("schedule: divisors are {} and {}, expected at least 1", s.first_divisor,
                           s.last_divisor);
  if (!(s.min_rate >= 0))
    return InvalidArgument("schedule: min_rate is {}, expected at least 0", s.min_rate);
  if (s.patience < 0)
    return InvalidArgument("schedule: patience is {}, expected at least 0", s.patience);
  return {};
}

}  // namespace minim
