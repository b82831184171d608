#include "bench/simulator/oracle.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "core/error.h"

namespace minim {
namespace {

constexpr double kNever = std::numeric_limits<double>::infinity();

// After so many requests: by the number dropped, the earliest time at which the instance is free.
class Front {
 public:
  void Resize(size_t size) { free_.assign(size, kNever); }
  void Offer(size_t dropped, double free) {
    low_ = std::min(low_, dropped);
    high_ = std::max(high_, dropped + 1);
    free_[dropped] = std::min(free_[dropped], free);
  }
  // f(dropped, free) for what is neither worse in both than another, nor free before `now`, which
  // is worth no more than free at `now`.
  template <typename F>
  void ForEachUndominated(double now, F&& f) const {
    double best = kNever;
    for (size_t dropped = low_; dropped < high_; ++dropped) {
      const double free = std::max(free_[dropped], now);
      if (free >= best) continue;
      best = free;
      f(dropped, free);
    }
  }
  void Clear() {
    if (low_ < high_)
      std::fill(free_.begin() + static_cast<std::ptrdiff_t>(low_),
                free_.begin() + static_cast<std::ptrdiff_t>(high_), kNever);
    low_ = free_.size();
    high_ = 0;
  }
  size_t low() const { return low_; }

 private:
  std::vector<double> free_;
  size_t low_ = 0, high_ = 0;
};

}  // namespace

int64_t OracleInTime(std::span<const double> arrivals, double target_seconds,
                     std::span<const double> run_seconds) {
  MINIM_CHECK(std::is_sorted(run_seconds.begin(), run_seconds.end()));
  const size_t count = arrivals.size(), cap = run_seconds.size();
  std::vector<Front> fronts(cap + 1);  // a ring: a batch reaches at most `cap` ahead
  for (Front& front : fronts) {
    front.Resize(count + 1);
    front.Clear();
  }
  fronts[0].Offer(0, 0);
  for (size_t i = 0; i < count; ++i) {
    Front& here = fronts[i % (cap + 1)];
    const double due = arrivals[i] + target_seconds;
    here.ForEachUndominated(arrivals[i], [&](size_t dropped, double free) {
      fronts[(i + 1) % (cap + 1)].Offer(dropped + 1, free);
      for (size_t n = 1; n <= cap && i + n <= count; ++n) {
        const double end = std::max(free, arrivals[i + n - 1]) + run_seconds[n - 1];
        if (end > due + 1e-12) break;
        fronts[(i + n) % (cap + 1)].Offer(dropped, end);
      }
    });
    here.Clear();
  }
  return static_cast<int64_t>(count - fronts[count % (cap + 1)].low());
}

}  // namespace minim
