#include "serve/batching/latency_model.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace minim::serve {
namespace {

constexpr int kMemory = 16;  // runs over which a bucket averages
// Runs of other sizes after which a bucket is too old: then the line between its neighbours stands,
// and a size that was once unlucky gets another chance.
constexpr int64_t kForget = 256;
constexpr int64_t kForgetNew = 16;  // the same for one that had few runs
constexpr double kHiccup = 1.25;    // a run counts as at most this many times what was expected
constexpr double kClearly = 0.1;    // by which fewer rows must be better
constexpr int kKnown = 4;           // runs of a size from which on its spread counts
constexpr double kQuantile = 0.95;  // of High
constexpr double kQuantileStep = 0.02;
constexpr double kMaxSpread = 2;

// A power of two ends its bucket: what takes a step up, does so above one.
int BucketOf(int64_t rows, int count) {
  if (rows == 1) return 0;
  const auto n = static_cast<uint64_t>(rows - 1);
  const int octave = std::bit_width(n) - 1;
  const double half = std::ldexp(1.4142135623730951, octave);
  return std::min(count - 1, 1 + 2 * octave + (static_cast<double>(n) >= half ? 1 : 0));
}

}  // namespace

void LatencyModel::Observe(int64_t rows, Duration time) {
  const double size = static_cast<double>(rows);
  const double expected = Seconds(size);
  double seconds = std::max(ToSeconds(time), 1e-9);
  ++observations_;
  Bucket& bucket = buckets_[static_cast<size_t>(BucketOf(rows, kBuckets))];
  if (Forgotten(bucket)) bucket = {};
  if (bucket.count >= kKnown) {
    const bool above = seconds > spread_ * expected * (1 + 1e-6);
    spread_ =
        std::clamp(spread_ + kQuantileStep * (above ? kQuantile : kQuantile - 1), 1.0, kMaxSpread);
  }
  bucket.last = observations_;
  const double measured = seconds;
  // The fastest of the first runs stands for them, later ones count a sixteenth, so that the
  // estimate follows the machine.
  bucket.count = std::min(bucket.count + 1, kMemory);
  if (bucket.count >= kKnown) {
    seconds = std::min(seconds, std::max(kHiccup * expected, bucket.before));
    bucket.rows += (size - bucket.rows) / bucket.count;
    bucket.seconds += (seconds - bucket.seconds) / bucket.count;
  } else if (bucket.count == 1 || seconds < bucket.seconds) {
    bucket.rows = size;
    bucket.seconds = seconds;
  }
  bucket.before = measured;
  Rebuild();
}

bool LatencyModel::Forgotten(const Bucket& bucket) const {
  return observations_ - bucket.last > (bucket.count < kKnown ? kForgetNew : kForget);
}

void LatencyModel::Rebuild() {
  knot_count_ = 0;
  for (const Bucket& bucket : buckets_) {
    if (bucket.count == 0 || Forgotten(bucket)) continue;
    knots_[static_cast<size_t>(knot_count_++)] = {bucket.rows, bucket.seconds, bucket.last};
  }
  // Fewer rows never take longer: they could be padded. Of two that say so, the later is right.
  for (int i = 1; i < knot_count_; ++i) {
    if (knots_[i].seconds >= knots_[i - 1].seconds) continue;
    if (knots_[i].last < knots_[i - 1].last) knots_[i].seconds = knots_[i - 1].seconds;
    for (int j = i - 1; j >= 0; --j)
      knots_[j].seconds = std::min(knots_[j].seconds, knots_[i].seconds);
  }
  const Knot& first = knots_[0];
  const Knot& last = knots_[static_cast<size_t>(knot_count_ - 1)];
  beyond_slope_ = last.seconds / last.rows;
  if (knot_count_ == 1) return;
  const Knot& before = knots_[static_cast<size_t>(knot_count_ - 2)];
  const double whole = (last.seconds - first.seconds) / (last.rows - first.rows);
  const double end = (last.seconds - before.seconds) / (last.rows - before.rows);
  beyond_slope_ = std::min(beyond_slope_, std::max(whole, end));
}

double LatencyModel::Seconds(double rows) const {
  if (knot_count_ == 0) return 0;
  const Knot* end = knots_.data() + knot_count_;
  const Knot* above = std::lower_bound(knots_.data(), end, rows,
                                       [](const Knot& knot, double r) { return knot.rows < r; });
  if (above == end) return end[-1].seconds + beyond_slope_ * (rows - end[-1].rows);
  if (above == knots_.data()) {
    // Down along the first line, but never below what is proportional.
    if (knot_count_ == 1) return above->seconds;
    const double slope = (above[1].seconds - above[0].seconds) / (above[1].rows - above[0].rows);
    return std::max(above->seconds - slope * (above->rows - rows),
                    above->seconds * rows / above->rows);
  }
  const Knot& below = above[-1];
  const double share = (rows - below.rows) / (above->rows - below.rows);
  return below.seconds + share * (above->seconds - below.seconds);
}

int64_t LatencyModel::LargestWithin(Duration budget, int64_t most) const {
  const double limit = ToSeconds(budget) / spread_ * (1 + 1e-9);
  int64_t fits = 0, too_many = most + 1;
  if (Seconds(static_cast<double>(most)) <= limit) return limit >= 0 ? most : 0;
  while (fits + 1 < too_many) {
    const int64_t middle = (fits + too_many) / 2;
    (Seconds(static_cast<double>(middle)) <= limit ? fits : too_many) = middle;
  }
  return fits;
}

// A curve of lines has its best values where they meet.
template <typename Value>
int64_t LatencyModel::Best(int64_t most, double margin, Value value) const {
  int64_t best = most;
  double best_value = value(static_cast<double>(most)) + margin;
  const auto look_at = [&](int64_t rows) {
    if (rows < 1 || rows >= most) return;
    const double worth = value(static_cast<double>(rows));
    if (worth <= best_value) return;
    best = rows;
    best_value = worth;
  };
  for (int i = knot_count_ - 1; i >= 0; --i) {
    const auto rows = static_cast<int64_t>(knots_[i].rows);
    look_at(rows + 1);
    look_at(rows);
  }
  look_at(1);
  return best;
}

int64_t LatencyModel::MostWorth(int64_t most, double price) const {
  return Best(most, kClearly * static_cast<double>(most),
              [&](double rows) { return rows - price * Seconds(rows); });
}

int64_t LatencyModel::MostPerSecond(int64_t most) const {
  if (empty()) return most;
  const auto value = [&](double rows) { return rows / std::max(Seconds(rows), 1e-12); };
  return Best(most, kClearly * value(static_cast<double>(most)), value);
}

}  // namespace minim::serve
