// What is served: tiers of versions of models. Values are fixed once loaded, but for what is said
// to change.
// Threads: every method may be called concurrently.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "serve/batching/batcher.h"
#include "serve/fallback/tier_chain.h"
#include "serve/http/message.h"
#include "serve/metrics/metrics.h"
#include "serve/repository/serving_config.h"
#include "serve/repository/stats.h"
#include "serve/rollout/rollout.h"

namespace minim::serve {

struct ServedTier : SentObserver {
  std::string name;
  /// Differs between any two loads.
  uint64_t generation = 0;
  /// ModelFileDigest of what was loaded; empty: its answers are not shared between servers.
  std::string content;
  std::shared_ptr<const Model> model;
  std::shared_ptr<ModelMetrics> metrics;
  std::unique_ptr<Batcher> batcher;

  void Sent(std::chrono::nanoseconds after) override {
    metrics->Observe(Phase::kSend, after);
    batcher->Sent(after);
  }
};

/// A model's settings, which may change while it runs.
class LiveConfig {
 public:
  explicit LiveConfig(ServingConfig config)
      : config_(std::make_shared<const ServingConfig>(std::move(config))) {}

  std::shared_ptr<const ServingConfig> Get() const {
    std::lock_guard lock(mutex_);
    return config_;
  }
  void Set(ServingConfig config) {
    auto next = std::make_shared<const ServingConfig>(std::move(config));
    std::lock_guard lock(mutex_);
    config_.swap(next);
  }

 private:
  mutable std::mutex mutex_;
  std::shared_ptr<const ServingConfig> config_;  // guarded by mutex_
};

struct ServedVersion {
  std::string model;
  std::string version;
  int64_t number = 1;
  std::map<std::string, std::shared_ptr<ServedTier>> tiers;
  int64_t max_batch = 0;  // 0: rows cannot be put together
  std::shared_ptr<LiveConfig> config;
  std::shared_ptr<TierChain> chain;
  std::shared_ptr<Rollout> rollout;
  std::shared_ptr<ModelStats> stats = std::make_shared<ModelStats>();

  /// The model itself: FP32, or whatever model.onnx is.
  const Model& reference() const { return *tiers.at(kFp32Tier)->model; }
  /// The tier asked for; for "" the one that serves now. Errors: kInvalidArgument lists the tiers.
  Result<std::shared_ptr<ServedTier>> Tier(const std::string& name) const;
};

}  // namespace minim::serve
