#include <algorithm>

#include "serve/batching/policy.h"

namespace minim::serve {

BatchDecision TimeWindow(const BatchOptions& options, const QueueView& queue, TimePoint now) {
  const int64_t rows = std::min(queue.rows, options.max_batch);
  if (rows >= options.max_batch) return {.rows = rows, .reason = ReleaseReason::kFull};
  const bool enough = rows >= options.min_batch;
  const TimePoint over =
      queue.oldest_arrival + (enough ? options.window : std::max(options.window, options.max_wait));
  const TimePoint latest = queue.due - queue.latency->High(rows);
  if (now >= latest) return {.rows = rows, .reason = ReleaseReason::kDeadline};
  if (now >= over) return {.rows = rows, .reason = ReleaseReason::kWindow};
  return {.until = std::min(over, latest)};
}

}  // namespace minim::serve
