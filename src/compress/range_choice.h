// What calibration learns of a value, and which part of it 8 bits shall cover.
// Threads: pure functions of plain data.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "minim/status.h"

namespace minim {

struct Range {
  float low = 0;
  float high = 0;

  /// Both, and NaN in neither.
  Range Union(const Range& other) const {
    return {other.low < low ? other.low : low, other.high > high ? other.high : high};
  }
  friend bool operator==(const Range&, const Range&) = default;
};

inline constexpr int kHistogramBins = 2048;

/// A value over all samples. `counts` are of equal bins from `low` to `high`.
struct ValueProfile {
  float low = 0;
  float high = 0;
  /// Of each sample's least and greatest element, in sample order, the newest weighing most.
  double average_low = 0;
  double average_high = 0;
  std::vector<int64_t> counts;
  int64_t zeros = 0;  // of `counts`: elements that are exactly 0
  /// The mean of each channel along `channel_axis` where an op with weights reads the value; else
  /// empty.
  std::vector<double> channel_mean;
  int channel_axis = -1;

  friend bool operator==(const ValueProfile&, const ValueProfile&) = default;
};

/// kMinMax: all of it. kMovingAverage: what a sample reaches on average. kPercentile: all but so
/// many at either end. kEntropy: where rounding and clipping change the distribution least, by
/// Kullback-Leibler divergence. kMse: where they change the elements least.
enum class Calibrator { kMinMax, kMovingAverage, kPercentile, kEntropy, kMse };
inline constexpr Calibrator kCalibrators[] = {Calibrator::kMinMax, Calibrator::kMovingAverage,
                                              Calibrator::kPercentile, Calibrator::kEntropy,
                                              Calibrator::kMse};

/// "minmax", "moving-average", "percentile", "entropy", "mse".
const char* CalibratorName(Calibrator calibrator);
/// Errors: kInvalidArgument lists the names.
Result<Calibrator> ParseCalibrator(std::string_view name);

/// The range to cover with 256 steps, or with 127 on either side of 0 if `symmetric`. It includes 0
/// and, but for kMovingAverage, lies within the profile's range widened to 0 (and to the other side
/// if symmetric). `percentile`, in (50, 100], is of either end: 99.99 leaves out 1 in 10,000 there.
Range ChooseRange(const ValueProfile& profile, Calibrator calibrator, double percentile = 99.99,
                  bool symmetric = false);

}  // namespace minim
