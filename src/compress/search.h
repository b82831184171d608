// Search: which calibrator, and which ops stay FP32. Decided on the calibration samples by how far
// answers move from the reference's, so that the gate's samples stay unseen.
#pragma once

#include "compress/quantize.h"
#include "compress/shrink.h"
#include "compress/stream.h"

namespace minim {

using Deadline = std::chrono::steady_clock::time_point;

/// The relative error |variant - reference| / |reference| of output `output` over samples.
class ErrorMeter {
 public:
  /// `samples` and `feedback` outlive it. Errors: those of running `reference`.
  static Result<ErrorMeter> Make(const Graph& reference, const Dataset& samples,
                                 const Feedback& feedback, size_t output);
  /// Infinite for answers that are not finite.
  Result<double> Measure(const Graph& variant) const;
  const Feedback& feedback() const { return *feedback_; }

 private:
  ErrorMeter(const Dataset& samples, const Feedback& feedback, size_t output)
      : samples_(&samples), feedback_(&feedback), output_(output) {}
  Result<Tensor> Answer(const Graph& graph) const;

  const Dataset* samples_;
  const Feedback* feedback_;
  size_t output_;
  Tensor reference_;
};

struct StaticChoice {
  StaticOptions options;
  double error = 0;
};

/// `base` with the calibrator of least error, with or without bias correction; the
/// first is always tried, others until the deadline.
Result<StaticChoice> ChooseStatic(const Graph& prepared, const ActivationProfile& profile,
                                  const ErrorMeter& meter, const StaticOptions& base,
                                  Deadline deadline, std::optional<Calibrator> only);

/// Of each op that `options` would quantize, the most sensitive first; those measured before the
/// deadline. `timed` samples are what batch 1 is timed on.
Result<std::vector<OpSensitivity>> MeasureSensitivity(
    const Graph& prepared, const ActivationProfile& profile, const StaticOptions& options,
    const ErrorMeter& meter, const Dataset& timed, Deadline deadline,
    const std::function<Status(double)>& progress = {});

/// Sets of ops to leave FP32, the smallest first: the 1, 2, 4, ... most sensitive, up to all but
/// one.
std::vector<std::set<std::string>> FloatSets(const std::vector<OpSensitivity>& sensitivity);

}  // namespace minim
