#include "compress/choice.h"

#include <algorithm>

namespace minim {
namespace {

// Time beside the reference's at the batch where it is best.
double BestRatio(const VariantReport& variant, const VariantReport& reference) {
  double best = 0;
  for (const auto& [batch, latency] : variant.latency) {
    const double ratio = latency.p50 / reference.latency.at(batch).p50;
    if (best == 0 || ratio < best) best = ratio;
  }
  return best;
}

std::string SpeedText(double ratio, double noise) {
  if (ratio < 1 - noise) return fmt::format("{:.2f}x faster than fp32", 1 / ratio);
  if (ratio > 1 + noise) return fmt::format("{:.2f}x slower than fp32", ratio);
  return "as fast as fp32 within noise";
}

std::string SpeedText(const VariantReport& variant, const VariantReport& reference, double noise) {
  std::string text;
  for (const auto& [batch, latency] : variant.latency) {
    const double ratio = latency.p50 / reference.latency.at(batch).p50;
    text +=
        fmt::format("{}{} at batch {}", text.empty() ? "" : ", ", SpeedText(ratio, noise), batch);
  }
  return text;
}

std::string Refusal(const GateResult& gate) {
  if (gate.verdict == Verdict::kFail) return "refused: its loss is above the budget";
  if (gate.samples_needed == 0) return "undecided: its loss is the budget itself";
  return fmt::format("undecided: about {} samples would decide", gate.samples_needed);
}

double Cost(const VariantReport& variant, ShrinkGoal goal) {
  return goal == ShrinkGoal::kLatency ? variant.latency.begin()->second.p50
                                      : static_cast<double>(variant.bytes);
}

bool Passes(const VariantReport& variant) {
  return variant.bytes > 0 && variant.gate.verdict == Verdict::kPass;
}

void MarkFrontier(std::vector<VariantReport>& variants, ShrinkGoal goal) {
  for (VariantReport& v : variants) {
    if (!Passes(v)) continue;
    v.on_frontier = std::none_of(variants.begin(), variants.end(), [&](const VariantReport& o) {
      const double loss = o.gate.relative_loss.mean - v.gate.relative_loss.mean;
      const double cost = Cost(o, goal) - Cost(v, goal);
      return Passes(o) && loss <= 0 && cost <= 0 && (loss < 0 || cost < 0);
    });
  }
}

}  // namespace

std::string ChooseVariants(std::vector<VariantReport>& variants, ShrinkGoal goal, double noise) {
  VariantReport& reference = variants[0];
  reference.gate.verdict = Verdict::kPass;
  reference.kept = true;
  reference.reason = "the reference";
  std::string preferred = reference.name;
  double best = Cost(reference, goal);
  for (size_t i = 1; i < variants.size(); ++i) {
    VariantReport& v = variants[i];
    if (v.bytes == 0) continue;  // could not be made
    if (!Passes(v)) {
      if (v.reason.empty()) v.reason = Refusal(v.gate);
      continue;
    }
    const std::string speed = SpeedText(v, reference, noise);
    v.kept = goal == ShrinkGoal::kBytes || BestRatio(v, reference) <= 1 + noise;
    v.reason = fmt::format("{}: {}", v.kept ? "passes" : "not kept, it gains no time", speed);
    if (!v.kept || Cost(v, goal) >= best * (1 - noise)) continue;
    best = Cost(v, goal);
    preferred = v.name;
  }
  MarkFrontier(variants, goal);
  return preferred;
}

}  // namespace minim
