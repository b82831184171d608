#include <algorithm>

#include "serve/batching/policy.h"

namespace minim::serve {
namespace {

constexpr BatchPolicy kPolicies[] = {
    {"work-conserving", WorkConserving, "an idle instance never waits"},
    {"fixed-size", FixedSize, "wait for max-batch rows, at most max-wait"},
    {"time-window", TimeWindow, "collect for a window from the oldest request"},
    {"adaptive", Adaptive, "learn latency(batch), answer within the latency target", true},
};

constexpr std::string_view kReasonNames[kReleaseReasons] = {"idle",  "full", "window", "deadline",
                                                            "worth", "late", "alone"};

}  // namespace

std::span<const BatchPolicy> BatchPolicies() { return kPolicies; }

Result<BatchPolicy> FindBatchPolicy(std::string_view name) {
  std::string known;
  for (const BatchPolicy& policy : kPolicies) {
    if (policy.name == name) return policy;
    known += fmt::format(" {}", policy.name);
  }
  return NotFound("batching '{}': no such policy; there are:{}", name, known);
}

std::string_view ReleaseReasonName(ReleaseReason reason) {
  return kReasonNames[static_cast<size_t>(reason)];
}

BatchDecision WorkConserving(const BatchOptions& options, const QueueView& queue, TimePoint) {
  if (queue.rows < options.max_batch) return {.rows = queue.rows};
  return {.rows = options.max_batch, .reason = ReleaseReason::kFull};
}

}  // namespace minim::serve
