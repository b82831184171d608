// Several caches as one: the fastest is asked first, and learns what a slower one knew.
#include "serve/cache/prediction_cache.h"

namespace minim::serve {
namespace {

using Levels = std::vector<std::unique_ptr<PredictionCache>>;

class LevelsCache : public PredictionCache {
 public:
  explicit LevelsCache(Levels levels) : levels_(std::move(levels)) {}
  // The last first: what it still finds goes into the others.
  ~LevelsCache() override {
    while (!levels_.empty()) levels_.pop_back();
  }

  std::optional<std::string> GetNow(const CacheKey& key) override {
    for (const auto& level : levels_)
      if (auto value = level->GetNow(key)) return value;
    return std::nullopt;
  }

  void Get(const CacheKey& key, GetDone done) override { GetFrom(0, key, std::move(done)); }

  void Put(const CacheKey& key, std::string value, Duration ttl) override {
    for (size_t i = levels_.size(); i-- > 1;) levels_[i]->Put(key, value, ttl);
    levels_[0]->Put(key, std::move(value), ttl);
  }

  void Clear() override {
    for (const auto& level : levels_) level->Clear();
  }

  CacheStats stats() const override {
    CacheStats sum = levels_[0]->stats();
    for (size_t i = 1; i < levels_.size(); ++i) {
      const CacheStats stats = levels_[i]->stats();
      sum.entries += stats.entries;
      sum.bytes += stats.bytes;
      sum.evictions += stats.evictions;
      sum.hits += stats.hits;
      sum.misses = stats.misses;  // of the last: what no level knew
      sum.skipped += stats.skipped;
      sum.failures += stats.failures;
      sum.refused += stats.refused;
    }
    return sum;
  }

 private:
  void GetFrom(size_t i, const CacheKey& key, GetDone done) {
    if (i + 1 == levels_.size()) {
      levels_[i]->Get(key, Filling(i, key, std::move(done)));
      return;
    }
    // Upper levels answer at once: only the last may be elsewhere, so the key lives long enough.
    levels_[i]->Get(key, [&](std::optional<Found> found) {
      if (!found) return GetFrom(i + 1, key, std::move(done));
      Filling(i, key, std::move(done))(std::move(found));
    });
  }

  // Tells the levels above `i` too.
  GetDone Filling(size_t i, const CacheKey& key, GetDone done) {
    if (i == 0) return done;
    return [this, i, local = key.local, done = std::move(done)](std::optional<Found> found) {
      for (size_t k = 0; found && k < i; ++k)
        levels_[k]->Put({.local = local}, found->value, found->ttl);
      done(std::move(found));
    };
  }

  Levels levels_;  // changes in the destructor only
};

}  // namespace

std::unique_ptr<PredictionCache> MakeLevels(Levels levels) {
  return std::make_unique<LevelsCache>(std::move(levels));
}

}  // namespace minim::serve
