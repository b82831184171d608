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
  bool tight = false;         // a deadline, not the queue or the cap, ended it
  bool first_limits = false;  // that of its first request
};

// The most rows per second that an instance can answer.
double Capacity(const BatchOptions& options, const LatencyModel& latency) {
  const int64_t best = latency.MostPerSecond(options.max_batch);
  return static_cast<double>(best) / std::max(ToSeconds(latency.Estimate(best)), 1e-9);
}

// How scarce time is, 0 to 1: the part of it that those who arrive need, or those who wait.
double Scarcity(const BatchOptions& options, const QueueView& queue, double capacity) {
  const double waiting =
      static_cast<double>(queue.rows) / std::max(ToSeconds(options.latency_target), 1e-9);
  return std::min(1.0, std::max(queue.rows_per_second, waiting) / queue.instances / capacity);
}

// The rows, from request `first` on, that one run can answer in time.
Plan FitFrom(size_t first, const BatchOptions& options, const QueueView& queue, TimePoint now) {
  Plan plan{.skip = first};
  TimePoint due = TimePoint::max();
  plan.fits = options.max_batch;
  plan.first_limits = true;
  for (size_t i = first; i < queue.head.size(); ++i) {
    const Waiting& next = queue.head[i];
    if (next.due < due) {
      due = next.due;
      plan.first_limits = i == first;
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

// A request that leaves too little time for a good batch may be left out: that costs its answer, a
// small batch costs time that others need. With s the scarcity and c the capacity, leaving out k
// and running n is worth s (n - c L(n)) - (1 - s) k: what n gain over the time they take, and, as
// long as there is time for them anyway, the k that are lost.
Plan BestPlan(const BatchOptions& options, const QueueView& queue, double capacity, TimePoint now) {
  const double scarcity = Scarcity(options, queue, capacity);
  Plan best;
  const int64_t wanted = std::min(queue.rows, options.max_batch);
  double lost = 0;
  for (size_t skip = 0; skip < queue.head.size(); ++skip) {
    Plan plan = FitFrom(skip, options, queue, now);
    if (plan.rows > 0) {
      const double gain =
          static_cast<double>(plan.rows) - capacity * ToSeconds(queue.latency->Estimate(plan.rows));
      plan.worth = scarcity * gain - (1 - scarcity) * lost;
      if (best.rows == 0 || plan.worth > best.worth + 1e-6) best = plan;
      // Leaving out the next gains nothing if it is not what makes the batch small.
      if (plan.rows >= wanted || !plan.tight || !plan.first_limits) break;
      lost += static_cast<double>(queue.head[skip].rows);
    }
  }
  return best;
}

}  // namespace

BatchDecision Adaptive(const BatchOptions& options, const QueueView& queue, TimePoint now) {
  if (queue.rows == 0) {
    return {.rows = std::min(queue.late_rows, options.max_batch), .reason = ReleaseReason::kLate};
  }
  if (queue.latency->empty()) return WorkConserving(options, queue, now);
  const double capacity = Capacity(options, *queue.latency);
  const Plan plan = BestPlan(options, queue, capacity, now);
  if (plan.rows == 0) return {.skip = static_cast<int64_t>(queue.head.size())};
  BatchDecision decision{.rows = plan.rows, .skip = static_cast<int64_t>(plan.skip)};
  const int64_t worth = queue.latency->MostWorth(plan.rows, capacity);
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
