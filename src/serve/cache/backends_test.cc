// The contract every cache backend keeps; the suite runs on each row of the table.
#include <gtest/gtest.h>
#include <malloc.h>

#include <cmath>
#include <future>
#include <map>
#include <random>
#include <thread>

#include "serve/cache/prediction_cache.h"
#include "serve/testing/redis_server.h"

namespace minim::serve {
namespace {

using std::chrono::seconds;

CacheKey KeyOf(uint64_t n) {
  return {.local = {n * 0x9e3779b97f4a7c15ull, (n + 1) * 0xd1b54a32d192ed03ull},
          .shared = [n] { return "key " + std::to_string(n); }};
}

// What Get says in the end.
std::optional<PredictionCache::Found> Ask(PredictionCache& cache, const CacheKey& key) {
  std::promise<std::optional<PredictionCache::Found>> promise;
  cache.Get(key, [&](auto found) { promise.set_value(std::move(found)); });
  return promise.get_future().get();
}

class CacheContract : public testing::TestWithParam<CacheBackend> {
 protected:
  void SetUp() override {
    std::string url = "?bytes=1MiB";
    if (GetParam().elsewhere) {
      MINIM_NEEDS_REDIS();
      redis_.emplace();
      url = redis_->Url().substr(8);
    }
    auto cache = GetParam().open(url, Clock::now);
    ASSERT_TRUE(cache.ok()) << cache.status().message();
    cache_ = std::move(cache).value();
    // One that is elsewhere is there when it keeps something.
    while (!Get(~0ull)) {
      cache_->Put(KeyOf(~0ull), "there", seconds(300));
      std::this_thread::yield();
    }
  }
  PredictionCache& cache() { return *cache_; }
  std::optional<std::string> Get(uint64_t n) {
    auto found = Ask(cache(), KeyOf(n));
    return found ? std::optional(found->value) : std::nullopt;
  }

 private:
  std::optional<RedisServer> redis_;
  std::unique_ptr<PredictionCache> cache_;
};

TEST_P(CacheContract, MissIsNotAnError) { EXPECT_FALSE(Get(1).has_value()); }

TEST_P(CacheContract, ReturnsWhatWasPut) {
  const std::string value("a\0b", 3);
  cache().Put(KeyOf(1), value, seconds(300));
  EXPECT_EQ(Get(1), value);
  cache().Put(KeyOf(1), "second", seconds(300));
  EXPECT_EQ(Get(1), "second");
  EXPECT_FALSE(Get(2).has_value());
  EXPECT_GE(cache().stats().hits, 2u);
  EXPECT_GE(cache().stats().misses, 1u);
}

TEST_P(CacheContract, SaysHowLongAnAnswerLives) {
  for (uint64_t n = 0; n < 20; ++n) cache().Put(KeyOf(n), "v", seconds(300));
  int shorter = 0;
  for (uint64_t n = 0; n < 20; ++n) {
    const auto found = Ask(cache(), KeyOf(n));
    ASSERT_TRUE(found.has_value()) << n;
    EXPECT_GT(found->ttl, seconds(200));
    EXPECT_LE(found->ttl, seconds(330));
    shorter += found->ttl < seconds(298);
  }
  EXPECT_GT(shorter, 2);  // not all of them expire together
  EXPECT_LT(shorter, 18);
}

TEST_P(CacheContract, ForgetsAfterTheTtl) {
  cache().Put(KeyOf(1), "v", std::chrono::milliseconds(20));
  cache().Put(KeyOf(2), "v", seconds(300));
  while (Get(1)) std::this_thread::yield();
  EXPECT_TRUE(Get(2).has_value());
}

TEST_P(CacheContract, DropsWhatCanNeverFit) {
  cache().Put(KeyOf(1), "small", seconds(300));
  cache().Put(KeyOf(2), std::string(2 << 20, 'x'), seconds(300));
  EXPECT_FALSE(Get(2).has_value());
  EXPECT_TRUE(Get(1).has_value());
}

TEST_P(CacheContract, ClearForgetsEverything) {
  cache().Put(KeyOf(1), "v", seconds(300));
  cache().Clear();
  EXPECT_FALSE(Get(1).has_value());
  EXPECT_EQ(cache().stats().bytes, 0u);
  cache().Put(KeyOf(1), "again", seconds(300));
  EXPECT_EQ(Get(1), "again");
}

TEST_P(CacheContract, ThreadsMayMeet) {
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < 4; ++t) {
    threads.emplace_back([this, t] {
      for (uint64_t n = 0; n < 300; ++n) {
        cache().Put(KeyOf(n), std::to_string(n), seconds(300));
        const auto value = Get((n * 7 + t) % 300);
        if (value) {
          EXPECT_EQ(*value, std::to_string((n * 7 + t) % 300));
        }
      }
    });
  }
  for (auto& thread : threads) thread.join();
}

INSTANTIATE_TEST_SUITE_P(All, CacheContract,
                         testing::ValuesIn(CacheBackends().begin(), CacheBackends().end()),
                         [](const auto& info) { return std::string(info.param.scheme); });

class MemoryCacheTest : public testing::Test {
 protected:
  void Open(const std::string& url) {
    cache_ = OpenCache(url, [this] { return start_ + elapsed_; }).value();
  }
  bool Has(uint64_t n) { return cache_->GetNow(KeyOf(n)).has_value(); }

