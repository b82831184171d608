#include <algorithm>

#include "serve/batching/policy.h"

namespace minim::serve {
namespace {

constexpr BatchPolicy kPolicies[] = {
    {"work-conserving", WorkConserving, "an idle instance never waits"},
    {"fixed-size", FixedSize, "wait for max-batch rows, at most max-wait"},
    {"time-window", TimeWindow, "collect for a window from the oldest request"},
    {"adaptive", Adaptive, "learn latency(batch), stay within the latency target"},
};

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

BatchDecision WorkConserving(const BatchOptions& options, const QueueView& queue, TimePoint) {
  return {.rows = std::min(queue.rows, options.max_batch)};
}

}  // namespace minim::serve
