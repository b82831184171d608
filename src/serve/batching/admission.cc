#include "serve/batching/admission.h"

#include <algorithm>
#include <cmath>

namespace minim::serve {

void SendingTime::Observe(Duration time) {
  // Rises 49 times as fast as it falls: steady where one in 50 is above.
  constexpr double kRise = 1.049, kFall = 0.999, kLeast = 1e-6;
  const double seconds = ToSeconds(time);
  const double high = high_.load(std::memory_order_relaxed);
  const double next = high == 0 ? seconds : high * (seconds > high ? kRise : kFall);
  high_.store(std::max(next, kLeast), std::memory_order_relaxed);
}

Pace PaceOf(const BatchOptions& bounds, const LatencyModel& latency, double rows_per_second) {
  Pace pace{.rows = bounds.max_batch, .rows_per_second = rows_per_second};
  if (latency.empty()) return pace;
  const int64_t fits = latency.LargestWithin(ReachableTarget(bounds, latency), bounds.max_batch);
  pace.rows = latency.MostPerSecond(std::max<int64_t>(fits, 1));
  pace.run_seconds = ToSeconds(latency.Estimate(pace.rows));
  return pace;
}

TimePoint PredictAnswer(const Backlog& backlog, const Pace& pace, const LatencyModel& latency,
                        TimePoint now) {
  if (latency.empty()) return now;
  const auto rows = static_cast<int64_t>(std::ceil(std::clamp(backlog.rows, 1.0, 1e12)));
  const int64_t full_runs = (rows - 1) / pace.rows;
  const auto instances = static_cast<int64_t>(backlog.free_at.size());
  const TimePoint free = backlog.free_at[static_cast<size_t>(full_runs % instances)];
  // A day is as good as for ever, and does not overflow.
  const double before =
      std::min(static_cast<double>(full_runs / instances) * pace.run_seconds, 86400.0);
  const TimePoint begin = std::max(free, now) + FromSeconds(before);
  const double joining = std::min(pace.rows_per_second * ToSeconds(begin - now), 1e9);
  const int64_t rest = rows - full_runs * pace.rows;
  return begin + latency.High(std::min(pace.rows, rest + static_cast<int64_t>(joining)));
}

Duration ReachableTarget(const BatchOptions& bounds, const LatencyModel& latency) {
  const Duration one = latency.High(1);
  return one > bounds.latency_target ? 2 * one : bounds.latency_target;
}

}  // namespace minim::serve