  Duration elapsed_{0};
  const TimePoint start_ = Clock::now();
  std::unique_ptr<PredictionCache> cache_;
};

TEST_F(MemoryCacheTest, ForgetsAfterTheTtlWithJitter) {
  Open("memory://?bytes=1MiB");
  int gone_early = 0;
  for (uint64_t n = 0; n < 100; ++n) cache_->Put(KeyOf(n), "v", seconds(300));
  elapsed_ = seconds(269);
  for (uint64_t n = 0; n < 100; ++n) EXPECT_TRUE(Has(n)) << n;
  elapsed_ = seconds(300);
  for (uint64_t n = 0; n < 100; ++n) gone_early += !Has(n);
  EXPECT_GT(gone_early, 10);  // jitter spreads them on both sides of the TTL
  EXPECT_LT(gone_early, 90);
  elapsed_ = seconds(331);
  for (uint64_t n = 0; n < 100; ++n) EXPECT_FALSE(Has(n)) << n;
  EXPECT_EQ(cache_->stats().entries, 0u);
  cache_->Put(KeyOf(1), "anew", seconds(300));
  EXPECT_TRUE(Has(1));
}

TEST_F(MemoryCacheTest, StaysWithinItsBudget) {
  Open("memory://?bytes=1MiB");
  for (uint64_t n = 0; n < 4000; ++n) {
    cache_->Put(KeyOf(n), std::string(1000, 'x'), seconds(300));
    ASSERT_LE(cache_->stats().bytes, 1u << 20) << n;
  }
  EXPECT_GT(cache_->stats().bytes, 1u << 19);
  EXPECT_GT(cache_->stats().evictions, 2000u);
  for (uint64_t n = 0; n < 4000; ++n)  // of all sizes, and again and again
    cache_->Put(KeyOf(n % 50), std::string(n % 97 * 50, 'x'), seconds(300));
  EXPECT_LE(cache_->stats().bytes, 1u << 20);
}

// A model over random puts, gets and expiries: what is found is what was put last.
TEST_F(MemoryCacheTest, FindsNothingButWhatWasPut) {
  Open("memory://?bytes=300KiB");
  std::mt19937 random(1);
  std::map<uint64_t, std::string> put;
  for (int i = 0; i < 50000; ++i) {
    const uint64_t n = random() % 600;
    if (random() % 2 == 0) {
      put[n] = std::string(random() % 2000, static_cast<char>('a' + random() % 26));
      cache_->Put(KeyOf(n), put[n], seconds(1 + random() % 300));
    } else if (const auto value = cache_->GetNow(KeyOf(n))) {
      ASSERT_EQ(*value, put[n]);
    }
    elapsed_ += std::chrono::milliseconds(random() % 100);
  }
  EXPECT_GT(cache_->stats().hits, 1000u);
  EXPECT_GT(cache_->stats().evictions, 1000u);
}

// The bytes it states are those that the heap gave it.
TEST_F(MemoryCacheTest, HoldsMillionsOfEntriesInTheBytesItStates) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "a sanitizer's heap does not count";
#endif
  constexpr uint64_t kBudget = 128 << 20;
  const size_t before = ::mallinfo2().uordblks + ::mallinfo2().hblkhd;
  Open("memory://?bytes=128MiB");
  for (uint64_t n = 0; n < 1300000; ++n) cache_->Put(KeyOf(n), std::string(40, 'x'), seconds(300));
  const CacheStats stats = cache_->stats();
  const size_t held = ::mallinfo2().uordblks + ::mallinfo2().hblkhd - before;
  EXPECT_GT(stats.entries, 1000000u);
  EXPECT_LE(stats.bytes, kBudget);
  EXPECT_LE(static_cast<double>(held), 1.02 * static_cast<double>(stats.bytes));
}

// Draws from 1 to n with weights k^-s.
class Zipf {
 public:
  Zipf(size_t n, double s) {
    double sum = 0;
    for (size_t k = 1; k <= n; ++k) sums_.push_back(sum += std::pow(static_cast<double>(k), -s));
  }
  template <typename Random>
  uint64_t operator()(Random& random) const {
    const double at = std::uniform_real_distribution<double>(0, sums_.back())(random);
    return static_cast<uint64_t>(std::lower_bound(sums_.begin(), sums_.end(), at) - sums_.begin());
  }

 private:
  std::vector<double> sums_;
};

