// LatencyModel: latency(rows) of one model, learned from its runs. A cold one knows nothing and
// says so; one run is enough for a first guess. Threads: none of its own; whoever holds it guards
// it.
#pragma once

#include <array>
#include <span>

#include "serve/model.h"

namespace minim::serve {

inline double ToSeconds(Duration time) { return std::chrono::duration<double>(time).count(); }
inline Duration FromSeconds(double seconds) {
  return std::chrono::round<Duration>(std::chrono::duration<double>(seconds));
}

class LatencyModel {
 public:
  /// Needs rows of at least 1. A run that takes far longer than expected counts only if the one
  /// before it did: a hiccup moves little, a machine that has become slower is soon followed.
  void Observe(int64_t rows, Duration time);

  /// True as long as nothing was observed; every estimate is zero then.
  bool empty() const { return knot_count_ == 0; }
  /// What a run takes on average. Between sizes seen: on the line between them; beyond: on the line
  /// through all, at most proportional to the rows.
  Duration Estimate(int64_t rows) const { return FromSeconds(Seconds(static_cast<double>(rows))); }
  /// What nineteen of twenty runs stay under.
  Duration High(int64_t rows) const {
    return FromSeconds(spread_ * Seconds(static_cast<double>(rows)));
  }
  /// High over Estimate, 1 or more.
  double spread() const { return spread_; }

  /// The most rows, up to `most`, whose High stays within `budget`; 0 if not even one row does.
  int64_t LargestWithin(Duration budget, int64_t most) const;
  /// The rows, 1 to `most`, for which rows - price * seconds is largest: `price` says what a second
  /// is worth in rows. Fewer than `most` only if they are clearly better: the curve is a guess, and
  /// sizes that are not run are not learned.
  int64_t MostWorth(int64_t most, double price) const;
  /// The rows, 1 to `most`, with the most rows per second; fewer than `most` as above.
  int64_t MostPerSecond(int64_t most) const;

 private:
  // Two sizes of bucket to each doubling of rows.
  static constexpr int kBuckets = 48;
  struct Bucket {
    double rows = 0, seconds = 0;  // fading means
    double before = 0;             // seconds of the last run, as measured
    int count = 0;
    int64_t last = 0;  // observations in all when this one got its last
  };
  struct Knot {
    double rows = 0, seconds = 0;
    int64_t last = 0;
  };

  double Seconds(double rows) const;
  bool Forgotten(const Bucket& bucket) const;
  void Rebuild();
  template <typename Value>
  int64_t Best(int64_t most, double margin, Value value) const;

  std::array<Bucket, kBuckets> buckets_{};
  // The curve: buckets seen of late, by rows; seconds never fall.
  std::array<Knot, kBuckets> knots_{};
  int knot_count_ = 0;
  int64_t observations_ = 0;
  double beyond_slope_ = 0;  // seconds per row beyond the last knot
  double spread_ = 1;
};

}  // namespace minim::serve
