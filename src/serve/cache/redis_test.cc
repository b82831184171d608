// A Redis that is killed, frozen, slow, full, a liar or gone costs hits and nothing else.
#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <thread>

#include "serve/cache/prediction_cache.h"
#include "serve/testing/redis_server.h"

namespace minim::serve {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

CacheKey KeyOf(const std::string& name) {
  return {.local = {1, 2}, .shared = [name] { return name; }};
}

class RedisCacheTest : public testing::Test {
 protected:
  static std::unique_ptr<PredictionCache> Open(const std::string& url) {
    auto cache = OpenCache(url, Clock::now);
    EXPECT_TRUE(cache.ok()) << cache.status().message();
    return cache.ok() ? *std::move(cache) : nullptr;
  }
  static std::optional<std::string> Get(PredictionCache& cache, const std::string& name) {
    std::promise<std::optional<PredictionCache::Found>> promise;
    cache.Get(KeyOf(name), [&](auto found) { promise.set_value(std::move(found)); });
    const auto found = promise.get_future().get();
    return found ? std::optional(found->value) : std::nullopt;
  }
  // Until the cache keeps and finds it: when the server is there, sooner or later.
  static void PutForSure(PredictionCache& cache, const std::string& name) {
    while (Get(cache, name) != "value of " + name) {
      cache.Put(KeyOf(name), "value of " + name, seconds(300));
      std::this_thread::yield();
    }
  }
};

TEST_F(RedisCacheTest, ServersShareAnswersUnderAPrefix) {
  MINIM_NEEDS_REDIS();
  const RedisServer redis;
  const auto a = Open(redis.Url("deadline=10s&prefix=one:"));
  const auto b = Open(redis.Url("deadline=10s&prefix=one:"));
  const auto c = Open(redis.Url("deadline=10s&prefix=two:"));
  PutForSure(*a, "k");
  PutForSure(*b, "other");
  PutForSure(*c, "third");
  EXPECT_EQ(Get(*b, "k"), "value of k");
  EXPECT_FALSE(Get(*c, "k").has_value());
  EXPECT_EQ(redis.Ask({"GET", "one:6b"}).text, "value of k");
}

TEST_F(RedisCacheTest, TheUrlChoosesDatabaseAndTtl) {
  MINIM_NEEDS_REDIS();
  const RedisServer redis;
  const std::string host = "redis://127.0.0.1:" + std::to_string(redis.port());
  const auto cache = Open(host + "/3?deadline=10s&ttl=1000s");
  PutForSure(*cache, "k");
  EXPECT_EQ(redis.Ask({"EXISTS", "minim:6b"}).number, 0);  // of database 0
  std::promise<Duration> ttl;
  cache->Get(KeyOf("k"), [&](auto found) { ttl.set_value(found->ttl); });
  EXPECT_GT(ttl.get_future().get(), seconds(800));
}

TEST_F(RedisCacheTest, WithoutAServerNothingWaits) {
  const auto cache = Open("redis://127.0.0.1:1/0");  // where nobody listens
  for (int i = 0; i < 1000; ++i) {
    bool done = false;
    cache->Get(KeyOf("k"), [&](auto found) { done = !found; });
    EXPECT_TRUE(done);  // before Get returned
    cache->Put(KeyOf("k"), "v", seconds(1));
  }
  EXPECT_EQ(cache->stats().skipped, 1000u);
}

TEST_F(RedisCacheTest, AFrozenServerIsLeftAloneUntilItIsBack) {
  MINIM_NEEDS_REDIS();
  RedisServer redis;
  const auto cache = Open(redis.Url("deadline=200ms"));
  PutForSure(*cache, "k");
  redis.Freeze();
  EXPECT_FALSE(Get(*cache, "k").has_value());  // at the deadline
  const uint64_t skipped = cache->stats().skipped;
  for (int i = 0; i < 100; ++i) {
    bool done = false;
    cache->Get(KeyOf("k"), [&](auto) { done = true; });
    EXPECT_TRUE(done);  // nobody waits for a connection that does not greet
  }
  EXPECT_EQ(cache->stats().skipped, skipped + 100);
  EXPECT_GE(cache->stats().failures, 1u);
  redis.Thaw();
  PutForSure(*cache, "k");
}

TEST_F(RedisCacheTest, AKilledServerComesBackEmpty) {
  MINIM_NEEDS_REDIS();
  RedisServer redis;
  const auto cache = Open(redis.Url());
  PutForSure(*cache, "k");
  redis.Kill();
  EXPECT_FALSE(Get(*cache, "k").has_value());
  redis.Start();
  PutForSure(*cache, "j");
  EXPECT_FALSE(Get(*cache, "k").has_value());
}

TEST_F(RedisCacheTest, AFullServerKeepsWhatItHas) {
  MINIM_NEEDS_REDIS();
  const RedisServer redis({"--maxmemory", "3mb", "--maxmemory-policy", "noeviction"});
  const auto cache = Open(redis.Url());
  PutForSure(*cache, "first");
  for (int i = 0; cache->stats().refused == 0; ++i) {
    cache->Put(KeyOf("k" + std::to_string(i)), std::string(100000, 'x'), seconds(300));
    Get(*cache, "first");  // replies come in order
  }
  EXPECT_EQ(Get(*cache, "first"), "value of first");
  EXPECT_EQ(cache->stats().failures, 0u);
}

TEST_F(RedisCacheTest, ASlowServerMissesTheDeadlineAndIsGivenUp) {
  MINIM_NEEDS_REDIS();
  const RedisServer redis({"--enable-debug-command", "yes"});
  const auto cache = Open(redis.Url("deadline=200ms"));
  PutForSure(*cache, "k");
  std::thread slow([&] { redis.Ask({"DEBUG", "SLEEP", "1"}); });
  while (Get(*cache, "k")) std::this_thread::yield();
  EXPECT_GE(cache->stats().failures, 1u);
  slow.join();
  PutForSure(*cache, "k");
}

TEST_F(RedisCacheTest, ValuesAndRepliesBeyondTheLimitAreNotTaken) {
  MINIM_NEEDS_REDIS();
  const RedisServer redis;
  const auto small = Open(redis.Url("deadline=10s&max_value=1KiB"));
  const auto large = Open(redis.Url("deadline=10s&max_value=1MiB"));
  PutForSure(*small, "k");
  PutForSure(*large, "j");
  large->Put(KeyOf("big"), std::string(5000, 'x'), seconds(300));
  EXPECT_EQ(Get(*large, "big")->size(), 5000u);
  EXPECT_FALSE(Get(*small, "big").has_value());
  EXPECT_GE(small->stats().failures, 1u);
  small->Put(KeyOf("big2"), std::string(5000, 'x'), seconds(300));
  EXPECT_FALSE(Get(*large, "big2").has_value());
  PutForSure(*small, "k");
}

TEST_F(RedisCacheTest, ALiarIsGivenUp) {
  const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  ASSERT_EQ(::bind(listener, reinterpret_cast<sockaddr*>(&address), size), 0);
  ::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size);
  ASSERT_EQ(::listen(listener, 16), 0);
  const auto cache =
      Open(fmt::format("redis://127.0.0.1:{}/0?deadline=10s", ntohs(address.sin_port)));
  for (const std::string_view reply :
       {"HTTP/1.1 400 Bad Request\r\n", "*2147483647\r\n", "+OK\r\n-NOAUTH no\r\n"}) {
    const int fd = ::accept(listener, nullptr, nullptr);
    ::send(fd, reply.data(), reply.size(), MSG_NOSIGNAL);
    char rest[256];
    while (::recv(fd, rest, sizeof(rest), 0) > 0) {  // until it hangs up
    }
    ::close(fd);
  }
  EXPECT_FALSE(Get(*cache, "k").has_value());
  ::close(listener);
}

