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
  model->ObserveStages(std::chrono::microseconds(5), std::chrono::milliseconds(1), {},
                       std::chrono::milliseconds(2));
  model->ObserveRun(8, true, false);
  model->CountCache(true);
  metrics.CountOther(404);
  return metrics.Text({.cache = {.bytes = 17, .raw_bytes = 8, .stored_bytes = 6}, .ready = 1});
}

TEST(MetricsTest, CountsByModelAndStatus) {
  Metrics metrics;
  const std::string text = Sample(metrics);
  for (const char* expected : {"minim_cache_bytes 17\n", "minim_cache_stored_ratio 0.75\n",
                               "minim_ready 1\n", "code=\"400\"", "code=\"404\"",
                               "minim_batch_rows_bucket", "result=\"hit\"", "stage=\"infer\""})
    EXPECT_NE(text.find(expected), std::string::npos) << expected << "\n" << text;
}

TEST(MetricsTest, PromtoolFindsNothingToComplainAbout) {
  if (std::system("command -v promtool >/dev/null 2>&1") != 0)
    GTEST_SKIP() << "promtool is not installed (Debian package prometheus)";
  Metrics metrics;
  const std::string path = testing::TempDir() + "minim_metrics_test.txt";
  std::ofstream(path) << Sample(metrics);
  EXPECT_EQ(std::system(("promtool check metrics < " + path).c_str()), 0);
}

TEST(MetricsTest, CountersOutliveTheServer) {
  auto metrics = std::make_unique<Metrics>();
  const auto model = metrics->ForModel("m", "1", "fp32");
  metrics.reset();
  model->CountRequest(503);
}

}  // namespace
}  // namespace minim::serve
