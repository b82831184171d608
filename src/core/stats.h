// Statistics that several layers need: percentiles and paired confidence intervals.
#pragma once

#include <span>
#include <vector>

namespace minim {

struct Interval {
  double mean = 0;
  double low = 0;
  double high = 0;
};

/// The value below which `fraction` of the sorted sample lies, linear between neighbours. Takes
/// the sample by value because it sorts it. Needs a non-empty sample and fraction in [0, 1].
double Percentile(std::vector<double> sample, double fraction);

/// The median with its 95 % confidence interval by order statistics, which assumes nothing of the
/// distribution: the elements 0.98 sqrt(n) places to either side. Needs a non-empty sample.
Interval MedianInterval(std::vector<double> sample);

/// 95 % confidence interval of the mean of paired differences a[i] - b[i], by the normal
/// approximation mean ± 1.96 s/sqrt(n). Needs equal sizes of at least 2.
Interval PairedDifference(std::span<const double> a, std::span<const double> b);

/// The same of samples that are 0 or 1: the adjusted interval of Agresti and Min, "Simple improved
/// confidence intervals for comparing matched proportions" (2005), which is honest where few pairs
/// or none differ. The mean is not adjusted.
Interval PairedProportions(std::span<const double> a, std::span<const double> b);

/// For each sample the share of those of the other kind that it is ranked right against: a positive
/// one above, a negative one below, a tie counting half. The mean over the positive ones, as over
/// the negative ones, is the area under the ROC curve. Empty when all are of one kind or a score is
/// NaN.
std::vector<double> RankPlacements(std::span<const float> scores,
                                   const std::vector<bool>& positive);

}  // namespace minim
