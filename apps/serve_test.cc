// `minim serve` as a process: start, answer, drain on SIGTERM, complain in one line.
#include <gtest/gtest.h>

#include <cstdlib>
#include <nlohmann/json.hpp>

#include "apps/http_line.h"
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

TEST_F(ServeCommandTest, IsDrivenAndWatchedFromOutside) {
  Child server({"serve", root_.string(), "--port", "0", "--slow-log-ms", "0"});
  const std::string line = server.LineWith("listening on ");
  const size_t at = line.find("http://");
  const std::string url = line.substr(at, line.find(' ', at) - at);
  Child load({"load", url, "--model", "double", "--rate", "200", "--requests", "40", "--json"});
  const auto report = nlohmann::json::parse(load.LineWith("{"), nullptr, false);
  EXPECT_EQ(report["requests"], 40);
  EXPECT_EQ(report["failed"], 0);
  EXPECT_GE(report["latency_us"]["max"], report["latency_us"]["p50"]);
  EXPECT_EQ(load.ExitCode(), 0);
  EXPECT_NE(server.LineWith("slow: model 'double'"), "");
  for (const char* verb : {"stats", "top"}) {
    std::vector<std::string> arguments = {verb, url};
    if (verb == std::string("top")) arguments.insert(arguments.end(), {"--times", "1"});
    Child watch(arguments);
    EXPECT_NE(watch.LineWith("double/1 fp32").find(" 40 "), std::string::npos);
    EXPECT_EQ(watch.ExitCode(), 0);
  }
  for (const std::vector<std::string>& wrong :
       std::vector<std::vector<std::string>>{{"load", url, "--model", "absent"},
                                             {"load", url, "--model", "double", "--seconds", "0"},
                                             {"stats", "http://127.0.0.1:1"},
                                             {"stats", "nowhere"},
                                             {"top", url, "--interval", "0"}}) {
    Child child(wrong);
    EXPECT_NE(child.LineWith("minim: "), "") << wrong[1];
    EXPECT_NE(child.ExitCode(), 0);
  }
}

// y = x · w, with weights to hold.
Graph SomeWeights() {
  Graph graph = ParseText(R"(graph "g"(x: f32[N,64], w: f32[64,64]) -> (y) {
                               y: f32[N,64] = MatMul(x, w) })")
                    .value();
  graph.constants[graph.inputs[1]] = Tensor(DType::f32, {64, 64});
  graph.inputs.pop_back();
  return graph;
}

// The address it listens on.
std::string UrlOf(Child& server) {
  const std::string line = server.LineWith("listening on ");
  const size_t at = line.find("http://");
  return at == std::string::npos ? "" : line.substr(at, line.find(' ', at) - at);
}

nlohmann::json Ask(const std::string& url, const std::string& target) {
  const auto answer = Fetch(url, target);
  return answer.ok() ? nlohmann::json::parse(*answer, nullptr, false) : nlohmann::json();
}

TEST_F(ServeCommandTest, AMemoryBudgetHoldsTheModelsThatAreUsed) {
  for (const char* name : {"a", "b", "c", "d"}) {
    const Path folder = root_ / "models" / name / "1";
    std::filesystem::create_directories(folder);
    ASSERT_TRUE(ExportOnnx(SomeWeights(), folder / "model.onnx").ok());
  }
  std::vector<std::string> serve = {"serve", (root_ / "models").string(), "--port", "0"};
  uint64_t one = 0;
  {
    Child server(serve);
    const auto memory = Ask(UrlOf(server), "/v2/memory");
    ASSERT_TRUE(memory.is_object());
    one = memory["models"][0]["bytes"];
    ASSERT_GT(one, 0u);
    EXPECT_EQ(memory["model_bytes"], 4 * one);
  }
  serve.insert(serve.end(), {"--memory-budget", std::to_string(2 * one + one / 2), "--history",
                             (root_ / "history.json").string()});
  for (const bool again : {false, true}) {
    Child server(serve);
    const std::string url = UrlOf(server);
    const auto before = Ask(url, "/v2/memory");
    EXPECT_EQ(before["models"][0]["state"], again ? "available" : "loaded");
    EXPECT_EQ(before["models"][3]["state"], again ? "loaded" : "available");
    for (const char* model : {"d", "c", "d"}) {
      const LoadOptions load{.url = url, .model = model, .concurrency = 2, .requests = 10};
      const std::vector<Tensor> rows = {Tensor(DType::f32, {1, 64})};
      const auto report = RunLoad(load, rows);
      ASSERT_TRUE(report.ok()) << report.status().message();
      EXPECT_EQ(report->failed, 0) << report->first_failure;
    }
    const auto memory = Ask(url, "/v2/memory");
    EXPECT_LE(memory["model_bytes"], memory["budget_bytes"]);
    EXPECT_EQ(memory["models"][3]["state"], "loaded");
    if (again) {
      EXPECT_EQ(memory["models"][3]["misses"], 0);
    }
    const auto stats = Ask(url, "/v2/models/d/stats");
    EXPECT_EQ(stats["model_stats"][0]["minim"][0]["cold_runs"], 0);
    Child explain({"explain", url});
    const std::string text = explain.Rest();
    EXPECT_NE(text.find("available"), std::string::npos) << text;
    EXPECT_NE(text.find(", cache "), std::string::npos) << text;
    EXPECT_EQ(explain.ExitCode(), 0);
    server.Signal(SIGTERM);
    EXPECT_EQ(server.ExitCode(), 0);
  }
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
      {"serve", repo, "--memory-budget", "lots"},
      {"serve", repo, "--memory-budget", "0"},
      {"serve", repo, "--memory-budget", "1GiB", "--model-control", "poll"},
      {"serve", repo, "--memory-threshold", "0"},
      {"serve", repo, "--cleanup-seconds", "0"},
      {"serve", repo, "--history", "/absent/history.json"},
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
