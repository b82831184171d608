#include <algorithm>
#include <bit>
#include <cmath>

#include "serve/batching/policy.h"

namespace minim::serve {
namespace {

// The largest batch whose run fits into `budget`; at least 1.
int64_t LargestWithin(const LatencyModel& latency, int64_t max_batch, Duration budget) {
  int64_t best = 1;
  for (int64_t rows = 2; rows < max_batch * 2; rows *= 2) {
    const int64_t candidate = std::min(rows, max_batch);
    if (latency.Estimate(candidate) > budget) break;
    best = candidate;
  }
  return best;
}

}  // namespace

BatchDecision Adaptive(const BatchOptions& options, const QueueView& queue, TimePoint now) {
  TimePoint due = queue.oldest_arrival + options.latency_target;
  if (queue.oldest_deadline) due = std::min(due, *queue.oldest_deadline);
  const int64_t fits = LargestWithin(queue.latency, options.max_batch, due - now);
  const int64_t rows = std::min(queue.rows, options.max_batch);
  // Late already: smaller batches would only make the others later too.
  if (fits <= rows) return {.rows = now + queue.latency.Estimate(fits) > due ? rows : fits};
  const TimePoint latest = due - queue.latency.Estimate(fits);
  // Waiting for rows that do not come within the slack costs time and gains nothing.
  const double expected =
      queue.rows_per_second * std::chrono::duration<double>(latest - now).count();
  if (now >= latest || expected < 1) return {.rows = rows};
  const double fill_seconds = static_cast<double>(fits - rows) / queue.rows_per_second;
  const auto fill = std::chrono::round<Duration>(std::chrono::duration<double>(fill_seconds));
  return {.until =
              std::min(latest, now + std::max<Duration>(fill, std::chrono::microseconds(100)))};
}

void LatencyModel::Observe(int64_t rows, Duration time) {
  const int bucket = std::min<int>(kBuckets - 1, std::bit_width(static_cast<uint64_t>(rows)));
  const double seconds = std::chrono::duration<double>(time).count();
  // The first runs count fully, later ones a tenth, so that the estimate follows the machine.
  counts_[bucket] = std::min(counts_[bucket] + 1, 10);
  seconds_[bucket] += (seconds - seconds_[bucket]) / counts_[bucket];
}

Duration LatencyModel::Estimate(int64_t rows) const {
  const int wanted = std::min<int>(kBuckets - 1, std::bit_width(static_cast<uint64_t>(rows)));
  double seconds = 0;
  for (int bucket = 0; bucket <= wanted; ++bucket) {
    if (counts_[bucket] == 0) continue;
    seconds = std::max(seconds, std::ldexp(seconds_[bucket], wanted - bucket));
    if (bucket == wanted) seconds = seconds_[bucket];
  }
  return std::chrono::round<Duration>(std::chrono::duration<double>(seconds));
}

}  // namespace minim::serve
