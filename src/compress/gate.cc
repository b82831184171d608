#include "compress/gate.h"

#include <cmath>

#include "core/error.h"

namespace minim {

const char* VerdictName(Verdict verdict) {
  switch (verdict) {
    case Verdict::kPass: return "pass";
    case Verdict::kFail: return "fail";
    case Verdict::kUndecided: return "undecided";
  }
  return "undecided";
}

GateResult JudgeAccuracy(const std::vector<int64_t>& reference, const std::vector<int64_t>& variant,
                         const std::vector<int64_t>& labels, double max_loss) {
  MINIM_CHECK(reference.size() == labels.size() && variant.size() == labels.size());
  std::vector<double> a, b;
  GateResult result;
  const double n = static_cast<double>(labels.size());
  for (size_t i = 0; i < labels.size(); ++i) {
    a.push_back(reference[i] == labels[i]);
    b.push_back(variant[i] == labels[i]);
    result.reference_accuracy += a.back() / n;
    result.variant_accuracy += b.back() / n;
    result.agreement += (reference[i] == variant[i]) / n;
  }
  const Interval difference = PairedDifference(a, b);
  const double base = result.reference_accuracy > 0 ? result.reference_accuracy : 1;
  result.relative_loss = {difference.mean / base, difference.low / base, difference.high / base};
  if (result.relative_loss.high <= max_loss) {
    result.verdict = Verdict::kPass;
  } else if (result.relative_loss.low > max_loss) {
    result.verdict = Verdict::kFail;
  } else {
    // The half width shrinks with the root of n; it has to fit between the mean and the budget.
    const double half = result.relative_loss.high - result.relative_loss.mean;
    const double room = std::fabs(max_loss - result.relative_loss.mean);
    result.samples_needed =
        room > 0 ? static_cast<int64_t>(std::ceil(n * std::pow(half / room, 2))) : 0;
  }
  return result;
}

}  // namespace minim
