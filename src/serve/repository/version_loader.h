// VersionLoader: makes what is served of one version of a model from its files: loads its tiers,
// warms them, measures them against each other, and decides which may answer.
// Threads: every method may be called concurrently.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <string>

#include "serve/repository/layout.h"
#include "serve/repository/served.h"

namespace minim::serve {

/// One line for the log of whoever runs the server.
using LogFunction = std::function<void(const std::string& line)>;

class VersionLoader {
 public:
  /// `timing_budget`: per version, for measuring its tiers. `digest_files`: tells what each tier
  /// was loaded from.
  VersionLoader(ModelLoader loader, std::shared_ptr<Metrics> metrics, Duration timing_budget,
                bool digest_files, LogFunction log)
      : loader_(std::move(loader)),
        metrics_(std::move(metrics)),
        timing_budget_(timing_budget),
        digest_files_(digest_files),
        log_(std::move(log)) {}

  /// A tier but FP32 that does not load is left out, with its reason in the chain. Errors: FP32
  /// does not load, or config.pbtxt declares another signature.
  Result<std::shared_ptr<const ServedVersion>> LoadVersion(const std::string& name,
                                                           const VersionLayout& layout,
                                                           std::shared_ptr<LiveConfig> live,
                                                           std::shared_ptr<Rollout> rollout);
  Result<std::shared_ptr<ServedTier>> LoadTier(const ServedVersion& version,
                                               const TierSource& source);

 private:
  std::shared_ptr<TierChain> ChainOf(const ServedVersion& version, const VersionLayout& layout,
                                     const std::map<std::string, std::string>& broken) const;

  const ModelLoader loader_;
  const std::shared_ptr<Metrics> metrics_;
  const Duration timing_budget_;
  const bool digest_files_;
  const LogFunction log_;
  std::atomic<uint64_t> generation_{0};
};

}  // namespace minim::serve
