// ModelStats: what the protocol's statistics report of one version. Plain counters.
// Threads: every method may be called concurrently.
#pragma once

#include <atomic>
#include <cstdint>

#include "serve/model.h"

namespace minim::serve {

struct DurationStat {
  std::atomic<uint64_t> count{0};
  std::atomic<uint64_t> ns{0};

  void Add(Duration time) {
    ++count;
    ns += static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(time).count());
  }
};

struct ModelStats {
  DurationStat success, fail, queue, compute_input, compute_infer, compute_output;
  DurationStat cache_hit, cache_miss;
  std::atomic<uint64_t> inference_count{0};   // rows run
  std::atomic<uint64_t> execution_count{0};   // batches run
  std::atomic<int64_t> last_inference_ms{0};  // since the epoch
};

}  // namespace minim::serve
