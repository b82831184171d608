// A PredictionCache remembers answers by request digest.
// Threads: every method may be called concurrently.
// Lifetime: must outlive the server; returned bytes belong to the caller.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "core/error.h"
#include "serve/cache/siphash.h"
#include "serve/model.h"

namespace minim::serve {

/// What an answer is kept under.
struct CacheKey {
  /// Of this process, and fast.
  Digest128 local;
  /// The same for every server that runs the same model file (SHA-256, 32 bytes); empty: not for
  /// others. Called only by backends that are shared, and never after Get or Put has returned.
  std::function<std::string()> shared = nullptr;
};

/// What a cache holds and did, since it was opened.
struct CacheStats {
  uint64_t entries = 0;
  uint64_t bytes = 0;  // with all that keeping them takes
  uint64_t evictions = 0;
  uint64_t hits = 0, misses = 0;
  // Of those who keep answers in it (Answering):
  uint64_t raw_bytes = 0, stored_bytes = 0;  // before and after compression, of all answers
  Duration saved{0};                         // what computing the hits took when they were computed
  // Of backends elsewhere:
  uint64_t skipped = 0;   // look-ups that went without an answer, as it is down or too busy
  uint64_t failures = 0;  // connections lost, deadlines missed, replies that are none
  uint64_t refused = 0;   // values that it would not keep
};

class PredictionCache {
 public:
  struct Found {
    std::string value;
    Duration ttl;  // that is left
  };
  using GetDone = std::function<void(std::optional<Found>)>;

  virtual ~PredictionCache() = default;
  /// The value if this process holds it.
  virtual std::optional<std::string> GetNow(const CacheKey& key) = 0;
  /// Looks wherever there is. `done` is called once: before this returns, or within the deadline of
  /// a backend elsewhere, on a thread of the cache. What is not found in time, or by a cache that
  /// is down, is a miss and no error.
  virtual void Get(const CacheKey& key, GetDone done) = 0;
  /// Keeps the value for about `ttl`, or less if room is short. A value that can never fit, or that
  /// a cache elsewhere would not take, is dropped silently. Never waits.
  virtual void Put(const CacheKey& key, std::string value, Duration ttl) = 0;
  /// What was put before is not found any more; of a shared cache, by this process.
  virtual void Clear() = 0;
  virtual CacheStats stats() const = 0;
};

/// Up to 10 % more or less, by the key: answers that are cached together do not expire together.
Duration JitteredTtl(Duration ttl, const Digest128& key);

/// Time comes in as an argument, so that tests can pass five minutes in no time.
using NowFunction = std::function<TimePoint()>;

struct CacheBackend {
  std::string_view scheme;
  Result<std::unique_ptr<PredictionCache>> (*open)(std::string_view url, NowFunction now);
  /// It answers later, on a thread of its own.
  bool elsewhere = false;
};

/// One row per backend; see backends.cc.
std::span<const CacheBackend> CacheBackends();

/// Opens "scheme://...", or several, separated by commas: the first is asked first, and gets what a
/// later one knew. Only the last may be elsewhere. Errors: kInvalidArgument names the schemes there
/// are.
Result<std::unique_ptr<PredictionCache>> OpenCache(std::string_view urls, NowFunction now);

/// Whether one of them is elsewhere, and so perhaps shared with other servers.
bool IsShared(std::string_view urls);

/// "memory://?bytes=256MiB".
Result<std::unique_ptr<PredictionCache>> OpenMemoryCache(std::string_view url, NowFunction now);

/// "redis://127.0.0.1:6379/0?deadline=5ms&ttl=60s&prefix=minim:&max_value=1MiB". Never waits for a
/// server that is not there: it is looked for again and again.
Result<std::unique_ptr<PredictionCache>> OpenRedisCache(std::string_view url, NowFunction now);

/// A cache of at least two levels, the fastest first. All but the last answer at once.
std::unique_ptr<PredictionCache> MakeLevels(std::vector<std::unique_ptr<PredictionCache>> levels);

/// "256MiB", "1GiB", "64KiB" or plain bytes.
Result<uint64_t> ParseByteCount(std::string_view text);

/// "5ms", "60s", "10m".
Result<Duration> ParseDuration(std::string_view text);

}  // namespace minim::serve