// 200 models, drawn by Zipf 1.1, each asked for one of 500 inputs by Zipf 1.6; room for a tenth of
// the 100,000 answers. Knowing the weights, one would hit 97.4 %.
TEST_F(MemoryCacheTest, TheHotTenthOfAZipfStreamHits) {
  constexpr uint64_t kAnswerBytes = 400, kEntryBytes = 470;
  Open(fmt::format("memory://?bytes={}", 10000 * kEntryBytes));
  const Zipf models(200, 1.1), inputs(500, 1.6);
  std::mt19937_64 random(42);
  constexpr int kRequests = 1000000;
  int hits = 0;
  for (int i = 0; i < kRequests; ++i) {
    const CacheKey key{.local = KeyOf(models(random) * 500 + inputs(random)).local};
    if (cache_->GetNow(key)) {
      ++hits;
    } else {
      cache_->Put(key, std::string(kAnswerBytes, 'x'), seconds(300));
    }
  }
  EXPECT_GT(static_cast<double>(hits) / kRequests, 0.95);
  RecordProperty("hit_rate_in_1000", hits / (kRequests / 1000));
  EXPECT_LE(cache_->stats().entries, 10000u);
}

// Answers that nobody asks for again do not push out those in use.
TEST_F(MemoryCacheTest, AScanLeavesWhatIsInUse) {
  Open("memory://?bytes=1MiB");
  const std::string value(1000, 'x');
  for (int round = 0; round < 3; ++round)
    for (uint64_t n = 0; n < 300; ++n)
      if (!Has(n)) cache_->Put(KeyOf(n), value, seconds(300));
  for (uint64_t n = 1000; n < 20000; ++n) cache_->Put(KeyOf(n), value, seconds(300));
  int left = 0;
  for (uint64_t n = 0; n < 300; ++n) left += Has(n);
  EXPECT_GT(left, 290);
}

TEST(CacheLevelsTest, TheFirstLearnsWhatTheSecondKnew) {
  MINIM_NEEDS_REDIS();
  const RedisServer redis;
  const std::string urls = "memory://?bytes=1MiB," + redis.Url();
  const auto writer = OpenCache(urls, Clock::now).value();
  const auto reader = OpenCache(urls, Clock::now).value();
  while (!Ask(*reader, KeyOf(1))) {
    writer->Put(KeyOf(1), "shared", seconds(300));
    std::this_thread::yield();
  }
  EXPECT_EQ(reader->GetNow(KeyOf(1)), "shared");
  const CacheStats before = reader->stats();
  EXPECT_EQ(before.entries, 1u);
  EXPECT_LE(Ask(*reader, KeyOf(1))->ttl, seconds(364));  // no second life
  // What is for this process alone stays in it.
  CacheKey own = KeyOf(2);
  own.shared = [] { return std::string(); };
  writer->Put(own, "own", seconds(300));
  EXPECT_EQ(Ask(*writer, own)->value, "own");
  EXPECT_FALSE(Ask(*reader, own).has_value());
}

TEST(CacheBackendsTest, UnknownSchemesAndSizesAreExplained) {
  const auto unknown = OpenCache("disk://x", Clock::now);
  EXPECT_NE(unknown.status().message().find("memory://"), std::string::npos);
  EXPECT_FALSE(OpenCache("memory", Clock::now).ok());
  EXPECT_FALSE(OpenCache("memory://?bytes=lots", Clock::now).ok());
  EXPECT_FALSE(OpenCache("memory://?size=1MiB", Clock::now).ok());
  EXPECT_TRUE(OpenCache("memory://", Clock::now).ok());
  for (const auto& [url, part] : std::vector<std::pair<std::string, std::string>>{
           {"redis://h:99999/0", "the port is '99999'"},
           {"redis://h:1/x", "the database is 'x'"},
           {"redis://h?dedline=5ms", "unknown option 'dedline'"},
           {"redis://h?deadline=5", "'5' is not a time"},
           {"redis://h?deadline=0ms", "deadline is 0ms, expected above 0"},
           {"redis://me:secret@h", "are not supported"},
           {"redis://[::1", "no closing bracket"},
           {"redis://h,memory://", "comes last"},
           {"memory://,", "no such backend"}}) {
    const auto cache = OpenCache(url, Clock::now);
    ASSERT_FALSE(cache.ok()) << url;
    EXPECT_NE(cache.status().message().find(part), std::string::npos) << cache.status().message();
  }
  EXPECT_TRUE(IsShared("memory://,redis://h"));
  EXPECT_FALSE(IsShared("memory://?bytes=1MiB"));
}

TEST(ParseDurationTest, Table) {
  EXPECT_EQ(*ParseDuration("5ms"), std::chrono::milliseconds(5));
  EXPECT_EQ(*ParseDuration("60s"), seconds(60));
  EXPECT_EQ(*ParseDuration("10m"), seconds(600));
  for (const char* bad : {"", "5", "-1s", "1.5s", "s", "99999999999999s"})
    EXPECT_FALSE(ParseDuration(bad).ok()) << bad;
}

TEST(ParseByteCountTest, Table) {
  EXPECT_EQ(*ParseByteCount("17"), 17u);
  EXPECT_EQ(*ParseByteCount("2KiB"), 2048u);
  EXPECT_EQ(*ParseByteCount("256MiB"), 256u << 20);
  for (const char* bad : {"", "-1", "1MB", "1.5GiB", "MiB", "99999999999999999999", "16777216GiB0"})
    EXPECT_FALSE(ParseByteCount(bad).ok()) << bad;
}

}  // namespace
}  // namespace minim::serve
