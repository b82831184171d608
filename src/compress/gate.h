// The accuracy gate: is a variant within its budget of the reference, on the same samples?
#pragma once

#include <string>
#include <vector>

#include "core/stats.h"

namespace minim {

enum class Verdict { kPass, kFail, kUndecided };
/// "pass", "fail", "undecided".
const char* VerdictName(Verdict verdict);

struct GateResult {
  Verdict verdict = Verdict::kUndecided;
  double reference_accuracy = 0;
  double variant_accuracy = 0;
  /// Relative loss (reference - variant) / reference, with its 95 % interval from paired
  /// differences.
  Interval relative_loss;
  /// Fraction of samples on which both give the same class.
  double agreement = 0;
  /// When undecided: how many samples would probably decide.
  int64_t samples_needed = 0;
};

/// `reference`, `variant` and `labels` are class ids of the same samples, at least 2. Passes when
/// the whole interval is at most `max_loss`, fails when the whole interval is above it.
GateResult JudgeAccuracy(const std::vector<int64_t>& reference, const std::vector<int64_t>& variant,
                         const std::vector<int64_t>& labels, double max_loss);

}  // namespace minim
