// Arrival times of requests, made by a seed: the same list on every machine.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace minim {

/// How fast, how many, and the scale of time: bursts last a few of it.
struct ArrivalOptions {
  double per_second = 1000;
  int64_t count = 1000;
  double scale_seconds = 0.05;
  uint64_t seed = 1;
};

/// Seconds from the start, rising.
using Arrivals = std::vector<double>;

/// Independent requests at a constant rate.
Arrivals PoissonArrivals(const ArrivalOptions& options);
/// A quarter of the time, for 5 scales on average, three times the rate; else a third of it.
Arrivals BurstArrivals(const ArrivalOptions& options);
/// The rate swings by 80 % as a sine with three periods.
Arrivals DiurnalArrivals(const ArrivalOptions& options);

struct ArrivalKind {
  std::string_view name;
  Arrivals (*make)(const ArrivalOptions&);
};
std::span<const ArrivalKind> ArrivalKinds();

}  // namespace minim
