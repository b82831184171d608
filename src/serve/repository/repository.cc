#include "serve/repository/repository.h"

#include <algorithm>

namespace minim::serve {
namespace {

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
    metrics->ObserveRun(report.rows, report.cold, report.ok);
    stats->execution_count += 1;
    stats->inference_count += static_cast<uint64_t>(report.rows);
  };
}

}  // namespace

Result<std::shared_ptr<ServedTier>> ServedVersion::Tier(const std::string& name) const {
  const auto it = tiers.find(name.empty() ? default_tier : name);
  if (it != tiers.end()) return it->second;
  std::string known;
  for (const auto& [tier, served] : tiers) known += (known.empty() ? "'" : ", '") + tier + "'";
  return InvalidArgument("parameters.tier '{}': model '{}' has {}", name, model, known);
}

Result<std::unique_ptr<Repository>> Repository::Open(const Path& path, RepositoryOptions options,
                                                     std::shared_ptr<Metrics> metrics) {
  MINIM_TRY(RepositoryLayout layout, RepositoryLayout::Open(path, options.offer_bf16));
  return std::unique_ptr<Repository>(
      new Repository(std::move(layout), std::move(options), std::move(metrics)));
}

Status Repository::LoadAll() {
  Status first;
  bool any = false;
  for (const std::string& name : layout_.ModelNames()) {
    Status status = Load(name);
    any |= status.ok();
    if (!status.ok() && first.ok()) first = std::move(status);
  }
  return any ? Status() : first;
}

Result<std::shared_ptr<ServedTier>> Repository::LoadTier(const ServedVersion& version,
                                                         const TierSource& source) {
  auto tier = std::make_shared<ServedTier>();
  tier->name = source.tier;
  tier->generation = ++generation_;
  MINIM_TRY(std::shared_ptr<Model> model, options_.loader(source));
  if (version.tiers.contains("fp32"))
    MINIM_TRY(CheckAlike(*version.tiers.at("fp32")->model, *model));
  tier->model = model;
  tier->metrics = metrics_->ForModel(version.model, version.version, source.tier);
  BatcherOptions options = options_.batcher;
  options.on_run = CountRuns(version.stats, tier->metrics);
  tier->batcher = std::make_unique<Batcher>(model, std::move(options));
  MINIM_TRY(tier->batcher->Warm());
  return tier;
}

Result<Repository::Versions> Repository::LoadVersions(const std::string& name) {
  MINIM_TRY(const ModelLayout layout, layout_.Scan(name));
  Versions versions;
  for (const VersionLayout& found : layout.versions) {
    auto version = std::make_shared<ServedVersion>();
    version->model = name;
    version->version = std::to_string(found.number);
    version->default_tier = found.default_tier;
    for (const TierSource& source : found.tiers) {
      auto tier = LoadTier(*version, source);
      if (!tier.ok())
        return Annotate(tier.status(), fmt::format("model '{}' version {} tier '{}'", name,
                                                   found.number, source.tier));
      version->tiers[source.tier] = *tier;
    }
    const auto batchable = [](const auto& item) { return item.second->batcher->batchable(); };
    if (std::all_of(version->tiers.begin(), version->tiers.end(), batchable))
      version->max_batch = options_.batcher.bounds.max_batch;
    versions[found.number] = std::move(version);
  }
  return versions;
}

Status Repository::LoadFrom(const std::string& name) {
  MINIM_TRY(Versions versions, LoadVersions(name));
  // Swapped out, the old ones leave after the lock: their threads end when their last request does.
  std::lock_guard lock(mutex_);
  models_[name].swap(versions);
  failures_.erase(name);
  return {};
}

Status Repository::Load(const std::string& name) {
  MINIM_TRY(CheckModelName(name));
  std::lock_guard load_lock(load_mutex_);
  Status status = LoadFrom(name);
  if (!status.ok() && status.code() != StatusCode::kNotFound) {
    std::lock_guard lock(mutex_);
    failures_[name] = status.message();
  }
  return status;
}

Status Repository::Unload(const std::string& name) {
  std::lock_guard load_lock(load_mutex_);
  Versions leaving;
  {
    std::lock_guard lock(mutex_);
    const auto it = models_.find(name);
    failures_.erase(name);
    if (it == models_.end()) return NotFound("model '{}': not loaded", name);
    leaving = std::move(it->second);
    models_.erase(it);
  }
  return {};
}

void Repository::LoadSoon(const std::string& name, std::function<void(const Status&)> done) {
  if (!worker_->Post([this, name, done] { done(Load(name)); }))
    done(Unavailable("too many loads are waiting; try again"));
}

void Repository::UnloadSoon(const std::string& name, std::function<void(const Status&)> done) {
  if (!worker_->Post([this, name, done] { done(Unload(name)); }))
    done(Unavailable("too many loads are waiting; try again"));
}

Result<std::shared_ptr<const ServedVersion>> Repository::Find(const std::string& name,
                                                              const std::string& version) const {
  std::lock_guard lock(mutex_);
  const auto model = models_.find(name);
  if (model == models_.end() || model->second.empty())
    return NotFound("model '{}': not loaded; POST /v2/repository/index lists the models",
                    name.substr(0, 255));
  if (version.empty()) return model->second.rbegin()->second;
  for (const auto& [number, served] : model->second)
    if (served->version == version) return served;
  return NotFound("model '{}': version '{}' is not there, the latest is {}", name,
                  version.substr(0, 32), model->second.rbegin()->first);
}

std::vector<std::shared_ptr<const ServedVersion>> Repository::All() const {
  std::lock_guard lock(mutex_);
  std::vector<std::shared_ptr<const ServedVersion>> all;
  for (const auto& [name, versions] : models_)
    for (const auto& [number, served] : versions) all.push_back(served);
  return all;
}

std::vector<IndexEntry> Repository::Index() const {
  const std::vector<std::string> names = layout_.ModelNames();
  std::lock_guard lock(mutex_);
  std::vector<IndexEntry> entries;
  for (const auto& [name, versions] : models_) {
    const auto failure = failures_.find(name);
    for (const auto& [number, served] : versions)
      entries.push_back({name, served->version, true,
                         failure == failures_.end() ? "" : "reload failed: " + failure->second});
  }
  for (const std::string& name : names) {
    if (models_.contains(name)) continue;
    const auto failure = failures_.find(name);
    entries.push_back({name, "", false, failure == failures_.end() ? "unloaded" : failure->second});
  }
  return entries;
}

}  // namespace minim::serve
