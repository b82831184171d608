#include "core/stats.h"

#include <algorithm>
#include <cmath>
#include <numeric>

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

Interval MedianInterval(std::vector<double> sample) {
  std::sort(sample.begin(), sample.end());
  const double n = static_cast<double>(sample.size()), half = 0.98 * std::sqrt(n);
  const auto at = [&](double place) {
    return sample[static_cast<size_t>(std::clamp(place, 0.0, n - 1))];
  };
  return {Percentile(sample, 0.5), at(std::floor(n / 2 - half)), at(std::ceil(n / 2 + half))};
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

Interval PairedProportions(std::span<const double> a, std::span<const double> b) {
  MINIM_CHECK(a.size() == b.size() && a.size() >= 2);
  const double n = static_cast<double>(a.size());
  double only_a = 0, only_b = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    only_a += a[i] > b[i];
    only_b += a[i] < b[i];
  }
  const double in_a = (only_a + 0.5) / (n + 2), in_b = (only_b + 0.5) / (n + 2);
  const double middle = in_a - in_b;
  const double half = 1.96 * std::sqrt((in_a + in_b - middle * middle) / (n + 2));
  return {(only_a - only_b) / n, middle - half, middle + half};
}

std::vector<double> RankPlacements(std::span<const float> scores,
                                   const std::vector<bool>& positive) {
  const double positives = static_cast<double>(std::count(positive.begin(), positive.end(), true));
  const double negatives = static_cast<double>(scores.size()) - positives;
  const bool nan = std::any_of(scores.begin(), scores.end(), [](float s) { return std::isnan(s); });
  if (positives == 0 || negatives == 0 || nan) return {};
  std::vector<size_t> order(scores.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return scores[a] < scores[b]; });
  std::vector<double> placements(scores.size());
  double below[2] = {};  // negative and positive samples with lower scores
  for (size_t first = 0, end = 0; first < order.size(); first = end) {
    double tied[2] = {};
    for (end = first; end < order.size() && scores[order[end]] == scores[order[first]]; ++end)
      ++tied[positive[order[end]]];
    const double of_positive = (below[0] + tied[0] / 2) / negatives;
    const double of_negative = (positives - below[1] - tied[1] / 2) / positives;
    for (size_t i = first; i < end; ++i)
      placements[order[i]] = positive[order[i]] ? of_positive : of_negative;
    for (int kind : {0, 1}) below[kind] += tied[kind];
  }
  return placements;
}

}  // namespace minim
