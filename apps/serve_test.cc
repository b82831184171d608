// `minim serve` as a process: start, answer, drain on SIGTERM, complain in one line.
#include <gtest/gtest.h>

#include <cstdlib>

#include "apps/load_client.h"
#include "apps/testing/child.h"
#include "graph/text.h"
#include "onnx/onnx.h"

namespace minim {
namespace {

class ServeCommandTest : public testing::Test {
 protected:
  void SetUp() override {
    root_ = Path(testing::TempDir()) / ("minim_serve_" + std::to_string(::getpid()));
    std::filesystem::create_directories(root_ / "double/1");
    const auto graph = ParseText(R"(graph "g"(x: f32[N,2]) -> (y) { y: f32[N,2] = Add(x, x) })");
    ASSERT_TRUE(graph.ok()) << graph.status().message();
    const Status status = ExportOnnx(*graph, root_ / "double/1/model.onnx");
    ASSERT_TRUE(status.ok()) << status.message();
  }
  void TearDown() override { std::filesystem::remove_all(root_); }
  Path root_;
};

TEST_F(ServeCommandTest, ServesUntilSigterm) {
  Child server({"serve", root_.string(), "--port", "0", "--bf16", "--drain-seconds", "5", "--cache",
                "memory://?bytes=1MiB,redis://127.0.0.1:1/0"});
  const std::string line = server.LineWith("listening on ");
  ASSERT_FALSE(line.empty());
  const size_t url = line.find("http://");
  LoadOptions load{.url = line.substr(url, line.find(' ', url) - url),
                   .model = "double",
                   .concurrency = 4,
                   .requests = 50};
  const std::vector<Tensor> rows = {Tensor::From<float>({1, 2}, {1, 2}),
                                    Tensor::From<float>({1, 2}, {3, 2})};
  for (const char* tier : {"fp32", "bf16"}) {
    load.tier = tier;
    const auto report = RunLoad(load, rows);
    ASSERT_TRUE(report.ok()) << report.status().message();
    EXPECT_EQ(report->failed, 0) << report->first_failure;
    EXPECT_EQ(report->answers[0], 1);
    EXPECT_EQ(report->answers[1], 0);
    EXPECT_EQ(report->tier, tier);
  }
  server.Signal(SIGTERM);
  EXPECT_NE(server.LineWith("draining"), "");
  EXPECT_EQ(server.ExitCode(), 0);
}

TEST_F(ServeCommandTest, MistakesGetOneLineAndExitCodeTwo) {
  const std::string repo = root_.string();
  const std::vector<std::vector<std::string>> wrong = {
      {"serve"},
      {"serve", repo + "/absent"},
      {"serve", repo, "--batching", "magic"},
      {"serve", repo, "--port", "99999"},
      {"serve", repo, "--cache-bytes", "lots"},
      {"serve", repo, "--cache", "redis://h:99999/0"},
      {"serve", repo, "--cache", "none", "--cache-bytes", "1MiB"},
      {"serve", repo, "--instances", "0"},
      {"serve", repo, "--address", "nowhere"},
      {"serve", repo, "--min-batch", "99"},
      {"serve", repo, "--window-ms", "-1"},
  };
  for (const auto& arguments : wrong) {
    Child child(arguments);
    const std::string line = child.LineWith("minim: ");
    EXPECT_FALSE(line.empty()) << arguments.back();
    EXPECT_EQ(child.LineWith(""), "") << "one line only";
    EXPECT_EQ(child.ExitCode(), 2) << line;
  }
}

}  // namespace
}  // namespace minim
