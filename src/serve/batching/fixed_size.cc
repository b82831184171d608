#include <algorithm>

#include "serve/batching/policy.h"

namespace minim::serve {

BatchDecision FixedSize(const BatchOptions& options, const QueueView& queue, TimePoint now) {
  const int64_t rows = std::min(queue.rows, options.max_batch);
  TimePoint latest = queue.oldest_arrival + options.max_wait;
  if (queue.oldest_deadline)
    latest = std::min(latest, *queue.oldest_deadline - queue.latency.Estimate(rows));
  if (rows >= options.max_batch || now >= latest) return {.rows = rows};
  return {.until = latest};
}

}  // namespace minim::serve
