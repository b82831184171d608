// Which models to hold in memory: decided from a snapshot. No clock, thread, lock or I/O.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace minim::serve {

struct ResidentModel {
  std::string name;
  uint64_t bytes = 0;
  /// Requests an hour to expect; see UsageHistory.
  double rate = 0;
  bool pinned = false;  // never unloaded
  bool busy = false;    // in use this moment: not unloaded now
};

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

}  // namespace minim::serve
