#include <algorithm>

#include "serve/batching/policy.h"

namespace minim::serve {
namespace {

// A batch that would answer all its requests in time.
struct Plan {
  size_t skip = 0;
  int64_t rows = 0;
  int64_t fits = 0;  // rows that would still be in time
  double worth = 0;
  bool tight = false;  // a deadline, not the queue or the cap, ended it
};

// What a second of an instance is worth, in rows: as many as arrive in it, but no more than the
// fastest batch would answer.
double PriceOfTime(const BatchOptions& options, const QueueView& queue) {
  const int64_t best = queue.latency->MostPerSecond(options.max_batch);
  const double most = static_cast<double>(best) / ToSeconds(queue.latency->Estimate(best));
  return std::min(most, queue.rows_per_second / queue.instances);
}

// The rows, from request `first` on, that one run can answer in time.
Plan FitFrom(size_t first, const BatchOptions& options, const QueueView& queue, TimePoint now) {
  Plan plan{.skip = first};
  TimePoint due = TimePoint::max();
  plan.fits = options.max_batch;
  for (size_t i = first; i < queue.head.size(); ++i) {
    const Waiting& next = queue.head[i];
    if (next.due < due) {
      due = next.due;
      const int64_t within = queue.latency->LargestWithin(due - now, options.max_batch);
      if (within < std::max<int64_t>(plan.rows, 1)) {
        // It cannot be answered in time, or only by a smaller batch than without it.
        plan.tight = true;
        return plan;
      }
      plan.fits = within;
    }
    if (plan.rows + next.rows > plan.fits && !(plan.rows == 0 && next.rows > options.max_batch)) {
      plan.tight = plan.fits < options.max_batch;
      return plan;
    }
    plan.rows += next.rows;
  }
  return plan;
}

Plan BestPlan(const BatchOptions& options, const QueueView& queue, double price, TimePoint now) {
  Plan best;
  const int64_t wanted = std::min(queue.rows, options.max_batch);
  for (size_t skip = 0; skip < queue.head.size(); ++skip) {
    Plan plan = FitFrom(skip, options, queue, now);
    if (plan.rows == 0) continue;
    plan.worth =
        static_cast<double>(plan.rows) - price * ToSeconds(queue.latency->Estimate(plan.rows));
    if (best.rows == 0 || plan.worth > best.worth + 1e-6) best = plan;
    // Leaving out more gains nothing once the batch has all it wants.
    if (plan.rows >= wanted || !plan.tight) break;
  }
  return best;
}

}  // namespace

BatchDecision Adaptive(const BatchOptions& options, const QueueView& queue, TimePoint now) {
  if (queue.rows == 0) {
    return {.rows = std::min(queue.late_rows, options.max_batch), .reason = ReleaseReason::kLate};
  }
  if (queue.latency->empty()) return WorkConserving(options, queue, now);
  const double price = PriceOfTime(options, queue);
  const Plan plan = BestPlan(options, queue, price, now);
  if (plan.rows == 0) return {.skip = static_cast<int64_t>(queue.head.size())};
  BatchDecision decision{.rows = plan.rows, .skip = static_cast<int64_t>(plan.skip)};
  const int64_t worth = queue.latency->MostWorth(plan.rows, price);
  if (worth < plan.rows) {
    decision.rows = worth;
    decision.reason = ReleaseReason::kWorth;
  } else if (plan.rows >= options.max_batch) {
    decision.reason = ReleaseReason::kFull;
  } else if (plan.tight) {
    decision.reason = ReleaseReason::kDeadline;
  } else if (plan.rows == queue.rows) {
    // Nobody on time is left behind: room for those that are late.
    decision.rows += std::clamp<int64_t>(plan.fits - plan.rows, 0, queue.late_rows);
  }
  return decision;
}

}  // namespace minim::serve
