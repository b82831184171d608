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

GateResult Judge(const Metric& metric, const Measured& reference, const Measured& variant,
                 double max_loss) {
  MINIM_CHECK(reference.each.size() == variant.each.size() && reference.each.size() >= 2);
  GateResult result{.reference = reference.value, .variant = variant.value};
  const auto& better = metric.higher_is_better() ? reference : variant;
  const auto& other = metric.higher_is_better() ? variant : reference;
  const auto interval = metric.counts() ? PairedProportions : PairedDifference;
  const Interval loss = interval(better.each, other.each);
  const double base = reference.value != 0 ? std::fabs(reference.value) : 1;
  result.relative_loss = {loss.mean / base, loss.low / base, loss.high / base};
  const auto& [mean, low, high] = result.relative_loss;
  if (!std::isfinite(variant.value) || !std::isfinite(high)) {
    result.verdict = Verdict::kFail;
  } else if (high <= max_loss) {
    result.verdict = Verdict::kPass;
  } else if (low > max_loss) {
    result.verdict = Verdict::kFail;
  } else {
    // The half width shrinks with the root of n; it has to fit between the mean and the budget.
    const double half = (high - low) / 2, room = std::fabs(max_loss - mean);
    const double n = static_cast<double>(reference.each.size()) * reference.samples_each;
    result.samples_needed =
        room > 0 ? static_cast<int64_t>(std::ceil(n * std::pow(half / room, 2))) : 0;
  }
  return result;
}

}  // namespace minim
