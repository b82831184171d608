// Repository: the models being served, by name, version and tier.
// Threads: every method may be called concurrently; loads wait for each other, look-ups never wait
// for a load.
// Lifetime: what Find returns stays usable after a reload or unload.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "serve/batching/batcher.h"
#include "serve/metrics/metrics.h"
#include "serve/repository/layout.h"
#include "serve/repository/stats.h"
#include "serve/repository/worker.h"

namespace minim::serve {

struct ServedTier {
  std::string name;
  /// Differs between any two loads.
  uint64_t generation = 0;
  std::shared_ptr<const Model> model;
  std::shared_ptr<ModelMetrics> metrics;
  std::unique_ptr<Batcher> batcher;
};

struct ServedVersion {
  std::string model;
  std::string version;
  std::string default_tier;
  std::map<std::string, std::shared_ptr<ServedTier>> tiers;
  int64_t max_batch = 0;  // 0: rows cannot be put together
  std::shared_ptr<ModelStats> stats = std::make_shared<ModelStats>();

  const Model& reference() const { return *tiers.at(default_tier)->model; }
  /// The tier asked for, or the default one for "". Errors: kInvalidArgument lists the tiers.
  Result<std::shared_ptr<ServedTier>> Tier(const std::string& name) const;
};

struct IndexEntry {
  std::string name;
  std::string version;
  bool ready = false;
  std::string reason;
};

struct RepositoryOptions {
  ModelLoader loader;
  BatcherOptions batcher;
  bool offer_bf16 = false;
};

class Repository {
 public:
  static Result<std::unique_ptr<Repository>> Open(const Path& path, RepositoryOptions options,
                                                  std::shared_ptr<Metrics> metrics);

  /// Loads every model there is. A model that fails is listed by Index with its reason.
  /// Errors: the first failure, if nothing could be loaded.
  Status LoadAll();
  /// Loads or reloads; on failure what was served before stays.
  Status Load(const std::string& name);
  Status Unload(const std::string& name);
  /// The same, on a thread of the repository's own: loading takes long. `done` runs there; with
  /// kUnavailable on the caller's if too many wait already.
  void LoadSoon(const std::string& name, std::function<void(const Status&)> done);
  void UnloadSoon(const std::string& name, std::function<void(const Status&)> done);
  /// Waits for what LoadSoon and UnloadSoon began; nothing more may be asked of them.
  void Close() { worker_.reset(); }

  /// The latest version for "". Errors: kNotFound says which of the two is missing.
  Result<std::shared_ptr<const ServedVersion>> Find(const std::string& name,
                                                    const std::string& version) const;
  std::vector<std::shared_ptr<const ServedVersion>> All() const;
  std::vector<IndexEntry> Index() const;

 private:
  using Versions = std::map<int64_t, std::shared_ptr<const ServedVersion>>;

  Repository(RepositoryLayout layout, RepositoryOptions options, std::shared_ptr<Metrics> metrics)
      : layout_(std::move(layout)), options_(std::move(options)), metrics_(std::move(metrics)) {}
  Result<Versions> LoadVersions(const std::string& name);
  Result<std::shared_ptr<ServedTier>> LoadTier(const ServedVersion& version,
                                               const TierSource& source);
  Status LoadFrom(const std::string& name);

  const RepositoryLayout layout_;
  const RepositoryOptions options_;
  const std::shared_ptr<Metrics> metrics_;
  std::atomic<uint64_t> generation_{0};
  std::mutex load_mutex_;
  mutable std::mutex mutex_;
  std::map<std::string, Versions> models_;       // guarded by mutex_
  std::map<std::string, std::string> failures_;  // guarded by mutex_; why the last load failed
  std::unique_ptr<Worker> worker_ = std::make_unique<Worker>();
};

}  // namespace minim::serve
