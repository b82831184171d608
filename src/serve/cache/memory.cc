// The in-process backend: sharded, bounded in bytes, with a TTL. What leaves is chosen by S3-FIFO
// (Yang et al., "FIFO queues are all you need for cache eviction", 2023): newcomers pass through a
// small queue, and only what was asked for there again, or was thrown out not long ago, is let into
// the main one. A stream of answers that nobody asks for again cannot push out those in use.
#include <algorithm>
#include <array>
#include <cstring>
#include <mutex>

#include "serve/cache/prediction_cache.h"

namespace minim::serve {
namespace {

constexpr uint64_t kDefaultBytes = 1ull << 30;
constexpr size_t kMaxShards = 16;
// A shard below this size would drop answers that a small cache could hold.
constexpr uint64_t kMinShardBytes = 256 << 10;
constexpr uint32_t kNone = ~uint32_t{0};
constexpr uint8_t kMostUses = 3;
constexpr uint64_t kSmallShare = 10;  // one part in so many is for newcomers
constexpr size_t kFirstSlots = 64;

// What the allocator takes for `size` bytes.
uint64_t HeapBytes(size_t size) { return std::max<uint64_t>(32, (size + 8 + 15) / 16 * 16); }

struct Entry {
  Digest128 key;
  std::unique_ptr<char[]> value;
  TimePoint expires;
  uint32_t size = 0;
  uint32_t next = kNone;  // in its queue, or of free entries
  uint8_t uses = 0;       // since it entered its queue
  bool live = false;      // else its value is gone, and it waits for its turn or another value
  bool in_main = false;
};

// Entries by number, in blocks that stay where they are.
class EntryTable {
 public:
  Entry& operator[](uint32_t i) { return blocks_[i / kBlock][i % kBlock]; }
  uint64_t bytes() const {
    return blocks_.size() * HeapBytes(kBlock * sizeof(Entry)) + blocks_.capacity() * 8;
  }

  uint32_t Take() {
    if (free_ == kNone) AddBlock();
    const uint32_t i = free_;
    free_ = (*this)[i].next;
    return i;
  }
  void Give(uint32_t i) {
    (*this)[i] = {};
    (*this)[i].next = free_;
    free_ = i;
  }

 private:
  static constexpr uint32_t kBlock = 64;

  void AddBlock() {
    const auto first = static_cast<uint32_t>(blocks_.size() * kBlock);
    blocks_.push_back(std::make_unique<Entry[]>(kBlock));
    for (uint32_t i = kBlock; i-- > 0;) Give(first + i);
  }

  std::vector<std::unique_ptr<Entry[]>> blocks_;
  uint32_t free_ = kNone;
};

// First in, first out, through Entry::next.
struct Queue {
  uint32_t head = kNone, tail = kNone;
  uint64_t bytes = 0;  // of live entries

  void Push(EntryTable& entries, uint32_t i) {
    entries[i].next = kNone;
    (head == kNone ? head : entries[tail].next) = i;
    tail = i;
  }
  uint32_t Pop(EntryTable& entries) {
    const uint32_t i = head;
    head = entries[i].next;
    if (head == kNone) tail = kNone;
    return i;
  }
};

// Entry numbers by key: open addressing, at most three quarters full.
class Index {
 public:
  Index() : slots_(kFirstSlots, kNone) {}

  uint64_t bytes() const { return HeapBytes(slots_.size() * sizeof(uint32_t)); }
  size_t slots() const { return slots_.size(); }

  uint32_t Find(EntryTable& entries, const Digest128& key) const {
    for (size_t at = Home(key);; at = Next(at)) {
      if (slots_[at] == kNone) return kNone;
      if (entries[slots_[at]].key == key) return slots_[at];
    }
  }
  void Add(EntryTable& entries, uint32_t i) {
    if ((count_ + 1) * 4 > slots_.size() * 3) Grow(entries);
    Place(entries[i].key, i);
    ++count_;
  }
  void Remove(EntryTable& entries, const Digest128& key) {
    size_t at = Home(key);
    while (!(entries[slots_[at]].key == key)) at = Next(at);
    // What stands behind moves up, so that no search ends too early.
    for (size_t from = Next(at); slots_[from] != kNone; from = Next(from)) {
      const size_t home = Home(entries[slots_[from]].key);
      const size_t mask = slots_.size() - 1;
      if (((from - home) & mask) < ((from - at) & mask)) continue;
      slots_[at] = slots_[from];
      at = from;
    }
    slots_[at] = kNone;
    --count_;
  }

 private:
  size_t Home(const Digest128& key) const { return key.low & (slots_.size() - 1); }
  size_t Next(size_t at) const { return (at + 1) & (slots_.size() - 1); }
  void Place(const Digest128& key, uint32_t i) {
    size_t at = Home(key);
    while (slots_[at] != kNone) at = Next(at);
    slots_[at] = i;
  }
  void Grow(EntryTable& entries) {
    std::vector<uint32_t> before(slots_.size() * 2, kNone);
    before.swap(slots_);
    for (const uint32_t i : before)
      if (i != kNone) Place(entries[i].key, i);
  }

  std::vector<uint32_t> slots_;  // a power of two
  size_t count_ = 0;
};

// Keys that left without having been asked for again, by a part of their bits; a newer one
// overwrites an older one of the same place.
class Ghosts {
 public:
  uint64_t bytes() const { return HeapBytes(marks_.size() * sizeof(uint32_t)); }

  void Add(const Digest128& key, size_t slots) {
    if (marks_.size() < slots) marks_.assign(slots, 0);
    marks_[key.low & (marks_.size() - 1)] = Mark(key);
  }
  bool Take(const Digest128& key) {
    if (marks_.empty()) return false;
    uint32_t& mark = marks_[key.low & (marks_.size() - 1)];
    if (mark != Mark(key)) return false;
    mark = 0;
    return true;
  }

