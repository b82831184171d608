#include "core/stats.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"

namespace minim {

double Percentile(std::vector<double> sample, double fraction) {
  MINIM_CHECK(!sample.empty() && fraction >= 0 && fraction <= 1);
  std::sort(sample.begin(), sample.end());
  const double position = fraction * static_cast<double>(sample.size() - 1);
  const size_t below = static_cast<size_t>(position);
  const size_t above = std::min(below + 1, sample.size() - 1);
  return std::lerp(sample[below], sample[above], position - static_cast<double>(below));
}

Interval PairedDifference(std::span<const double> a, std::span<const double> b) {
  MINIM_CHECK(a.size() == b.size() && a.size() >= 2);
  const double n = static_cast<double>(a.size());
  double mean = 0;
  for (size_t i = 0; i < a.size(); ++i) mean += (a[i] - b[i]) / n;
  double squares = 0;
  for (size_t i = 0; i < a.size(); ++i) squares += std::pow(a[i] - b[i] - mean, 2);
  const double half = 1.96 * std::sqrt(squares / (n - 1) / n);
  return {mean, mean - half, mean + half};
}

}  // namespace minim
