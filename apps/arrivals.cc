#include "apps/arrivals.h"

#include <cmath>
#include <functional>
#include <numbers>
#include <random>

namespace minim {
namespace {

constexpr double kOnFactor = 3, kOffFactor = 1.0 / 3, kOnShare = 0.25, kOnScales = 5;
constexpr double kSwing = 0.8, kPeriods = 3;

// The standard library's distributions differ between implementations, its engine does not.
class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed) {}
  double Uniform() { return static_cast<double>((engine_() >> 11) + 1) * 0x1p-53; }
  double Exponential(double mean) { return -mean * std::log(Uniform()); }

 private:
  std::mt19937_64 engine_;
};

// A process whose rate is at most `most`: drawn at that rate, then thinned.
Arrivals Thinned(int64_t count, double most, Random& random,
                 const std::function<double(double)>& rate) {
  Arrivals arrivals;
  double now = 0;
  while (static_cast<int64_t>(arrivals.size()) < count) {
    now += random.Exponential(1 / most);
    if (random.Uniform() * most <= rate(now)) arrivals.push_back(now);
  }
  return arrivals;
}

constexpr ArrivalKind kKinds[] = {
    {"poisson", PoissonArrivals}, {"burst", BurstArrivals}, {"diurnal", DiurnalArrivals}};

}  // namespace

std::span<const ArrivalKind> ArrivalKinds() { return kKinds; }

Arrivals PoissonArrivals(const ArrivalOptions& options) {
  Random random(options.seed);
  return Thinned(options.count, options.per_second, random,
                 [&](double) { return options.per_second; });
}

Arrivals BurstArrivals(const ArrivalOptions& options) {
  Random random(options.seed);
  Random phases(options.seed + 0x9E3779B97F4A7C15u);
  bool on = false;
  double until = 0;
  return Thinned(options.count, kOnFactor * options.per_second, random, [&](double now) {
    while (now >= until) {
      on = !on;
      const double on_mean = kOnScales * options.scale_seconds;
      until += phases.Exponential(on ? on_mean : on_mean * (1 - kOnShare) / kOnShare);
    }
    return options.per_second * (on ? kOnFactor : kOffFactor);
  });
}

Arrivals DiurnalArrivals(const ArrivalOptions& options) {
  Random random(options.seed);
  const double period = static_cast<double>(options.count) / options.per_second / kPeriods;
  return Thinned(options.count, (1 + kSwing) * options.per_second, random, [&](double now) {
    return options.per_second * (1 + kSwing * std::sin(2 * std::numbers::pi * now / period));
  });
}

}  // namespace minim
