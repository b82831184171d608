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

/// What a cache holds and did, since it was opened.
struct CacheStats {
  uint64_t entries = 0;
  uint64_t bytes = 0;
  uint64_t evictions = 0;
};

class PredictionCache {
 public:
  virtual ~PredictionCache() = default;
  /// The value, or nothing. A miss is not an error.
  virtual Result<std::optional<std::string>> Get(const Digest128& key) = 0;
  /// Keeps the value for about `ttl`, or less if room is short. A value that can never fit is
  /// dropped silently.
  virtual Status Put(const Digest128& key, std::string value, Duration ttl) = 0;
  virtual void Clear() = 0;
  virtual CacheStats stats() const = 0;
};

/// Time comes in as an argument, so that tests can pass five minutes in no time.
using NowFunction = std::function<TimePoint()>;

struct CacheBackend {
  std::string_view scheme;
  Result<std::unique_ptr<PredictionCache>> (*open)(std::string_view url, NowFunction now);
};

/// One row per backend; see backends.cc.
std::span<const CacheBackend> CacheBackends();

/// Opens "scheme://...". Errors: kInvalidArgument names the schemes there are.
Result<std::unique_ptr<PredictionCache>> OpenCache(std::string_view url, NowFunction now);

/// "memory://?bytes=256MiB".
Result<std::unique_ptr<PredictionCache>> OpenMemoryCache(std::string_view url, NowFunction now);

/// "256MiB", "1GiB", "64KiB" or plain bytes.
Result<uint64_t> ParseByteCount(std::string_view text);

}  // namespace minim::serve
