#include "serve/repository/version_loader.h"

#include <algorithm>

#include "serve/cache/sha256.h"
#include "serve/fallback/tier_timing.h"
#include "serve/repository/background.h"
#include "serve/repository/triton_config.h"

namespace minim::serve {
namespace {

// Faster by less than this is noise, and not worth an answer that differs.
constexpr double kWorthwhile = 1.03;
constexpr int64_t kTimedRows = 16;

// All tiers of a version answer the same requests: they must look alike.
Status CheckAlike(const Model& reference, const Model& variant) {
  const auto alike = [](const std::vector<TensorInfo>& a, const std::vector<TensorInfo>& b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const auto& x, const auto& y) {
      return x.name == y.name && x.dtype == y.dtype && x.dims == y.dims;
    });
  };
  if (alike(reference.inputs(), variant.inputs()) && alike(reference.outputs(), variant.outputs()))
    return {};
  return InvalidArgument("its inputs and outputs differ from those of model.onnx; make it again");
}

std::function<void(const RunReport&)> CountRuns(std::shared_ptr<ModelStats> stats,
                                                std::shared_ptr<ModelMetrics> metrics) {
  return [stats, metrics](const RunReport& report) {
    metrics->ObserveRun(report);
    stats->execution_count += 1;
    stats->inference_count += static_cast<uint64_t>(report.rows);
  };
}

Result<BatcherOptions> BatcherOptionsOf(const ServingConfig& config) {
  MINIM_TRY(const BatchSettings settings, BatchSettingsOf(config));
  return BatcherOptions{.policy = settings.policy,
                        .bounds = settings.bounds,
                        .instances = config.instances,
                        .max_queue_rows = settings.max_queue_rows};
}

// Why a tier may not answer, as far as it need not be run to know.
std::string WhyNotAllowed(const std::string& tier, const VersionLayout& layout,
                          const ServingConfig& config) {
  const auto& allow = config.tiers.allow;
  if (!allow.empty() && std::find(allow.begin(), allow.end(), tier) == allow.end())
    return "[tiers] allow leaves it out";
  const auto gate = layout.gates.find(tier);
  if (gate == layout.gates.end()) return "no report judged it: run minim shrink";
  return gate->second.passed ? "" : "the gate did not pass it: " + gate->second.reason;
}

std::string WhyNotFaster(double speedup) {
  if (speedup == 0) return "its speed could not be measured: open dims, or a run failed";
  if (speedup >= kWorthwhile) return "";
  return fmt::format("not faster here: {:.2f} of fp32's speed", speedup);
}

// Measures those that may answer beside FP32, and drops the ones that are no faster.
void KeepTheFaster(const ServedVersion& version, Duration budget,
                   std::vector<TierCandidate>& candidates) {
  std::vector<std::shared_ptr<const Model>> models = {version.tiers.at(kFp32Tier)->model};
  std::vector<TierCandidate*> measured;
  for (TierCandidate& candidate : candidates) {
    if (!candidate.eligible) continue;
    measured.push_back(&candidate);
    models.push_back(version.tiers.at(candidate.name)->model);
  }
  if (measured.empty()) return;
  const auto speedups =
      MeasureSpeedups(models, std::clamp<int64_t>(version.max_batch, 1, kTimedRows), budget);
  for (size_t i = 0; i < measured.size(); ++i) {
    measured[i]->speedup = speedups[i + 1];
    measured[i]->reason = WhyNotFaster(speedups[i + 1]);
    measured[i]->eligible = measured[i]->reason.empty();
  }
}

}  // namespace

Result<std::shared_ptr<ServedTier>> ServedVersion::Tier(const std::string& name) const {
  const auto it = tiers.find(name.empty() ? chain->First() : name);
  if (it != tiers.end()) return it->second;
  std::string known;
  for (const auto& [tier, served] : tiers) known += (known.empty() ? "'" : ", '") + tier + "'";
  return InvalidArgument("parameters.tier '{}': model '{}' has {}", name, model, known);
}

