#include <charconv>

#include "serve/cache/prediction_cache.h"

namespace minim::serve {
namespace {

constexpr CacheBackend kCacheBackends[] = {
    {"memory", OpenMemoryCache},  // memory://?bytes=256MiB
};

struct Unit {
  std::string_view suffix;
  uint64_t bytes;
};
constexpr Unit kUnits[] = {
    {"KiB", 1ull << 10}, {"MiB", 1ull << 20}, {"GiB", 1ull << 30}, {"B", 1}, {"", 1},
};

}  // namespace

std::span<const CacheBackend> CacheBackends() { return kCacheBackends; }

Result<std::unique_ptr<PredictionCache>> OpenCache(std::string_view url, NowFunction now) {
  const size_t colon = url.find("://");
  const std::string_view scheme = url.substr(0, colon);
  std::string known;
  for (const CacheBackend& backend : kCacheBackends) {
    if (colon != std::string_view::npos && backend.scheme == scheme)
      return backend.open(url.substr(colon + 3), std::move(now));
    known += fmt::format(" {}://", backend.scheme);
  }
  return InvalidArgument("cache '{}': no such backend; there are:{}", url, known);
}

Result<uint64_t> ParseByteCount(std::string_view text) {
  uint64_t count = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), count);
  const std::string_view suffix = text.substr(static_cast<size_t>(end - text.data()));
  if (error == std::errc()) {
    for (const Unit& unit : kUnits) {
      if (unit.suffix == suffix && count <= (1ull << 62) / unit.bytes) return count * unit.bytes;
    }
  }
  return InvalidArgument("'{}' is not a number of bytes; write 256MiB, 64KiB, 1GiB or plain bytes",
                         text);
}

}  // namespace minim::serve
