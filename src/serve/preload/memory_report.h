// MemoryReport: what holds how much memory, and what could be done about it. Data and text only.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "serve/metrics/histogram.h"
#include "serve/preload/usage_history.h"

namespace minim::serve {

/// One tier of one version. Packed weights that tiers share count in each.
struct TierMemory {
  std::string version, tier;
  uint64_t weight_bytes = 0;
  /// Arenas of the contexts that wait for a run.
  uint64_t context_bytes = 0;
};

struct ModelMemory {
  std::string name;
  /// "loaded", "loading", "unloading", "available": its first request loads it, or "unloaded".
  std::string state;
  bool pinned = false;
  /// Held; of what is not loaded, what loading it would take, as far as known.
  uint64_t bytes = 0;
  /// Requests an hour to expect.
  double rate = 0;
  std::optional<WallTime> last_use;
  /// Since the last request; if there never was one, since it was loaded.
  std::chrono::milliseconds idle{0};
  std::vector<TierMemory> tiers;
  // Under a budget: requests that found it loaded, and that did not; loads for their sake.
  uint64_t hits = 0, misses = 0, evictions = 0;
  std::shared_ptr<const LatencyHistogram> loads;

  bool holds_memory() const { return state != "available" && state != "unloaded"; }
};

struct MemoryReport {
  /// For models; 0: none.
  uint64_t budget = 0;
  /// Above so many bytes clean-up trims.
  uint64_t threshold = 0;
  std::vector<ModelMemory> models;
  uint64_t cache_bytes = 0;
  /// Inputs of requests in progress.
  uint64_t request_bytes = 0;

  uint64_t model_bytes() const;
};

/// What to do about it: whole sentences, the most weighty first.
std::vector<std::string> Recommendations(const MemoryReport& report);
std::string MemoryJson(const MemoryReport& report);
/// "1.5 GiB".
std::string ShowBytes(uint64_t bytes);

}  // namespace minim::serve