 private:
  static uint32_t Mark(const Digest128& key) { return static_cast<uint32_t>(key.high) | 1; }
  std::vector<uint32_t> marks_;
};

class Shard {
 public:
  std::optional<PredictionCache::Found> Get(const Digest128& key, TimePoint now) {
    std::lock_guard lock(mutex_);
    const uint32_t i = index_.Find(entries_, key);
    if (i != kNone && entries_[i].expires <= now) Empty(i);
    if (i == kNone || !entries_[i].live) {
      ++stats_.misses;
      return std::nullopt;
    }
    ++stats_.hits;
    Entry& entry = entries_[i];
    entry.uses = std::min<uint8_t>(entry.uses + 1, kMostUses);
    return PredictionCache::Found{{entry.value.get(), entry.size}, entry.expires - now};
  }

  void Put(const Digest128& key, const std::string& value, TimePoint expires, uint64_t budget) {
    std::lock_guard lock(mutex_);
    uint32_t i = index_.Find(entries_, key);
    if (i != kNone) Empty(i);
    if (value.size() >= kNone || HeapBytes(value.size()) + Overhead() > budget) return;
    if (i == kNone) i = Enter(key);
    Fill(entries_[i], value);
    entries_[i].expires = expires;
    while (stats_.entries > 0 && BytesHeld() > budget) EvictOne();
  }

  void Clear() {
    std::lock_guard lock(mutex_);
    const CacheStats before = stats_;
    entries_ = {};
    index_ = {};
    ghosts_ = {};
    small_ = main_ = {};
    stats_ = {.evictions = before.evictions, .hits = before.hits, .misses = before.misses};
  }

  void AddTo(CacheStats& stats) const {
    std::lock_guard lock(mutex_);
    stats.entries += stats_.entries;
    stats.bytes += stats_.entries == 0 ? 0 : BytesHeld();
    stats.evictions += stats_.evictions;
    stats.hits += stats_.hits;
    stats.misses += stats_.misses;
  }

 private:
  uint64_t Overhead() const { return entries_.bytes() + index_.bytes() + ghosts_.bytes(); }
  uint64_t BytesHeld() const { return small_.bytes + main_.bytes + Overhead(); }
  Queue& QueueOf(const Entry& entry) { return entry.in_main ? main_ : small_; }

  uint32_t Enter(const Digest128& key) {
    const uint32_t i = entries_.Take();
    Entry& entry = entries_[i];
    entry.key = key;
    entry.in_main = ghosts_.Take(key);
    QueueOf(entry).Push(entries_, i);
    index_.Add(entries_, i);
    return i;
  }

  void Fill(Entry& entry, const std::string& value) {
    entry.value = std::make_unique_for_overwrite<char[]>(value.size());
    std::memcpy(entry.value.get(), value.data(), value.size());
    entry.size = static_cast<uint32_t>(value.size());
    entry.live = true;
    QueueOf(entry).bytes += HeapBytes(entry.size);
    ++stats_.entries;
  }

  // It stays in its queue until its turn comes.
  void Empty(uint32_t i) {
    Entry& entry = entries_[i];
    if (!entry.live) return;
    QueueOf(entry).bytes -= HeapBytes(entry.size);
    entry.value.reset();
    entry.live = false;
    --stats_.entries;
  }

  // Of one that was taken out of its queue.
  void Evict(uint32_t i) {
    stats_.evictions += entries_[i].live;
    Empty(i);
    index_.Remove(entries_, entries_[i].key);
    entries_.Give(i);
  }

  void EvictOne() {
    const bool many_new = small_.bytes > (small_.bytes + main_.bytes) / kSmallShare;
    if (small_.head != kNone && (main_.head == kNone || many_new)) return EvictFromSmall();
    EvictFromMain();
  }

  void EvictFromSmall() {
    const uint32_t i = small_.Pop(entries_);
    Entry& entry = entries_[i];
    if (!entry.live || entry.uses == 0) {
      ghosts_.Add(entry.key, index_.slots());
      return Evict(i);
    }
    small_.bytes -= HeapBytes(entry.size);
    main_.bytes += HeapBytes(entry.size);
    main_.Push(entries_, i);
    entry.in_main = true;
    entry.uses = 0;
  }

  void EvictFromMain() {
    const uint32_t i = main_.Pop(entries_);
    Entry& entry = entries_[i];
    if (!entry.live || entry.uses == 0) return Evict(i);
    --entry.uses;  // another round
    main_.Push(entries_, i);
  }

  mutable std::mutex mutex_;
  EntryTable entries_;  // guarded by mutex_
  Index index_;         // guarded by mutex_
  Ghosts ghosts_;       // guarded by mutex_
  Queue small_, main_;  // guarded by mutex_
  CacheStats stats_;    // guarded by mutex_; without bytes
};

class MemoryCache : public PredictionCache {
 public:
  MemoryCache(uint64_t bytes, NowFunction now)
      : shard_count_(std::clamp<uint64_t>(bytes / kMinShardBytes, 1, kMaxShards)),
        shard_bytes_(bytes / shard_count_),
        now_(std::move(now)) {}

  std::optional<std::string> GetNow(const CacheKey& key) override {
    auto found = ShardOf(key.local).Get(key.local, now_());
    return found ? std::optional(std::move(found->value)) : std::nullopt;
  }

  void Get(const CacheKey& key, GetDone done) override {
    done(ShardOf(key.local).Get(key.local, now_()));
  }

  void Put(const CacheKey& key, std::string value, Duration ttl) override {
    ShardOf(key.local).Put(key.local, value, now_() + JitteredTtl(ttl, key.local), shard_bytes_);
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
