#include "compress/range_choice.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "core/error.h"

namespace minim {
namespace {

struct Bounds {
  double low = 0, high = 0;
};

// The numbers that 8 bits can hold when they cover `range`.
struct Grid {
  double scale = 1, low = 0, high = 0;

  Grid(const Bounds& range, bool symmetric) {
    if (symmetric) {
      scale = std::max(-range.low, range.high) / 127;
      low = -127 * scale;
      high = 127 * scale;
    } else {
      scale = (range.high - range.low) / 255;
      const double zero = std::clamp(std::nearbyint(-range.low / scale), 0.0, 255.0);
      low = -zero * scale;
      high = (255 - zero) * scale;
    }
  }
};

// The integral of (u - round(u))^2 from 0 to t.
double RoundingIntegral(double t) {
  const double n = std::nearbyint(t), d = t - n;
  return (n + 4 * d * d * d) / 12;
}

double Cube(double x) { return x * x * x; }

class Histogram {
 public:
  explicit Histogram(const ValueProfile& profile)
      : counts_(profile.counts),
        low_(profile.low),
        high_(profile.high),
        width_((high_ - low_) / static_cast<double>(counts_.size())) {}

  int bins() const { return static_cast<int>(counts_.size()); }
  double width() const { return width_; }
  double Edge(int bin) const { return low_ + width_ * bin; }
  double Middle(int bin) const { return low_ + width_ * (bin + 0.5); }
  int BinOf(double x) const {
    return static_cast<int>(std::clamp((x - low_) / width_, 0.0, bins() - 1.0));
  }
  double count(int bin) const { return static_cast<double>(counts_[bin]); }
  double Reach() const { return std::max(std::fabs(low_), std::fabs(high_)); }
  /// What lies within `reach` of 0, and 0.
  Bounds Within(double reach) const {
    return {std::min(std::max(low_, -reach), 0.0), std::max(std::min(high_, reach), 0.0)};
  }

 private:
  const std::vector<int64_t>& counts_;
  double low_, high_, width_;
};

// The place below which `share` of the elements lie, evenly spread within their bin.
double Quantile(const Histogram& histogram, double share) {
  double total = 0, before = 0;
  for (int i = 0; i < histogram.bins(); ++i) total += histogram.count(i);
  const double wanted = total * share;
  for (int i = 0; i < histogram.bins(); ++i) {
    const double count = histogram.count(i);
    if (before + count >= wanted && count > 0)
      return histogram.Edge(i) + histogram.width() * std::max(0.0, wanted - before) / count;
    before += count;
  }
  return histogram.Edge(histogram.bins());
}

// Expected squared error of clipping and rounding, summed over the elements. Those of a bin count
// as evenly spread, so that zeros in it cost next to nothing: 0 is on every grid.
class SquaredError {
 public:
  explicit SquaredError(const Histogram& histogram) : histogram_(histogram) {
    for (Sums* sums : {&below_, &above_}) sums->resize(static_cast<size_t>(histogram.bins()) + 1);
    for (int i = 0; i < histogram.bins(); ++i) below_[i + 1] = Added(below_[i], i);
    for (int i = histogram.bins(); i-- > 0;) above_[i] = Added(above_[i + 1], i);
  }

  double Of(const Bounds& range, bool symmetric) const {
    const Grid grid(range, symmetric);
    if (!(grid.scale > 0)) return std::numeric_limits<double>::infinity();
    const int first = histogram_.BinOf(grid.low), last = histogram_.BinOf(grid.high);
    double error = Clipped(below_[first], grid.low) + Clipped(above_[last + 1], grid.high);
    for (int i = first; i <= last; ++i)
      if (histogram_.count(i) > 0) error += histogram_.count(i) * OfBin(i, grid);
    return error;
  }

 private:
  struct Moments {
    double count = 0, sum = 0, squares = 0;
  };
  using Sums = std::vector<Moments>;