TEST_F(RedisCacheTest, UnderLoadARestartFailsNoLookUp) {
  MINIM_NEEDS_REDIS();
  RedisServer redis;
  const auto cache = Open(redis.Url("deadline=100ms"));
  PutForSure(*cache, "0");
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> asked{0}, answered{0}, wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&, t] {
      for (int i = t; !stop; ++i) {
        const std::string name = std::to_string(i % 50);
        ++asked;
        cache->Get(KeyOf(name), [&, name](auto found) {
          wrong += found && found->value != "value of " + name;
          ++answered;
        });
        cache->Put(KeyOf(name), "value of " + name, seconds(300));
        while (asked > answered + 1000) std::this_thread::yield();
      }
    });
  }
  for (int round = 0; round < 3; ++round) {
    redis.Kill();
    redis.Start();
    redis.Freeze();
    const uint64_t before = asked;
    while (asked < before + 5000) std::this_thread::yield();
    redis.Thaw();
  }
  stop = true;
  for (auto& thread : threads) thread.join();
  PutForSure(*cache, "end");
  while (answered < asked) std::this_thread::yield();
  EXPECT_EQ(wrong, 0u);
}

TEST_F(RedisCacheTest, WhoHoldsTheLastReferenceMayBeACallback) {
  MINIM_NEEDS_REDIS();
  const RedisServer redis;
  std::shared_ptr<PredictionCache> cache = Open(redis.Url());
  PutForSure(*cache, "k");
  PredictionCache* const raw = cache.get();
  std::promise<void> gone;
  std::promise<void> released;
  auto held = std::shared_ptr<void>(nullptr, [cache = std::move(cache), &gone](void*) mutable {
    cache.reset();
    gone.set_value();
  });
  raw->Get(KeyOf("k"),
           [held = std::move(held), wait = released.get_future().share()](auto) { wait.wait(); });
  released.set_value();
  gone.get_future().wait();
}

}  // namespace
}  // namespace minim::serve
