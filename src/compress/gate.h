// The accuracy gate: is a variant within its budget of the reference, on the same samples?
#pragma once

#include <string>

#include "compress/metric.h"
#include "core/stats.h"

namespace minim {

enum class Verdict { kPass, kFail, kUndecided };
/// "pass", "fail", "undecided".
const char* VerdictName(Verdict verdict);

struct GateResult {
  Verdict verdict = Verdict::kUndecided;
  double reference = 0, variant = 0;  // values of the metric
  /// How much worse the variant is, as a share of the reference's value (of a value of 0:
  /// absolute), with its 95 % interval from paired differences.
  Interval relative_loss;
  /// When undecided: how many samples would probably decide; 0: the loss is the budget itself.
  int64_t samples_needed = 0;
};

/// Of the same samples, at least 2. Passes when the whole interval is at most `max_loss`, fails
/// when the whole interval is above it or the metric is not finite.
GateResult Judge(const Metric& metric, const Measured& reference, const Measured& variant,
                 double max_loss);

}  // namespace minim
