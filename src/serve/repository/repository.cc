#include "serve/repository/repository.h"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

#include "serve/repository/triton_config.h"

namespace minim::serve {
namespace {

constexpr const char* kOnDemand = "unloaded; its first request loads it";

// The versions that the policy serves; a rollout needs the one before the newest, too.
std::vector<VersionLayout> Chosen(std::vector<VersionLayout> versions,
                                  const ServingConfig& config) {
  const VersionPolicy& policy = config.versions;
  if (!policy.numbers.empty()) {
    std::erase_if(versions, [&](const VersionLayout& version) {
      return std::find(policy.numbers.begin(), policy.numbers.end(), version.number) ==
             policy.numbers.end();
    });
    return versions;
  }
  const bool compares = config.rollout.mode != RolloutMode::kLatest;
  const auto latest = static_cast<size_t>(policy.latest == 0 ? INT64_MAX : policy.latest);
  const size_t keep = std::max<size_t>(latest, compares ? 2 : 1);
  if (config.rollout.mode != RolloutMode::kSplit && versions.size() > keep)
    versions.erase(versions.begin(), versions.end() - static_cast<ptrdiff_t>(keep));
  return versions;
}

}  // namespace

Result<std::unique_ptr<Repository>> Repository::Open(const Path& path, RepositoryOptions options,
                                                     std::shared_ptr<Metrics> metrics) {
  MINIM_TRY(RepositoryLayout layout, RepositoryLayout::Open(path, options.offer_bf16));
  return std::unique_ptr<Repository>(
      new Repository(std::move(layout), std::move(options), std::move(metrics)));
}

Status Repository::LoadAll(const std::vector<std::string>& names) {
  Status first;
  bool any = false;
  for (const std::string& asked : names) {
    for (const std::string& name : asked == "*" ? layout_.ModelNames() : std::vector{asked}) {
      Status status = Load(name);
      any |= status.ok();
      if (!status.ok() && first.ok()) first = std::move(status);
    }
  }
  return any ? Status() : first;
}

Result<ServingConfig> Repository::ReadConfig(const std::string& name) const {
  ServingConfig config = options_.defaults;
  MINIM_TRY(const std::string triton, layout_.ReadConfig(name, "config.pbtxt"));
  if (!triton.empty()) MINIM_TRY(Annotate(ReadTritonConfig(triton, name, config), "config.pbtxt"));
  MINIM_TRY(const std::string toml, layout_.ReadConfig(name, "minim.toml"));
  MINIM_TRY(Annotate(ReadServingToml(toml, config), "minim.toml"));
  return config;
}

// A rollout that goes on is not begun anew by a reload.
std::shared_ptr<Rollout> Repository::RolloutOf(const std::string& name,
                                               const ServingConfig& config) {
  std::lock_guard lock(mutex_);
  const auto it = models_.find(name);
  if (it != models_.end()) return it->second.rollout;
  return std::make_shared<Rollout>(name, config.rollout,
                                   [log = options_.log, name](const std::string& event) {
                                     log(fmt::format("model '{}': {}", name, event));
                                   });
}

Result<Repository::ServedModel> Repository::LoadModel(const std::string& name) {
  MINIM_TRY(const ModelLayout layout, layout_.Scan(name));
  auto config = ReadConfig(name);
  if (!config.ok()) return Annotate(config.status(), fmt::format("model '{}'", name));
  for (const std::string& warning : config->warnings)
    options_.log(fmt::format("model '{}': {}", name, warning));
  ServedModel model{.config = std::make_shared<LiveConfig>(*config),
                    .rollout = RolloutOf(name, *config)};
  for (const VersionLayout& found : Chosen(layout.versions, *config)) {
    auto version = loader_.LoadVersion(name, found, model.config, model.rollout);
    if (!version.ok())
      return Annotate(version.status(), fmt::format("model '{}' version {}", name, found.number));
    model.versions[found.number] = std::move(*version);
  }
  if (model.versions.empty())
    return NotFound("model '{}': none of the versions its configuration names is there", name);
  return model;
}

Result<ModelFacts> Repository::FactsOf(const std::string& name) const {
  MINIM_TRY(const ModelLayout layout, layout_.Scan(name));
  MINIM_TRY(const ServingConfig config, ReadConfig(name));
  ModelFacts facts{.pinned = config.pinned};
  for (const VersionLayout& version : Chosen(layout.versions, config)) {
    for (const TierSource& source : version.tiers) {
      std::error_code error;
      const auto bytes = std::filesystem::file_size(source.path, error);
      if (!error) facts.file_bytes += bytes;
    }
  }
  return facts;
}

Status Repository::LoadFrom(const std::string& name) {
  const std::string signature = layout_.Signature(name);
  MINIM_TRY(ServedModel model, LoadModel(name));
  if (layout_.Signature(name) != signature)
    return Unavailable("model '{}': its files changed while they were read; load it again", name);
  std::vector<int64_t> numbers;
  for (const auto& [number, version] : model.versions) numbers.push_back(number);
  model.rollout->Configure(model.config->Get()->rollout);
  model.rollout->SetVersions(numbers);
  // Swapped out, the old ones leave after the lock: their threads end when their last request does.
  std::lock_guard lock(mutex_);
  std::swap(models_[name], model);
  failures_.erase(name);
  return {};
}

Status Repository::Load(const std::string& name) {
  MINIM_TRY(CheckModelName(name));
  std::lock_guard load_lock(load_mutex_);
  seen_[name].loaded = layout_.Signature(name);
  Status status = LoadFrom(name);
  if (!status.ok() && status.code() != StatusCode::kNotFound) {
    options_.log(std::string(status.message()));
    std::lock_guard lock(mutex_);
    failures_[name] = status.message();
  }
  return status;
}

Status Repository::Unload(const std::string& name) {
  std::lock_guard load_lock(load_mutex_);
  ServedModel leaving;
  decltype(references_) with_it;
  {
    std::lock_guard lock(mutex_);
    const auto it = models_.find(name);
    failures_.erase(name);
    if (it == models_.end()) return NotFound("model '{}': not loaded", name);
    leaving = std::move(it->second);
    models_.erase(it);
    for (const auto& [number, version] : leaving.versions)
      if (auto reference = references_.extract(version)) with_it.insert(std::move(reference));
  }
  return {};
}

void Repository::OnWorker(std::function<Status()> task, std::function<void(const Status&)> done) {
  if (options_.control != ModelControl::kExplicit)
    return done(
        Unsupported("models are loaded by the server alone: start it with "
                    "--model-control explicit to load and unload them by request"));
  if (!worker_->Post([task = std::move(task), done] { done(task()); }))
    done(Unavailable("too many loads are waiting; try again"));
}

void Repository::LoadSoon(const std::string& name, std::function<void(const Status&)> done) {
  OnWorker([this, name] { return Load(name); }, std::move(done));
}

void Repository::UnloadSoon(const std::string& name, std::function<void(const Status&)> done) {
  OnWorker([this, name] { return Unload(name); }, std::move(done));
}

void Repository::Close() { worker_.reset(); }

void Repository::Poll() {
  std::vector<std::string> due, gone;
  const std::vector<std::string> names = layout_.ModelNames();
  {
    std::lock_guard load_lock(load_mutex_);
    for (const std::string& name : names) {
      Seen& seen = seen_[name];
      std::string now = layout_.Signature(name);
      if (now != seen.loaded && now == seen.signature) due.push_back(name);
      seen.signature = std::move(now);
    }
    for (const auto& [name, seen] : seen_)
      if (!std::binary_search(names.begin(), names.end(), name)) gone.push_back(name);
    for (const std::string& name : gone) seen_.erase(name);
  }
  for (const std::string& name : due)
    if (Load(name).ok()) options_.log(fmt::format("model '{}': loaded, its files changed", name));
  for (const std::string& name : gone)
    if (Unload(name).ok())
      options_.log(fmt::format("model '{}': unloaded, its files are gone", name));
}

Result<std::shared_ptr<const ServedVersion>> Repository::Find(const std::string& name,
                                                              const std::string& version,
                                                              const RouteHints& hints) const {
  std::lock_guard lock(mutex_);
  const auto model = models_.find(name);
  if (model == models_.end() || model->second.versions.empty())
    return NotFound("model '{}': not loaded; POST /v2/repository/index lists the models",
                    name.substr(0, 255));
  const Versions& versions = model->second.versions;
  if (version.empty()) {
    if (versions.size() == 1) return versions.begin()->second;
    std::string key;
    if (hints.sticky) key = hints.sticky(model->second.config->Get()->rollout.sticky);
    // During a reload the rollout may know a version before it is here, or one that just left.
    const auto picked = versions.find(model->second.rollout->Pick(key, hints.draw));
    return picked != versions.end() ? picked->second : versions.rbegin()->second;
  }
  int64_t number = 0;
  std::from_chars(version.data(), version.data() + version.size(), number);
  const auto found = versions.find(number);
  if (found != versions.end() && found->second->version == version) return found->second;
  return NotFound("model '{}': version '{}' is not there, the latest is {}", name,
                  version.substr(0, 32), versions.rbegin()->first);
}

void Repository::WithReference(const std::shared_ptr<const ServedVersion>& version,
                               std::function<void(Result<std::shared_ptr<ServedTier>>)> done) {
  {
    std::unique_lock lock(mutex_);
    const auto it = references_.find(version);
    if (it != references_.end()) {
      const std::shared_ptr<ServedTier> tier = it->second;
      lock.unlock();
      return done(tier);
    }
  }
  const bool posted = worker_->Post([this, version, done] {
    const auto layout = layout_.Scan(version->model);
    if (!layout.ok()) return done(layout.status());
    for (const VersionLayout& found : layout->versions) {
      if (found.number != version->number) continue;
      TierSource source = found.tiers[0];
      source.tier = kReferenceTier;
      source.portable_kernels = true;
      auto tier = loader_.LoadTier(*version, source);
      if (tier.ok()) KeepReference(version, *tier);
      return done(std::move(tier));
    }
    done(NotFound("model '{}' version {}: its file is gone", version->model, version->number));
  });
  if (!posted) done(Unavailable("too many loads are waiting; try again"));
}

std::shared_ptr<ServedTier> Repository::LoadedReference(
    const std::shared_ptr<const ServedVersion>& version) const {
  std::lock_guard lock(mutex_);
  const auto it = references_.find(version);
  return it == references_.end() ? nullptr : it->second;
}

// Those of versions that have gone leave after the lock: their threads are joined then.
void Repository::KeepReference(const std::shared_ptr<const ServedVersion>& version,
                               std::shared_ptr<ServedTier> tier) {
  decltype(references_) gone;
  std::lock_guard lock(mutex_);
  for (auto it = references_.begin(); it != references_.end();) {
    const auto next = std::next(it);
    if (it->first.expired()) gone.insert(references_.extract(it));
    it = next;
  }
  references_[version] = std::move(tier);
}

Status Repository::Configure(const std::string& name, std::string_view json_text) {
  std::lock_guard one_at_a_time(configure_mutex_);
  std::shared_ptr<LiveConfig> live;
  std::shared_ptr<Rollout> rollout;
  Versions versions;
  {
    std::lock_guard lock(mutex_);
    const auto it = models_.find(name);
    if (it == models_.end()) return NotFound("model '{}': not loaded", name.substr(0, 255));
    live = it->second.config;
    rollout = it->second.rollout;
    versions = it->second.versions;
  }
  ServingConfig config = *live->Get();
  MINIM_TRY(ReadLiveSettings(json_text, config));
  MINIM_TRY(const BatchSettings settings, BatchSettingsOf(config));
  for (const auto& [number, version] : versions) {
    version->chain->Configure(config.tiers);
    for (const auto& [name, tier] : version->tiers) MINIM_TRY(tier->batcher->Configure(settings));
  }
  rollout->Configure(config.rollout);
  live->Set(std::move(config));
  return {};
}

Status Repository::ChangeRollout(const std::string& name, std::string_view json_text) {
  MINIM_TRY(const std::shared_ptr<const ServedVersion> version, Find(name, ""));
  const auto json = nlohmann::json::parse(json_text, nullptr, false);
  const bool says = json.is_object() && json.contains("action") && json["action"].is_string();
  const std::string action = says ? json["action"].get<std::string>() : "";
  Rollout& rollout = *version->rollout;
  if (action == "promote") return rollout.Promote(), Status();
  if (action == "rollback") return rollout.RollBack("asked to"), Status();
  if (action == "restart") return rollout.Restart(), Status();
  return InvalidArgument(
      "expected {{\"action\": ...}} with \"promote\", \"rollback\" or \"restart\"");
}

std::vector<std::shared_ptr<const ServedVersion>> Repository::All() const {
  std::lock_guard lock(mutex_);
  std::vector<std::shared_ptr<const ServedVersion>> all;
  for (const auto& [name, model] : models_)
    for (const auto& [number, served] : model.versions) all.push_back(served);
  return all;
}

std::vector<IndexEntry> Repository::Index() const {
  const std::vector<std::string> names = layout_.ModelNames();
  std::lock_guard lock(mutex_);
  std::vector<IndexEntry> entries;
  for (const auto& [name, model] : models_) {
    const auto failure = failures_.find(name);
    for (const auto& [number, served] : model.versions)
      entries.push_back({name, served->version, true,
                         failure == failures_.end() ? "" : "reload failed: " + failure->second});
  }
  for (const std::string& name : names) {
    if (models_.contains(name)) continue;
    const auto failure = failures_.find(name);
    const char* unloaded = options_.on_demand ? kOnDemand : "unloaded";
    entries.push_back({name, "", false, failure == failures_.end() ? unloaded : failure->second});
  }
  return entries;
}

}  // namespace minim::serve
