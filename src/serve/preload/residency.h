// Which models to hold in memory: decided from a snapshot. No clock, thread, lock or I/O.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

namespace minim::serve {

struct ResidentModel {
  std::string name;
  uint64_t bytes = 0;
  /// Requests an hour to expect; see UsageHistory.
  double rate = 0;
  bool pinned = false;                // never unloaded
  bool busy = false;                  // in use this moment: not unloaded now
  std::chrono::milliseconds idle{0};  // since its last request, or since it was loaded
};

/// Names to load at start-up, in this order: what is pinned, then the `most` that were asked for
/// most by `by_use`, or, if it knows none of them, all in the order of `models`; each only if it
/// fits into what is left of the budget.
std::vector<std::string> ChooseAtStart(const std::vector<ResidentModel>& models,
                                       const std::vector<std::string>& by_use, uint64_t budget,
                                       size_t most);

/// Names to unload so that `needed` bytes more fit into the budget: the least rate per byte first,
/// and none beyond what is needed. All that can go if even that is not enough.
std::vector<std::string> ChooseEvictions(std::vector<ResidentModel> loaded, uint64_t needed,
                                         uint64_t budget);

/// Names of models that are not loaded and worth loading ahead of their first request: in the order
/// of rate per byte they fit into the budget together with what is pinned, and each is expected
/// `margin` times as often as what would have to go for it. At most `most`.
std::vector<std::string> ChoosePreloads(const std::vector<ResidentModel>& loaded,
                                        const std::vector<ResidentModel>& others, uint64_t budget,
                                        size_t most, double margin = 1.2);

/// Names to unload so that no more than `limit` bytes are held: of those without a request for an
/// hour, and of which less than one an hour is expected, the least useful first. Fewer if there are
/// not enough of them.
std::vector<std::string> ChooseIdle(std::vector<ResidentModel> loaded, uint64_t limit);

}  // namespace minim::serve
