#include "compress/choice.h"

#include <algorithm>

namespace minim {
namespace {

constexpr int64_t kMostSamples = 1000000;  // that anyone could be asked for

bool Faster(const Interval& ratio, double noise) { return ratio.high < 1 - noise; }
bool Slower(const Interval& ratio, double noise) { return ratio.low > 1 + noise; }

std::string SpeedText(const VariantReport& variant, double noise) {
  std::string text;
  for (const auto& [batch, latency] : variant.latency) {
    const Interval& ratio = latency.ratio;
    text +=
        fmt::format("{}{} at batch {}", text.empty() ? "" : ", ",
                    Faster(ratio, noise)   ? fmt::format("{:.2f}x faster than fp32", 1 / ratio.mean)
                    : Slower(ratio, noise) ? fmt::format("{:.2f}x slower than fp32", ratio.mean)
                                           : "as fast as fp32 within noise",
                    batch);
  }
  return text;
}

// At every batch size.
bool AlwaysSlower(const VariantReport& variant, double noise) {
  return std::all_of(variant.latency.begin(), variant.latency.end(),
                     [&](const auto& item) { return Slower(item.second.ratio, noise); });
}

// Whether its users would have anything of it, beyond noise, or want it anyway.
bool Gains(const VariantReport& variant, const VariantReport& reference, ShrinkGoal goal,
           double noise) {
  const bool smaller =
      static_cast<double>(variant.bytes) < static_cast<double>(reference.bytes) * (1 - noise);
  if (goal == ShrinkGoal::kBytes) return smaller || variant.asked_for;
  if (AlwaysSlower(variant, noise)) return false;
  return smaller || variant.asked_for ||
         std::any_of(variant.latency.begin(), variant.latency.end(),
                     [&](const auto& item) { return Faster(item.second.ratio, noise); });
}

std::string Refusal(const GateResult& gate) {
  if (gate.verdict == Verdict::kFail) return "refused: its loss is above the budget";
  if (gate.samples_needed == 0 || gate.samples_needed > kMostSamples)
    return "undecided: its loss is about the budget itself";
  return fmt::format("undecided: about {} samples would decide", gate.samples_needed);
}

double Cost(const VariantReport& variant, ShrinkGoal goal) {
  return goal == ShrinkGoal::kLatency ? variant.latency.begin()->second.ratio.mean
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
    const std::string speed = SpeedText(v, noise);
    v.kept = Gains(v, reference, goal, noise);
    v.reason = fmt::format("{}: {}", v.kept ? "passes" : "not kept, it gains nothing", speed);
    const bool gains = goal == ShrinkGoal::kBytes || Faster(v.latency.begin()->second.ratio, noise);
    if (!v.kept || !gains || Cost(v, goal) >= best * (1 - noise)) continue;
    best = Cost(v, goal);
    preferred = v.name;
  }
  MarkFrontier(variants, goal);
  return preferred;
}

}  // namespace minim
