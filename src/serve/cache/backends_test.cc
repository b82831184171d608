// The contract every cache backend keeps; the suite runs on each row of the table.
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "serve/cache/prediction_cache.h"

namespace minim::serve {
namespace {

using std::chrono::seconds;

class CacheContract : public testing::TestWithParam<CacheBackend> {
 protected:
  void SetUp() override {
    auto cache = GetParam().open("?bytes=1MiB", [this] { return start_ + elapsed_.load(); });
    ASSERT_TRUE(cache.ok()) << cache.status().message();
    cache_ = std::move(cache).value();
  }
  static Digest128 KeyOf(uint64_t n) {
    return {n * 0x9e3779b97f4a7c15ull, (n + 1) * 0xd1b54a32d192ed03ull};
  }
  PredictionCache& cache() { return *cache_; }
  std::optional<std::string> Get(uint64_t n) { return *cache().Get(KeyOf(n)); }

  std::atomic<Duration> elapsed_{Duration::zero()};

 private:
  TimePoint start_ = Clock::now();
  std::unique_ptr<PredictionCache> cache_;
};

TEST_P(CacheContract, MissIsNotAnError) {
  ASSERT_TRUE(cache().Get(KeyOf(1)).ok());
  EXPECT_FALSE(Get(1).has_value());
}

TEST_P(CacheContract, ReturnsWhatWasPut) {
  const std::string value("a\0b", 3);
  ASSERT_TRUE(cache().Put(KeyOf(1), value, seconds(300)).ok());
  EXPECT_EQ(Get(1), value);
  ASSERT_TRUE(cache().Put(KeyOf(1), "second", seconds(300)).ok());
  EXPECT_EQ(Get(1), "second");
  EXPECT_EQ(cache().stats().entries, 1u);
  EXPECT_FALSE(Get(2).has_value());
}

TEST_P(CacheContract, ForgetsAfterTheTtlWithJitter) {
  int gone_early = 0;
  for (uint64_t n = 0; n < 100; ++n) ASSERT_TRUE(cache().Put(KeyOf(n), "v", seconds(300)).ok());
  elapsed_ = seconds(269);
  for (uint64_t n = 0; n < 100; ++n) EXPECT_TRUE(Get(n).has_value()) << n;
  elapsed_ = seconds(300);
  for (uint64_t n = 0; n < 100; ++n) gone_early += !Get(n).has_value();
  EXPECT_GT(gone_early, 10);  // jitter spreads them on both sides of the TTL
  EXPECT_LT(gone_early, 90);
  elapsed_ = seconds(331);
  for (uint64_t n = 0; n < 100; ++n) EXPECT_FALSE(Get(n).has_value()) << n;
}

TEST_P(CacheContract, StaysWithinItsBudget) {
  for (uint64_t n = 0; n < 4000; ++n)
    ASSERT_TRUE(cache().Put(KeyOf(n), std::string(1000, 'x'), seconds(300)).ok());
  EXPECT_LE(cache().stats().bytes, 1u << 20);
  EXPECT_GT(cache().stats().bytes, 1u << 19);
  EXPECT_GT(cache().stats().evictions, 2000u);
}

TEST_P(CacheContract, DropsWhatCanNeverFit) {
  ASSERT_TRUE(cache().Put(KeyOf(1), "small", seconds(300)).ok());
  ASSERT_TRUE(cache().Put(KeyOf(2), std::string(2 << 20, 'x'), seconds(300)).ok());
  EXPECT_FALSE(Get(2).has_value());
  EXPECT_TRUE(Get(1).has_value());
}

TEST_P(CacheContract, ClearForgetsEverything) {
  ASSERT_TRUE(cache().Put(KeyOf(1), "v", seconds(300)).ok());
  cache().Clear();
  EXPECT_FALSE(Get(1).has_value());
  EXPECT_EQ(cache().stats().bytes, 0u);
}

TEST_P(CacheContract, ThreadsMayMeet) {
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < 4; ++t) {
    threads.emplace_back([this, t] {
      for (uint64_t n = 0; n < 500; ++n) {
        EXPECT_TRUE(cache().Put(KeyOf(n), std::to_string(n), seconds(300)).ok());
        const auto value = cache().Get(KeyOf((n * 7 + t) % 500));
        EXPECT_TRUE(value.ok());
        if (value->has_value()) {
          EXPECT_EQ(**value, std::to_string((n * 7 + t) % 500));
        }
      }
    });
  }
  for (auto& thread : threads) thread.join();
}

INSTANTIATE_TEST_SUITE_P(All, CacheContract,
                         testing::ValuesIn(CacheBackends().begin(), CacheBackends().end()),
                         [](const auto& info) { return std::string(info.param.scheme); });

TEST(CacheBackendsTest, UnknownSchemesAndSizesAreExplained) {
  const auto unknown = OpenCache("disk://x", Clock::now);
  EXPECT_NE(unknown.status().message().find("memory://"), std::string::npos);
  EXPECT_FALSE(OpenCache("memory", Clock::now).ok());
  EXPECT_FALSE(OpenCache("memory://?bytes=lots", Clock::now).ok());
  EXPECT_FALSE(OpenCache("memory://?size=1MiB", Clock::now).ok());
  EXPECT_TRUE(OpenCache("memory://", Clock::now).ok());
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
