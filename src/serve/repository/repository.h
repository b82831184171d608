// Repository: the models being served, by name, version and tier.
// Threads: every method may be called concurrently; loads wait for each other, look-ups never wait
// for a load.
// Lifetime: what Find returns stays usable after a reload or unload.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "serve/repository/version_loader.h"
#include "serve/repository/worker.h"

namespace minim::serve {

struct IndexEntry {
  std::string name;
  std::string version;
  bool ready = false;
  std::string reason;
};

/// Who decides what is loaded.
enum class ModelControl {
  kNone,      // everything, at start-up
  kPoll,      // everything, and what changes on disk
  kExplicit,  // what is asked for by name
};

struct RepositoryOptions {
  ModelControl control = ModelControl::kExplicit;
  ModelLoader loader;
  /// Of models that do not say otherwise.
  ServingConfig defaults;
  bool offer_bf16 = false;
  /// For answers that servers share: each file is read once more at either end of its load.
  bool digest_files = false;
  /// Somebody loads what a request asks for: models that are not loaded are there all the same.
  bool on_demand = false;
  /// Per model, for measuring its tiers against each other at load.
  Duration timing_budget = std::chrono::milliseconds(200);
  LogFunction log = [](const std::string&) {};
};

/// What the files of a model say before it is loaded.
struct ModelFacts {
  /// Of the files of all tiers that would be loaded: what is in memory then is more or less of it.
  uint64_t file_bytes = 0;
  bool pinned = false;
};

/// Which version a request gets that names none.
struct RouteHints {
  /// The value of the model's sticky parameter or header, if the request has one; called only when
  /// the model splits its requests.
  std::function<std::string(const std::string& name)> sticky;
  /// Uniform in [0, 1).
  double draw = 0;
};

class Repository {
 public:
  static Result<std::unique_ptr<Repository>> Open(const Path& path, RepositoryOptions options,
                                                  std::shared_ptr<Metrics> metrics);
  ~Repository() { Close(); }

  /// Loads these models, or every one there is for "*". A model that fails is listed by Index with
  /// its reason. Errors: the first failure, if nothing could be loaded that should be.
  Status LoadAll(const std::vector<std::string>& names = {"*"});
  /// Loads or reloads; on failure what was served before stays. A variant that does not load is
  /// left out. Errors: kUnavailable when a file changed while it was read.
  Status Load(const std::string& name);
  Status Unload(const std::string& name);
  /// The same at a client's wish, on a thread of the repository's own: loading takes long. `done`
  /// runs there; on the caller's with kUnsupported if control is not explicit, with kUnavailable if
  /// too many wait already.
  void LoadSoon(const std::string& name, std::function<void(const Status&)> done);
  void UnloadSoon(const std::string& name, std::function<void(const Status&)> done);
  /// Loads what is new or changed, unloads what is gone. A model is loaded when two calls in a row
  /// find it the same, so that nothing is read while it is being written.
  void Poll();
  /// Waits for what LoadSoon and UnloadSoon began; nothing more may be asked of them.
  void Close();

  /// The version named, or for "" the one that the model's rollout picks.
  /// Errors: kNotFound says which of the two is missing.
  Result<std::shared_ptr<const ServedVersion>> Find(const std::string& name,
                                                    const std::string& version,
                                                    const RouteHints& hints = {}) const;
  /// A tier to turn to when FP32 itself fails: the same model by portable kernels. Loaded on the
  /// repository's thread when it is first asked for; `done` runs there or at once.
  void WithReference(const std::shared_ptr<const ServedVersion>& version,
                     std::function<void(Result<std::shared_ptr<ServedTier>>)> done);
  /// Changes settings of a running model (see ReadLiveSettings). Errors: kNotFound,
  /// kInvalidArgument.
  Status Configure(const std::string& name, std::string_view json_text);

  /// {"action":"promote"}, "rollback" or "restart". Errors: as Configure.
  Status ChangeRollout(const std::string& name, std::string_view json_text);

  /// Names of the models that lie there now, sorted.
  std::vector<std::string> Names() const { return layout_.ModelNames(); }
  Result<ModelFacts> FactsOf(const std::string& name) const;
  /// The tier that WithReference has loaded for a version; null if none.
  std::shared_ptr<ServedTier> LoadedReference(
      const std::shared_ptr<const ServedVersion>& version) const;

  std::vector<std::shared_ptr<const ServedVersion>> All() const;
  std::vector<IndexEntry> Index() const;

 private:
  using Versions = std::map<int64_t, std::shared_ptr<const ServedVersion>>;
  struct ServedModel {
    std::shared_ptr<LiveConfig> config;
    std::shared_ptr<Rollout> rollout;
    Versions versions;
  };
  struct Seen {
    std::string signature;  // when last looked at
    std::string loaded;     // when last loaded, or tried
  };

  Repository(RepositoryLayout layout, RepositoryOptions options, std::shared_ptr<Metrics> metrics)
      : layout_(std::move(layout)),
        options_(std::move(options)),
        loader_(options_.loader, std::move(metrics), options_.timing_budget, options_.digest_files,
                options_.log) {}
  Result<ServingConfig> ReadConfig(const std::string& name) const;
  Result<ServedModel> LoadModel(const std::string& name);
  Status LoadFrom(const std::string& name);
  void OnWorker(std::function<Status()> task, std::function<void(const Status&)> done);
  void KeepReference(const std::shared_ptr<const ServedVersion>& version,
                     std::shared_ptr<ServedTier> tier);
  std::shared_ptr<Rollout> RolloutOf(const std::string& name, const ServingConfig& config);

  const RepositoryLayout layout_;
  const RepositoryOptions options_;
  VersionLoader loader_;
  std::mutex load_mutex_;
  std::map<std::string, Seen> seen_;  // guarded by load_mutex_
  std::mutex configure_mutex_;        // two changes at a time would lose one; never held by a load
  mutable std::mutex mutex_;
  std::map<std::string, ServedModel> models_;    // guarded by mutex_
  std::map<std::string, std::string> failures_;  // guarded by mutex_; why the last load failed
  // By version; guarded by mutex_. Of versions that are gone when the next one is added.
  std::map<std::weak_ptr<const ServedVersion>, std::shared_ptr<ServedTier>, std::owner_less<>>
      references_;
  std::unique_ptr<Worker> worker_ = std::make_unique<Worker>();
};

}  // namespace minim::serve
