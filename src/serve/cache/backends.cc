#include <algorithm>
#include <charconv>

#include "serve/cache/prediction_cache.h"

namespace minim::serve {
namespace {

constexpr CacheBackend kCacheBackends[] = {
    {"memory", OpenMemoryCache},                    // memory://?bytes=256MiB
    {"redis", OpenRedisCache, /*elsewhere=*/true},  // redis://127.0.0.1:6379/0?ttl=60s
};

struct Unit {
  std::string_view suffix;
  uint64_t size;
};
constexpr Unit kByteUnits[] = {
    {"KiB", 1ull << 10}, {"MiB", 1ull << 20}, {"GiB", 1ull << 30}, {"B", 1}, {"", 1},
};
constexpr Unit kTimeUnits[] = {{"us", 1}, {"ms", 1000}, {"s", 1000000}, {"m", 60000000}};

// A whole number and one of these units; nothing if it is none.
std::optional<uint64_t> ParseUnits(std::string_view text, std::span<const Unit> units) {
  uint64_t count = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), count);
  if (error != std::errc()) return std::nullopt;
  const std::string_view suffix = text.substr(static_cast<size_t>(end - text.data()));
  for (const Unit& unit : units)
    if (unit.suffix == suffix && count <= (1ull << 62) / unit.size) return count * unit.size;
  return std::nullopt;
}

Result<std::unique_ptr<PredictionCache>> OpenOne(std::string_view url, bool last,
                                                 const NowFunction& now) {
  const size_t colon = url.find("://");
  const std::string_view scheme = url.substr(0, colon);
  std::string known;
  for (const CacheBackend& backend : kCacheBackends) {
    if (colon != std::string_view::npos && backend.scheme == scheme) {
      if (backend.elsewhere && !last)
        return InvalidArgument("cache '{}': what is elsewhere comes last, as it is slower", url);
      return backend.open(url.substr(colon + 3), now);
    }
    known += fmt::format(" {}://", backend.scheme);
  }
  return InvalidArgument("cache '{}': no such backend; there are:{}", url, known);
}

}  // namespace

std::span<const CacheBackend> CacheBackends() { return kCacheBackends; }

Result<std::unique_ptr<PredictionCache>> OpenCache(std::string_view urls, NowFunction now) {
  std::vector<std::unique_ptr<PredictionCache>> levels;
  for (size_t at = 0; at <= urls.size();) {
    const size_t end = std::min(urls.find(',', at), urls.size());
    const bool last = end == urls.size();
    MINIM_TRY(std::unique_ptr<PredictionCache> level,
              OpenOne(urls.substr(at, end - at), last, now));
    levels.push_back(std::move(level));
    at = end + 1;
  }
  return levels.size() == 1 ? std::move(levels[0]) : MakeLevels(std::move(levels));
}

bool IsShared(std::string_view urls) {
  return std::any_of(std::begin(kCacheBackends), std::end(kCacheBackends), [&](const auto& row) {
    return row.elsewhere && urls.find(fmt::format("{}://", row.scheme)) != urls.npos;
  });
}

Duration JitteredTtl(Duration ttl, const Digest128& key) {
  const double unit = static_cast<double>((key.high * 0x9e3779b97f4a7c15ull) >> 11) * 0x1p-53;
  return std::chrono::duration_cast<Duration>(ttl * (0.9 + 0.2 * unit));
}

Result<uint64_t> ParseByteCount(std::string_view text) {
  if (const auto bytes = ParseUnits(text, kByteUnits)) return *bytes;
  return InvalidArgument("'{}' is not a number of bytes; write 256MiB, 64KiB, 1GiB or plain bytes",
                         text);
}

Result<Duration> ParseDuration(std::string_view text) {
  constexpr uint64_t kMost = 365ull * 86400 * 1000000;
  const auto time = ParseUnits(text, kTimeUnits);
  if (time && *time <= kMost) return Duration(std::chrono::microseconds(*time));
  return InvalidArgument("'{}' is not a time; write 5ms, 60s or 10m", text);
}

}  // namespace minim::serve
