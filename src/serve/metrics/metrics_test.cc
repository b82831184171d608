#include "serve/metrics/metrics.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

namespace minim::serve {
namespace {

std::string Sample(Metrics& metrics) {
  const auto model = metrics.ForModel("m \"quoted\"\\", "1", "fp32");
  model->CountRequest(200);
  model->CountRequest(400);
  model->Observe(Phase::kQueue, std::chrono::microseconds(5));
  model->Observe(Phase::kTotal, std::chrono::milliseconds(2));
  model->ObserveRun(
      {.rows = 8, .max_rows = 32, .reason = ReleaseReason::kFull, .cold = true, .ok = false});
  model->CountFallback("failed");
  metrics.CountDemotion("m", "1", "int8", false);
  const auto stats = std::make_shared<ModelStats>();
  stats->success.Add(std::chrono::milliseconds(3));
  model->CountCache(true);
  metrics.CountOther(404);
  const VersionReadings versions[] = {{"m", "1", stats, 4}};
  return metrics.Text({.cache = {.bytes = 17, .raw_bytes = 8, .stored_bytes = 6}, .ready = 1},
                      versions);
}

TEST(MetricsTest, CountsByModelAndStatus) {
  Metrics metrics;
  const std::string text = Sample(metrics);
  for (const char* expected :
       {"minim_cache_bytes 17\n", "minim_ready 1\n", "code=\"400\"", "code=\"404\"",
        "minim_batch_rows_bucket", "result=\"hit\"", "stage=\"queue\"", "reason=\"failed\"",
        "change=\"demoted\"", "minim_batch_releases_total{model=", "reason=\"full\"",
        "minim_cache_stored_ratio 0.75\n",
        "nv_inference_request_success{model=\"m\",version=\"1\"} 1\n",
        "nv_inference_request_duration_us{model=\"m\",version=\"1\"} 3000\n",
        "nv_inference_pending_request_count{model=\"m\",version=\"1\"} 4\n"})
    EXPECT_NE(text.find(expected), std::string::npos) << expected << "\n" << text;
}

// But for the names that are Triton's: its dashboards look for them.
TEST(MetricsTest, PromtoolFindsNothingToComplainAbout) {
  if (std::system("command -v promtool >/dev/null 2>&1") != 0)
    GTEST_SKIP() << "promtool is not installed (Debian package prometheus)";
  Metrics metrics;
  const std::string path = testing::TempDir() + "minim_metrics_test.txt";
  std::ofstream(path) << Sample(metrics);
  const int code =
      std::system(("promtool check metrics < " + path + " > " + path + ".out 2>&1").c_str());
  EXPECT_NE(WEXITSTATUS(code), 1) << "that is no exposition";
  std::ifstream complaints(path + ".out");
  for (std::string line; std::getline(complaints, line);)
    EXPECT_TRUE(line.starts_with("nv_")) << line;
}

TEST(MetricsTest, ReadingsAreOfOneTier) {
  Metrics metrics;
  const auto model = metrics.ForModel("m", "1", "fp32");
  EXPECT_EQ(metrics.ForModel("m", "1", "fp32"), model) << "a reload goes on counting";
  EXPECT_NE(metrics.ForModel("m", "1", "int8"), model);
  model->CountRequest(200);
  model->CountRequest(429);
  model->ObserveRun({.rows = 8, .max_rows = 32});
  model->ObserveRun({.rows = 16, .max_rows = 16});
  model->CountCache(false);
  EXPECT_EQ(model->requests(), 2u);
  EXPECT_EQ(model->failures(), 1u);
  EXPECT_EQ(model->rows(), 24u);
  EXPECT_DOUBLE_EQ(model->batch_efficiency(), 0.5);
  EXPECT_EQ(model->misses(), 1u);
}

TEST(MetricsTest, CountersOutliveTheServer) {
  auto metrics = std::make_unique<Metrics>();
  const auto model = metrics->ForModel("m", "1", "fp32");
  metrics.reset();
  model->CountRequest(503);
}

}  // namespace
}  // namespace minim::serve
