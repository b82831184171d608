#include "serve/metrics/histogram.h"

#include <algorithm>
#include <cmath>

namespace minim::serve {
namespace {

constexpr double kFirst = 100e-9;
constexpr double kGrowth = 1.02;

}  // namespace

int LatencyHistogram::BucketOf(double seconds) {
  if (!(seconds > kFirst)) return 0;
  static const double per_log = 1 / std::log(kGrowth);
  return std::clamp(static_cast<int>(std::log(seconds / kFirst) * per_log), 0, kBuckets - 1);
}

double LatencyHistogram::MiddleOf(int bucket) { return kFirst * std::pow(kGrowth, bucket + 0.5); }

void LatencyHistogram::Add(Duration time) {
  const auto ns = std::chrono::duration_cast<std::chrono::nanoseconds>(time).count();
  const double seconds = std::chrono::duration<double>(time).count();
  buckets_[static_cast<size_t>(BucketOf(seconds))].fetch_add(1, std::memory_order_relaxed);
  sum_ns_.fetch_add(static_cast<uint64_t>(std::max<int64_t>(ns, 0)), std::memory_order_relaxed);
  count_.fetch_add(1, std::memory_order_relaxed);
}

void LatencyHistogram::Merge(const LatencyHistogram& other) {
  for (size_t b = 0; b < buckets_.size(); ++b)
    buckets_[b].fetch_add(other.buckets_[b].load(std::memory_order_relaxed),
                          std::memory_order_relaxed);
  sum_ns_.fetch_add(other.sum_ns_.load(std::memory_order_relaxed), std::memory_order_relaxed);
  count_.fetch_add(other.count(), std::memory_order_relaxed);
}

double LatencyHistogram::sum_seconds() const {
  return static_cast<double>(sum_ns_.load(std::memory_order_relaxed)) * 1e-9;
}

Duration LatencyHistogram::Quantile(double fraction) const {
  uint64_t total = 0;
  for (const auto& bucket : buckets_) total += bucket.load(std::memory_order_relaxed);
  if (total == 0) return {};
  const auto rank = static_cast<uint64_t>(std::ceil(fraction * static_cast<double>(total)));
  uint64_t seen = 0;
  for (int b = 0; b < kBuckets; ++b) {
    seen += buckets_[static_cast<size_t>(b)].load(std::memory_order_relaxed);
    if (seen >= std::max<uint64_t>(rank, 1))
      return std::chrono::round<Duration>(std::chrono::duration<double>(MiddleOf(b)));
  }
  return {};
}

std::vector<uint64_t> LatencyHistogram::CountsUpTo(std::span<const double> bounds_seconds) const {
  std::vector<uint64_t> counts;
  uint64_t seen = 0;
  int b = 0;
  for (const double bound : bounds_seconds) {
    for (; b < kBuckets && MiddleOf(b) <= bound; ++b)
      seen += buckets_[static_cast<size_t>(b)].load(std::memory_order_relaxed);
    counts.push_back(seen);
  }
  return counts;
}

}  // namespace minim::serve