  Moments Added(const Moments& m, int bin) const {
    const double n = histogram_.count(bin), x = histogram_.Middle(bin), w = histogram_.width();
    return {m.count + n, m.sum + n * x, m.squares + n * (x * x + w * w / 12)};
  }

  static double Clipped(const Moments& m, double bound) {
    return std::max(0.0, m.squares - 2 * bound * m.sum + bound * bound * m.count);
  }

  double OfBin(int bin, const Grid& grid) const {
    const double a = histogram_.Edge(bin), b = a + histogram_.width();
    const double from = std::clamp(a, grid.low, grid.high), to = std::clamp(b, grid.low, grid.high);
    double integral = Cube(grid.scale) *
                      (RoundingIntegral(to / grid.scale) - RoundingIntegral(from / grid.scale));
    if (a < grid.low) integral += (Cube(grid.low - a) - Cube(grid.low - std::min(b, grid.low))) / 3;
    if (b > grid.high)
      integral += (Cube(b - grid.high) - Cube(std::max(a, grid.high) - grid.high)) / 3;
    return integral / (b - a);
  }

  const Histogram& histogram_;
  Sums below_, above_;  // moments of the bins before and from an index on
};

// Shrinks both sides together to the best reach, then each by itself.
Bounds SearchMse(const Histogram& histogram, bool symmetric) {
  constexpr int kPerOctave = 8, kOctaves = 8, kFine = 32;
  const SquaredError error(histogram);
  Bounds best = histogram.Within(histogram.Reach());
  double least = error.Of(best, symmetric);
  const auto consider = [&](const Bounds& candidate) {
    const double e = error.Of(candidate, symmetric);
    if (e < least) least = e, best = candidate;
  };
  for (int i = 1; i <= kPerOctave * kOctaves; ++i)
    consider(histogram.Within(histogram.Reach() * std::exp2(-static_cast<double>(i) / kPerOctave)));
  const Bounds all = histogram.Within(histogram.Reach());
  for (int round = 0; round < 2; ++round) {
    const Bounds start = best;
    for (int i = -kFine / 2; i <= kFine / 2 && start.low < 0; ++i)
      consider(
          {std::max(all.low, start.low * std::exp2(static_cast<double>(i) / kFine)), best.high});
    for (int i = -kFine / 2; i <= kFine / 2 && start.high > 0; ++i)
      consider(
          {best.low, std::min(all.high, start.high * std::exp2(static_cast<double>(i) / kFine))});
  }
  return best;
}

// The divergence of the rounded and clipped distribution from the true one. Zeros are left out of
// both: every grid holds them exactly, and where a Relu made them they would outweigh the rest.
class Divergence {
 public:
  Divergence(const Histogram& histogram, int64_t zeros) : histogram_(histogram) {
    for (int i = 0; i < histogram.bins(); ++i) counts_.push_back(histogram.count(i));
    double& at_zero = counts_[histogram.BinOf(0)];
    at_zero = std::max(0.0, at_zero - static_cast<double>(zeros));
    for (double count : counts_) {
      before_.push_back(before_.back() + count);
      used_.push_back(used_.back() + (count > 0));
      entropy_.push_back(entropy_.back() + Entropy(count));
    }
  }

  double total() const { return before_.back(); }

  /// Of keeping bins [first, last); elements that are clipped count in the outermost of them.
  double Of(int first, int last, const Grid& grid) const {
    const double below = before_[first], above = total() - before_[last];
    double entropy = entropy_[last] - entropy_[first], cross = 0, rounded_total = 0;
    entropy += Entropy(counts_[first] + below) - Entropy(counts_[first]);
    entropy += Entropy(counts_[last - 1] + above) - Entropy(counts_[last - 1]);
    for (int i = first; i < last;) {
      const int end = EndOfStep(i, last, grid.scale);
      const double kept = before_[end] - before_[i];
      int used = used_[end] - used_[i];
      used += i == first && below > 0 && counts_[first] == 0;
      used += end == last && above > 0 && counts_[last - 1] == 0;
      if (used > 0) {
        // Where only clipped elements lie, the rounded form has one: a finite price for each.
        const double share = std::max(1.0, kept) / used;
        const double reference = kept + (i == first ? below : 0) + (end == last ? above : 0);
        cross += reference * std::log(share);
        rounded_total += share * used;
      }
      i = end;
    }
    return (entropy - cross) / total() - std::log(total()) + std::log(rounded_total);
  }

