// CircuitBreaker: when to leave a backend alone that fails, and when to look whether it is back.
// It decides from what it is told: no clock, no lock.
#pragma once

#include <algorithm>
#include <chrono>

#include "serve/model.h"

namespace minim::serve {

struct BreakerOptions {
  int failures = 3;  // in a row that open it
  Duration least_backoff = std::chrono::milliseconds(100);
  Duration most_backoff = std::chrono::seconds(10);  // it doubles up to this
};

class CircuitBreaker {
 public:
  explicit CircuitBreaker(const BreakerOptions& options) : options_(options) {}

  /// Whether the backend may be tried, be it as a probe.
  bool MayTry(TimePoint now) const { return now >= retry_at_; }
  /// When it may; in the past if now.
  TimePoint retry_at() const { return retry_at_; }

  /// An answer came in time: all is well again.
  void Succeeded() { *this = CircuitBreaker(options_); }
  /// Opens after several in a row; while it is open, after each probe that fails, for twice as
  /// long.
  void Failed(TimePoint now) {
    if (++failures_ < options_.failures) return;
    retry_at_ = now + backoff_;
    backoff_ = std::min(backoff_ * 2, options_.most_backoff);
  }

 private:
  BreakerOptions options_;
  int failures_ = 0;
  Duration backoff_ = options_.least_backoff;
  TimePoint retry_at_{};
};

}  // namespace minim::serve
