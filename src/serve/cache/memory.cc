// The in-process backend: sharded, least recently used leaves first, bounded in bytes.
#include <algorithm>
#include <array>
#include <list>
#include <mutex>
#include <unordered_map>

#include "serve/cache/prediction_cache.h"

namespace minim::serve {
namespace {

constexpr uint64_t kDefaultBytes = 1ull << 30;
constexpr size_t kMaxShards = 16;
// A shard below this size would drop answers that a small cache could hold.
constexpr uint64_t kMinShardBytes = 256 << 10;
// Nodes of the list and the table, allocator slack: measured sizes of libstdc++ rounded up.
constexpr uint64_t kEntryOverhead = 160;

struct KeyHash {
  // The key is already a uniform hash.
  size_t operator()(const Digest128& key) const { return key.low; }
};

class Shard {
 public:
  std::optional<std::string> Get(const Digest128& key, TimePoint now) {
    std::lock_guard lock(mutex_);
    const auto it = index_.find(key);
    if (it == index_.end()) return std::nullopt;
    if (it->second->expires <= now) {
      Erase(it);
      return std::nullopt;
    }
    entries_.splice(entries_.begin(), entries_, it->second);
    return it->second->value;
  }

  void Put(const Digest128& key, std::string value, TimePoint expires, uint64_t budget) {
    const uint64_t cost = value.size() + kEntryOverhead;
    std::lock_guard lock(mutex_);
    if (const auto it = index_.find(key); it != index_.end()) Erase(it);
    if (cost > budget) return;
    while (bytes_ + cost > budget) {
      Erase(index_.find(entries_.back().key));
      ++evictions_;
    }
    value.shrink_to_fit();
    entries_.push_front({key, std::move(value), expires});
    index_.emplace(key, entries_.begin());
    bytes_ += cost;
  }

  void Clear() {
    std::lock_guard lock(mutex_);
    index_.clear();
    entries_.clear();
    bytes_ = 0;
  }

  void AddTo(CacheStats& stats) const {
    std::lock_guard lock(mutex_);
    stats.entries += entries_.size();
    stats.bytes += bytes_;
    stats.evictions += evictions_;
  }

 private:
  struct Entry {
    Digest128 key;
    std::string value;
    TimePoint expires;
  };
  using Entries = std::list<Entry>;
  using Index = std::unordered_map<Digest128, Entries::iterator, KeyHash>;

  void Erase(Index::iterator it) {
    bytes_ -= it->second->value.size() + kEntryOverhead;
    entries_.erase(it->second);
    index_.erase(it);
  }

  mutable std::mutex mutex_;
  Entries entries_;         // guarded by mutex_; most recently used first
  Index index_;             // guarded by mutex_
  uint64_t bytes_ = 0;      // guarded by mutex_
  uint64_t evictions_ = 0;  // guarded by mutex_
};

class MemoryCache : public PredictionCache {
 public:
  MemoryCache(uint64_t bytes, NowFunction now)
      : shard_count_(std::clamp<uint64_t>(bytes / kMinShardBytes, 1, kMaxShards)),
        shard_bytes_(bytes / shard_count_),
        now_(std::move(now)) {}

  Result<std::optional<std::string>> Get(const Digest128& key) override {
    return ShardOf(key).Get(key, now_());
  }

  Status Put(const Digest128& key, std::string value, Duration ttl) override {
    ShardOf(key).Put(key, std::move(value), now_() + Jittered(ttl, key), shard_bytes_);
    return {};
  }

  void Clear() override {
    for (Shard& shard : shards_) shard.Clear();
  }

  CacheStats stats() const override {
    CacheStats stats;
    for (const Shard& shard : shards_) shard.AddTo(stats);
    return stats;
  }

 private:
  // Up to 10 % either way, so that answers cached together do not expire together.
  static Duration Jittered(Duration ttl, const Digest128& key) {
    const double unit = static_cast<double>((key.high * 0x9e3779b97f4a7c15ull) >> 11) * 0x1p-53;
    return std::chrono::duration_cast<Duration>(ttl * (0.9 + 0.2 * unit));
  }
  // Not the bits the table uses, or a shard's table would see few distinct hashes.
  Shard& ShardOf(const Digest128& key) { return shards_[(key.high >> 32) % shard_count_]; }

  const uint64_t shard_count_;
  const uint64_t shard_bytes_;
  const NowFunction now_;
  std::array<Shard, kMaxShards> shards_;
};

}  // namespace

Result<std::unique_ptr<PredictionCache>> OpenMemoryCache(std::string_view url, NowFunction now) {
  uint64_t bytes = kDefaultBytes;
  if (!url.empty() && url != "?") {
    constexpr std::string_view kOption = "?bytes=";
    if (!url.starts_with(kOption))
      return InvalidArgument("memory cache: found '{}', expected memory://?bytes=256MiB", url);
    MINIM_TRY(bytes, ParseByteCount(url.substr(kOption.size())));
  }
  return std::unique_ptr<PredictionCache>(std::make_unique<MemoryCache>(bytes, std::move(now)));
}

}  // namespace minim::serve
