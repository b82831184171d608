#include "apps/load_client.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

#include "apps/http_line.h"
#include "serve/server.h"
#include "serve/testing/fake_model.h"

namespace minim {
namespace {

class LoadClientTest : public testing::Test {
 protected:
  void SetUp() override {
    file_ = Path(testing::TempDir()) / ("minim_load_" + std::to_string(::getpid())) / "m 1.onnx";
    std::filesystem::create_directories(file_.parent_path());
    std::ofstream(file_) << "x";
    serve::ServerOptions options{.path = file_};
    options.serving.policy = "time-window";
    options.serving.bounds = {
        .min_batch = 1, .max_batch = 16, .window = std::chrono::milliseconds(2)};
    auto server = serve::Server::Start(options, [](const serve::TierSource&) {
      return Result<std::shared_ptr<serve::Model>>(std::make_shared<serve::FakeModel>());
    });
    ASSERT_TRUE(server.ok()) << server.status().message();
    server_ = std::move(*server);
    load_.url = "http://127.0.0.1:" + std::to_string(server_->port());
    load_.model = "m 1";
  }
  void TearDown() override { std::filesystem::remove_all(file_.parent_path()); }
  // Row i has its largest value at i % 2.
  std::vector<Tensor> Rows(int count) {
    std::vector<Tensor> rows;
    for (int i = 0; i < count; ++i) {
      const float size = static_cast<float>(i + 1);
      rows.push_back(Tensor::From<float>({1, 2}, {i % 2 ? -size : size, i % 2 ? size : -size}));
    }
    return rows;
  }

  Path file_;
  std::unique_ptr<serve::Server> server_;
  LoadOptions load_;
};

TEST_F(LoadClientTest, KeepsTheOrderWhateverTheConcurrency) {
  load_.requests = 200;
  for (const int concurrency : {1, 16}) {
    load_.concurrency = concurrency;
    const auto report = RunLoad(load_, Rows(40));
    ASSERT_TRUE(report.ok()) << report.status().message();
    EXPECT_EQ(report->failed, 0) << report->first_failure;
    ASSERT_EQ(report->answers.size(), 200u);
    for (size_t i = 0; i < 200; ++i) EXPECT_EQ(report->answers[i], static_cast<int64_t>(i % 2));
    EXPECT_EQ(report->tier, "fp32");
    EXPECT_GT(report->p99_us, 0);
    EXPECT_GE(report->p99_us, report->p50_us);
    if (concurrency > 1) {
      EXPECT_GT(report->mean_batch_rows, 1.5);
    }
  }
}

TEST_F(LoadClientTest, RepeatedRequestsHitTheCache) {
  load_.requests = 100;
  load_.use_cache = true;
  const auto report = RunLoad(load_, Rows(1));
  ASSERT_TRUE(report.ok());
  EXPECT_EQ(report->cache_hits, 99);
}

TEST_F(LoadClientTest, RunsForADuration) {
  load_.duration = std::chrono::milliseconds(100);
  load_.concurrency = 4;
  load_.use_batching = false;
  const auto report = RunLoad(load_, Rows(3));
  ASSERT_TRUE(report.ok());
  EXPECT_GE(report->seconds, 0.1);
  EXPECT_GT(report->requests_per_second, 10);
}

TEST_F(LoadClientTest, AtARateLatencyCountsFromWhenItWasDue) {
  load_.requests = 30;
  load_.rate = 1000;
  load_.concurrency = 1;
  load_.use_batching = false;
  const auto report = RunLoad(load_, {});  // random rows, by the model's metadata
  ASSERT_TRUE(report.ok()) << report.status().message();
  EXPECT_EQ(report->failed, 0) << report->first_failure;
  EXPECT_GE(report->seconds, 0.029);
}

TEST_F(LoadClientTest, ArrivesAsAskedAndCountsWhatIsInTime) {
  load_.duration = std::chrono::milliseconds(200);
  load_.rate = 500;
  load_.concurrency = 64;
  for (const char* kind : {"poisson", "burst", "diurnal"}) {
    load_.arrivals = kind;
    load_.target = std::chrono::seconds(20);
    const auto report = RunLoad(load_, {});
    ASSERT_TRUE(report.ok()) << report.status().message();
    EXPECT_EQ(report->statuses, std::vector<int>(100, 200)) << kind;
    EXPECT_EQ(report->in_time, 100) << kind;
    load_.target = std::chrono::microseconds(1);
    EXPECT_EQ(RunLoad(load_, {})->in_time, 0) << kind;
  }
  load_.arrivals = "sometimes";
  const auto wrong = RunLoad(load_, {});
  ASSERT_FALSE(wrong.ok());
  EXPECT_NE(wrong.status().message().find("poisson burst diurnal"), std::string::npos);
}

TEST_F(LoadClientTest, FetchesAndSaysWhatCameInstead) {
  EXPECT_NE(Fetch(load_.url, "/v2")->find("minim"), std::string::npos);
  EXPECT_EQ(Fetch(load_.url, "/absent").status().code(), StatusCode::kNotFound);
  EXPECT_EQ(Fetch("http://127.0.0.1:1", "/v2").status().code(), StatusCode::kUnavailable);
}

TEST_F(LoadClientTest, FailuresAreCountedAndExplained) {
  load_.requests = 4;
  const auto rows = std::vector<Tensor>{Tensor::From<float>({1, 2}, {1, 2}),
                                        Tensor::From<float>({1, 3}, {1, 2, 3})};
  const auto report = RunLoad(load_, rows);
  ASSERT_TRUE(report.ok());
  EXPECT_EQ(report->failed, 2);
  EXPECT_EQ(report->refused, 0);
  EXPECT_EQ(report->statuses, (std::vector<int>{200, 400, 200, 400}));
  EXPECT_EQ(report->answered_us().size(), 2u);
  EXPECT_NE(report->first_failure.find("shape"), std::string::npos) << report->first_failure;
  EXPECT_EQ(report->answers, (std::vector<int64_t>{1, -1, 1, -1}));
}

TEST_F(LoadClientTest, WrongOptionsAreExplained) {
  EXPECT_FALSE(RunLoad(load_, Rows(1)).ok()) << "neither requests nor duration";
  load_.requests = 1;
  load_.rate = -1;
  EXPECT_FALSE(RunLoad(load_, Rows(1)).ok());
  load_.rate = 0;
  load_.model = "absent";
  EXPECT_EQ(RunLoad(load_, Rows(1)).status().code(), StatusCode::kNotFound);
  load_.url = "ftp://x";
  EXPECT_EQ(RunLoad(load_, Rows(1)).status().code(), StatusCode::kInvalidArgument);
  load_.url = "http://127.0.0.1:1";
  EXPECT_EQ(RunLoad(load_, Rows(1)).status().code(), StatusCode::kUnavailable);
}

}  // namespace
}  // namespace minim
