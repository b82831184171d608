// The shared backend: answers in a Redis server, which several of our servers may use. It is never
// on the critical path: nothing waits for it longer than the deadline, and nothing at all while it
// does not answer.
#include <atomic>
#include <charconv>

#include "serve/cache/prediction_cache.h"
#include "serve/cache/redis_link.h"
#include "serve/cache/request_key.h"

namespace minim::serve {
namespace {

using std::chrono::milliseconds;

constexpr std::string_view kForm =
    "redis://HOST:PORT/DATABASE?deadline=5ms&ttl=60s&prefix=minim:&max_value=1MiB";

struct RedisOptions {
  RedisLinkOptions link;
  std::optional<Duration> ttl;  // instead of the server's own
  std::string prefix = "minim:";
};

std::string Hex(std::string_view bytes) {
  std::string text;
  for (const char c : bytes) text += fmt::format("{:02x}", static_cast<unsigned char>(c));
  return text;
}

class RedisCache : public PredictionCache {
 public:
  RedisCache(RedisOptions options, NowFunction now)
      : options_(std::move(options)), link_(options_.link, std::move(now)) {}

  std::optional<std::string> GetNow(const CacheKey&) override { return std::nullopt; }

  void Get(const CacheKey& key, GetDone done) override {
    const auto shared_done = std::make_shared<GetDone>(std::move(done));
    if (link_.is_up()) {
      const std::string name = NameOf(key);
      if (name.empty()) return (*shared_done)(std::nullopt);
      const bool sent =
          link_.Send(RedisCommand({"GET", name}) + RedisCommand({"PTTL", name}), 2,
                     [counts = counts_, shared_done](std::span<const RedisReply> replies) {
                       (*shared_done)(FoundIn(replies, *counts));
                     });
      if (sent) return;
    }
    ++counts_->skipped;
    (*shared_done)(std::nullopt);
  }

  void Put(const CacheKey& key, std::string value, Duration ttl) override {
    if (!link_.is_up()) return;
    const std::string name = NameOf(key);
    if (name.empty()) return;
    const auto time = std::chrono::duration_cast<milliseconds>(
        JitteredTtl(options_.ttl.value_or(ttl), key.local));
    const std::string px = std::to_string(std::max<int64_t>(1, time.count()));
    const bool sent = value.size() <= options_.link.most_value &&
                      link_.Send(RedisCommand({"SET", name, value, "PX", px}), 1,
                                 [counts = counts_](std::span<const RedisReply> replies) {
                                   counts->refused += replies.empty() || IsError(replies[0]);
                                 });
    if (!sent) ++counts_->refused;
  }

  // Others go on with what they share; this process looks under other names.
  void Clear() override {
    const Digest128 word = RandomSecret();
    std::lock_guard lock(mutex_);
    epoch_ = fmt::format("{:016x}:", word.low);
  }

  CacheStats stats() const override {
    return {.hits = counts_->hits,
            .misses = counts_->misses,
            .skipped = counts_->skipped,
            .failures = link_.failures(),
            .refused = counts_->refused};
  }

 private:
  struct Counts {
    std::atomic<uint64_t> hits{0}, misses{0}, skipped{0}, refused{0};
  };

  static bool IsError(const RedisReply& reply) { return reply.kind == RedisReply::Kind::kError; }

  static std::optional<Found> FoundIn(std::span<const RedisReply> replies, Counts& counts) {
    const bool found = replies.size() == 2 && replies[0].kind == RedisReply::Kind::kText;
    ++(found ? counts.hits : counts.misses);
    if (!found) return std::nullopt;
    return Found{replies[0].text, milliseconds(std::max<int64_t>(0, replies[1].number))};
  }

  std::string NameOf(const CacheKey& key) const {
    const std::string shared = key.shared ? key.shared() : std::string();
    if (shared.empty()) return {};
    std::lock_guard lock(mutex_);
    return options_.prefix + epoch_ + Hex(shared);
  }

  const RedisOptions options_;
  const std::shared_ptr<Counts> counts_ = std::make_shared<Counts>();
  mutable std::mutex mutex_;
  std::string epoch_;  // guarded by mutex_
  RedisLink link_;
};

template <typename T>
Result<T> ParseNumber(std::string_view what, std::string_view text, T most) {
  T number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error == std::errc() && end == text.data() + text.size() && number >= 0 && number <= most)
    return number;
  return InvalidArgument("{} is '{}', expected 0 to {}", what, text, most);
}

Status ParseOption(std::string_view option, RedisOptions& options) {
  const size_t equals = std::min(option.find('='), option.size());
  const std::string_view name = option.substr(0, equals);
  const std::string_view value = option.substr(std::min(equals + 1, option.size()));
  if (name == "prefix") return options.prefix = value, Status();
  if (name == "max_value") {
    MINIM_TRY(options.link.most_value, ParseByteCount(value));
    return {};
  }
  if (name != "ttl" && name != "deadline")
    return InvalidArgument("unknown option '{}'; there are deadline, ttl, prefix and max_value",
                           name);
  MINIM_TRY(const Duration time, ParseDuration(value));
  if (time <= Duration::zero()) return InvalidArgument("{} is {}, expected above 0", name, value);
  if (name == "ttl") {
    options.ttl = time;
  } else {
    options.link.deadline = time;
  }
  return {};
}

// "host:port", "host", "[::1]:port".
Status ParseAddress(std::string_view text, RedisLinkOptions& link) {
  if (text.find('@') != text.npos)
    return InvalidArgument(
        "a user and a password are not supported; let the server be reached by "
        "those only who may");
  const size_t bracket = text.starts_with('[') ? text.find(']') : size_t{0};
  if (bracket == text.npos) return InvalidArgument("'{}' has no closing bracket", text);
  const size_t colon = text.find(':', bracket);
  const std::string_view host = text.substr(0, colon);
  if (!host.empty()) link.host = host.starts_with('[') ? host.substr(1, bracket - 1) : host;
  if (colon == text.npos) return {};
  MINIM_TRY(const int port, ParseNumber<int>("the port", text.substr(colon + 1), 65535));
  link.port = static_cast<uint16_t>(port);
  return {};
}

Result<RedisOptions> ParseUrl(std::string_view url) {
  RedisOptions options;
  const size_t query = std::min(url.find('?'), url.size());
  const std::string_view place = url.substr(0, query);
  const size_t slash = std::min(place.find('/'), place.size());
  MINIM_TRY(ParseAddress(place.substr(0, slash), options.link));
  if (slash + 1 < place.size()) {
    MINIM_TRY(options.link.database,
              ParseNumber<int>("the database", place.substr(slash + 1), 1 << 20));
  }
  for (std::string_view left = url.substr(std::min(query + 1, url.size())); !left.empty();) {
    const size_t end = std::min(left.find('&'), left.size());
    MINIM_TRY(ParseOption(left.substr(0, end), options));
    left.remove_prefix(std::min(end + 1, left.size()));
  }
  return options;
}

}  // namespace

Result<std::unique_ptr<PredictionCache>> OpenRedisCache(std::string_view url, NowFunction now) {
  auto options = ParseUrl(url);
  if (!options.ok())
    return InvalidArgument("cache redis://{}: {}; expected {}", url, options.status().message(),
                           kForm);
  return std::unique_ptr<PredictionCache>(
      std::make_unique<RedisCache>(*std::move(options), std::move(now)));
}

}  // namespace minim::serve