Result<std::shared_ptr<ServedTier>> VersionLoader::LoadTier(const ServedVersion& version,
                                                            const TierSource& source) {
  auto tier = std::make_shared<ServedTier>();
  tier->name = source.tier;
  tier->generation = ++generation_;
  const auto digest = [&] { return digest_files_ ? ModelFileDigest(source.path) : std::string(); };
  const std::string content = digest();
  MINIM_TRY(std::shared_ptr<Model> model, loader_(source));
  // Of a file that changed while it was read nobody knows what was loaded.
  if (content == digest()) tier->content = content;
  if (version.tiers.contains(kFp32Tier)) MINIM_TRY(CheckAlike(version.reference(), *model));
  tier->model = model;
  tier->metrics = metrics_->ForModel(version.model, version.version, source.tier);
  MINIM_TRY(BatcherOptions options, BatcherOptionsOf(*version.config->Get()));
  options.on_run = CountRuns(version.stats, tier->metrics);
  tier->batcher = std::make_unique<Batcher>(model, std::move(options));
  MINIM_TRY(InBackground([&] { return tier->batcher->Warm(); }));
  return tier;
}

// FP32 last but for the reference, before it what passed and is faster here, the fastest first.
std::shared_ptr<TierChain> VersionLoader::ChainOf(
    const ServedVersion& version, const VersionLayout& layout,
    const std::map<std::string, std::string>& broken) const {
  const std::shared_ptr<const ServingConfig> config = version.config->Get();
  std::vector<TierCandidate> chain;
  for (const auto& [name, tier] : version.tiers) {
    if (name == kFp32Tier) continue;
    TierCandidate candidate{.name = name, .reason = WhyNotAllowed(name, layout, *config)};
    candidate.eligible = candidate.reason.empty();
    const auto gate = layout.gates.find(name);
    if (gate != layout.gates.end()) candidate.disagreement = gate->second.disagreement;
    chain.push_back(std::move(candidate));
  }
  KeepTheFaster(version, timing_budget_, chain);
  for (const auto& [name, reason] : broken)
    chain.push_back({.name = name, .eligible = false, .reason = reason});
  std::stable_sort(chain.begin(), chain.end(),
                   [](const auto& a, const auto& b) { return a.speedup > b.speedup; });
  chain.push_back({.name = kFp32Tier, .speedup = 1});
  chain.push_back({.name = kReferenceTier});
  return std::make_shared<TierChain>(
      std::move(chain), config->tiers,
      [log = log_, metrics = metrics_, model = version.model, number = version.version](
          const std::string& tier, const std::string& reason) {
        metrics->CountDemotion(model, number, tier, reason.empty());
        log(fmt::format("model '{}' version {}: tier '{}' {}{}", model, number, tier,
                        reason.empty() ? "serves again" : "demoted: ", reason));
      });
}

Result<std::shared_ptr<const ServedVersion>> VersionLoader::LoadVersion(
    const std::string& name, const VersionLayout& layout, std::shared_ptr<LiveConfig> live,
    std::shared_ptr<Rollout> rollout) {
  auto version = std::make_shared<ServedVersion>();
  version->model = name;
  version->number = layout.number;
  version->version = std::to_string(layout.number);
  version->config = std::move(live);
  version->rollout = std::move(rollout);
  std::map<std::string, std::string> broken;
  for (const TierSource& source : layout.tiers) {
    auto tier = LoadTier(*version, source);
    if (tier.ok()) {
      version->tiers[source.tier] = *tier;
    } else if (source.tier == kFp32Tier) {
      return tier.status();
    } else {
      broken[source.tier] = tier.status().message();
      log_(fmt::format("model '{}' version {}: tier '{}' is left out: {}", name, layout.number,
                       source.tier, tier.status().message()));
    }
  }
  const auto batchable = [](const auto& item) { return item.second->batcher->batchable(); };
  const std::shared_ptr<const ServingConfig> config = version->config->Get();
  if (config->batching && std::all_of(version->tiers.begin(), version->tiers.end(), batchable))
    version->max_batch = config->bounds.max_batch;
  const bool batched = version->max_batch > 0;
  MINIM_TRY(CheckDeclared(config->inputs, version->reference().inputs(), batched));
  MINIM_TRY(CheckDeclared(config->outputs, version->reference().outputs(), batched));
  version->chain = ChainOf(*version, layout, broken);
  return std::shared_ptr<const ServedVersion>(std::move(version));
}

}  // namespace minim::serve