 private:
  static double Entropy(double count) { return count > 0 ? count * std::log(count) : 0; }

  // The first bin after `bin`, at most `last`, that is rounded to another step.
  int EndOfStep(int bin, int last, double scale) const {
    const double bound = (std::nearbyint(histogram_.Middle(bin) / scale) + 0.5) * scale;
    const double end = std::ceil((bound - histogram_.Edge(0)) / histogram_.width() - 0.5);
    return static_cast<int>(std::clamp(end, bin + 1.0, static_cast<double>(last)));
  }

  const Histogram& histogram_;
  std::vector<double> counts_, before_ = {0}, entropy_ = {0};
  std::vector<int> used_ = {0};
};

Bounds SearchEntropy(const Histogram& histogram, int64_t zeros, bool symmetric) {
  constexpr int kCandidates = 128, kFewestBins = 256;  // fewer would each be a step: no rounding
  const Divergence divergence(histogram, zeros);
  const Bounds all = histogram.Within(histogram.Reach());
  if (divergence.total() <= 0) return all;
  Bounds best = all;
  double least = std::numeric_limits<double>::infinity();
  for (int i = kCandidates; i > 0; --i) {
    const double reach = histogram.Reach() * i / kCandidates;
    const Bounds range = histogram.Within(reach);
    const int first = histogram.BinOf(-reach), last = histogram.BinOf(reach) + 1;
    if (last - first < kFewestBins) break;
    const double d = divergence.Of(first, last, Grid(range, symmetric));
    if (d < least) least = d, best = range;
  }
  return best;
}

Bounds Choose(const ValueProfile& p, Calibrator calibrator, double percentile, bool symmetric) {
  const Bounds all = {p.low, p.high};
  if (calibrator == Calibrator::kMovingAverage) return {p.average_low, p.average_high};
  if (calibrator == Calibrator::kMinMax || p.counts.empty() || !(p.high > p.low)) return all;
  const Histogram histogram(p);
  if (!(histogram.width() > 0)) return all;
  if (calibrator == Calibrator::kEntropy) return SearchEntropy(histogram, p.zeros, symmetric);
  if (calibrator == Calibrator::kMse) return SearchMse(histogram, symmetric);
  return {Quantile(histogram, 1 - percentile / 100), Quantile(histogram, percentile / 100)};
}

}  // namespace

const char* CalibratorName(Calibrator calibrator) {
  switch (calibrator) {
    case Calibrator::kMinMax: return "minmax";
    case Calibrator::kMovingAverage: return "moving-average";
    case Calibrator::kPercentile: return "percentile";
    case Calibrator::kEntropy: return "entropy";
    case Calibrator::kMse: return "mse";
  }
  return "minmax";
}

Result<Calibrator> ParseCalibrator(std::string_view name) {
  std::string names;
  for (Calibrator calibrator : kCalibrators) {
    if (name == CalibratorName(calibrator)) return calibrator;
    names += fmt::format("{}{}", names.empty() ? "" : ", ", CalibratorName(calibrator));
  }
  return InvalidArgument("calibrator '{}' is not known; choose one of {}", name, names);
}

Range ChooseRange(const ValueProfile& profile, Calibrator calibrator, double percentile,
                  bool symmetric) {
  const Bounds chosen = Choose(profile, calibrator, percentile, symmetric);
  Range range{static_cast<float>(std::min(chosen.low, 0.0)),
              static_cast<float>(std::max(chosen.high, 0.0))};
  if (symmetric) range = {-std::max(-range.low, range.high), std::max(-range.low, range.high)};
  return range;
}

}  // namespace minim
