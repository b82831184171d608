// LatencyHistogram: quantiles of durations within 1 %, in bounded memory.
// Threads: every method may be called concurrently; a reading taken while others add may miss some.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <span>
#include <vector>

#include "serve/model.h"

namespace minim::serve {

/// Counts in buckets whose bounds grow by 2 %: from 100 ns to 400 s; what is outside is counted in
/// the first or last. Adding is one atomic increment. Two histograms merge by adding their counts.
class LatencyHistogram {
 public:
  void Add(Duration time);
  void Merge(const LatencyHistogram& other);

  uint64_t count() const { return count_.load(std::memory_order_relaxed); }
  double sum_seconds() const;
  /// The time below which `fraction` of them lies, within 1 %; zero while there are none.
  Duration Quantile(double fraction) const;
  /// How many took at most each of the ascending bounds, as Prometheus wants them. A bound counts
  /// a bucket by its middle.
  std::vector<uint64_t> CountsUpTo(std::span<const double> bounds_seconds) const;

 private:
  static constexpr int kBuckets = 1120;

  static int BucketOf(double seconds);
  static double MiddleOf(int bucket);

  std::array<std::atomic<uint32_t>, kBuckets> buckets_{};
  std::atomic<uint64_t> count_{0};
  std::atomic<uint64_t> sum_ns_{0};
};

}  // namespace minim::serve
