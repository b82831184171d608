// Statistics that several layers need: percentiles and paired confidence intervals.
#pragma once

#include <span>
#include <vector>

namespace minim {

/// The value below which `fraction` of the sorted sample lies, linear between neighbours. Takes
/// the sample by value because it sorts it. Needs a non-empty sample and fraction in [0, 1].
double Percentile(std::vector<double> sample, double fraction);

struct Interval {
  double mean = 0;
  double low = 0;
  double high = 0;
};

/// 95 % confidence interval of the mean of paired differences a[i] - b[i], by the normal
/// approximation mean ± 1.96 s/sqrt(n). Needs equal sizes of at least 2.
Interval PairedDifference(std::span<const double> a, std::span<const double> b);

}  // namespace minim
