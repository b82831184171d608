// The public API on real models, beside the same server's HTTP port.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <thread>

#include "minim/server.h"
#include "serve/testing/model_folder.h"
#include "serve/testing/raw_client.h"

namespace minim {
namespace {

using serve::BodyOf;
using serve::RawClient;
using serve::StatusOf;
using std::chrono::milliseconds;
using testing::HasSubstr;

class InProcessTest : public testing::Test {
 protected:
  void SetUp() override {
    models_.Add("bell", R"(graph "g"(x: f32[N,3]) -> (y, s) {
      s = Mul(x, x)
      t = Neg(s)
      y = Exp(t)
    })");
    models_.Add("half", R"(graph "g"(x: f16[N,2]) -> (y) { y = Add(x, x) })");
    options_.path = models_.path().string();
  }
  void Start() {
    auto server = Server::Start(options_);
    ASSERT_TRUE(server.ok()) << server.status().message();
    server_ = std::move(*server);
  }
  static PredictRequest Bell(float a, float b = 0.25f) {
    return {.model = "bell", .inputs = {{"x", Tensor::From<float>({1, 3}, {a, b, 0.5f})}}};
  }
  Result<Prediction> Ask(const PredictRequest& request) { return server_->Predict(request).get(); }
  std::string Refusal(const PredictRequest& request) {
    const auto answer = Ask(request);
    return answer.ok() ? "answered" : answer.status().message();
  }
  // Nothing runs before `rows` rows wait.
  void WaitForFullBatches(int rows) {
    options_.settings = {{"batching.policy", "fixed-size"},
                         {"batching.max_batch", rows},
                         {"batching.max_wait_ms", 60000}};
  }

  const serve::ModelFolder models_{"in_process"};
  ServerOptions options_;
  std::unique_ptr<Server> server_;
};

TEST_F(InProcessTest, AnswersAreThoseOfHttpBitForBit) {
  options_.http_port = 0;
  options_.cache = "";
  Start();
  RawClient client(server_->http_port());
  for (int i = 0; i < 20; ++i) {
    const PredictRequest request = Bell(0.37f * static_cast<float>(i), -0.01f);
    const auto answer = Ask(request);
    ASSERT_TRUE(answer.ok()) << answer.status().message();
    const Tensor& x = request.inputs[0].tensor;
    const std::string head =
        R"({"parameters":{"binary_data_output":true},"inputs":[{"name":"x","shape":[1,3],)"
        R"("datatype":"FP32","parameters":{"binary_data_size":12}}]})";
    const std::string body = head + std::string(static_cast<const char*>(x.data()), x.bytes());
    client.Send(
        fmt::format("POST /v2/models/bell/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {}"
                    "\r\nInference-Header-Content-Length: {}\r\n\r\n{}",
                    body.size(), head.size(), body));
    const std::string wire = BodyOf(client.ReadResponse());
    ASSERT_EQ(answer->outputs.size(), 2u);
    std::string bytes;
    for (const auto& [name, tensor] : answer->outputs)
      bytes.append(static_cast<const char*>(tensor.data()), tensor.bytes());
    ASSERT_GE(wire.size(), bytes.size());
    EXPECT_EQ(wire.substr(wire.size() - bytes.size()), bytes);
  }
  EXPECT_EQ(server_->Stats().total.predictions, 40u) << "one path for every wire";
}

TEST_F(InProcessTest, ConcurrentPredictionsShareRuns) {
  constexpr int kThreads = 4, kEach = 8, kRows = 8;
  WaitForFullBatches(kRows);
  Start();
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      std::vector<std::future<Result<Prediction>>> answers;
      for (int i = 0; i < kEach; ++i)
        answers.push_back(server_->Predict(Bell(static_cast<float>(i), static_cast<float>(t))));
      for (int i = 0; i < kEach; ++i) {
        const auto answer = answers[static_cast<size_t>(i)].get();
        ASSERT_TRUE(answer.ok()) << answer.status().message();
        EXPECT_EQ(answer->outputs[1].tensor.as<float>()[0], static_cast<float>(i * i));
        EXPECT_EQ(answer->outputs[1].tensor.as<float>()[1], static_cast<float>(t * t));
        EXPECT_EQ(answer->batch_size, kRows);
        EXPECT_EQ(answer->optimizations, "batch");
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  const ServerStats stats = server_->Stats();
  EXPECT_EQ(stats.total.rows, kThreads * kEach);
  EXPECT_EQ(stats.total.runs, kThreads * kEach / kRows);
}

TEST_F(InProcessTest, WhatTheCallerWritesLaterChangesNoAnswer) {
  Start();
  PredictRequest request = Bell(2);
  auto first = Ask(request);
  ASSERT_TRUE(first.ok()) << first.status().message();
  EXPECT_FALSE(first->cache_hit);
  first->outputs[1].tensor.as<float>()[0] = -1;
  const auto second = Ask(request);
  EXPECT_TRUE(second->cache_hit);
  EXPECT_EQ(second->outputs[1].tensor.as<float>()[0], 4);
  request.use_cache = false;
  request.outputs = {"s"};
  const auto third = Ask(request);
  EXPECT_FALSE(third->cache_hit);
  EXPECT_EQ(third->outputs.size(), 1u);
  WaitForFullBatches(1000);
  Start();
  request.timeout = milliseconds(60000);
  auto waiting = server_->Predict(request);
  request.inputs[0].tensor.as<float>()[0] = 99;
  ASSERT_TRUE(server_->Configure("bell", {{"batching.policy", "work-conserving"}}).ok());
  EXPECT_EQ(waiting.get()->outputs[0].tensor.as<float>()[0], 4);
}

TEST_F(InProcessTest, EveryDatatypeComesBack) {
  Start();
  const auto answer = Ask(
      {.model = "half", .inputs = {{"x", Tensor::From<Half>({1, 2}, {Half(1.5f), Half(-2.f)})}}});
  ASSERT_TRUE(answer.ok()) << answer.status().message();
  EXPECT_EQ(static_cast<float>(answer->outputs[0].tensor.as<Half>()[0]), 3);
  EXPECT_EQ(answer->version, "1");
  EXPECT_EQ(answer->tier, "fp32");
}

TEST_F(InProcessTest, MistakesAreNamed) {
  Start();
  PredictRequest request = Bell(1);
  request.model = "absent";
  EXPECT_THAT(Refusal(request), HasSubstr("model 'absent': not loaded"));
  request = Bell(1);
  request.version = "7";
  EXPECT_THAT(Refusal(request), HasSubstr("version '7' is not there"));
  request = Bell(1);
  request.tier = "int3";
  EXPECT_THAT(Refusal(request), HasSubstr("int3"));
  request = Bell(1);
  request.outputs = {"z"};
  EXPECT_THAT(Refusal(request), HasSubstr("output 'z'"));
  request.inputs[0] = {"x", Tensor::From<float>({1, 2}, {1, 2})};
  EXPECT_THAT(Refusal(request), HasSubstr("input 'x': shape [1,2], expected [N,3]"));
  request.inputs[0] = {"x", Tensor(DType::f32, {0, 3})};
  EXPECT_THAT(Refusal(request), HasSubstr("output 'z'"));
  request.outputs = {};
  EXPECT_THAT(Refusal(request), HasSubstr("has no rows"));
  request.inputs[0] = {"x", Tensor(DType::i64, {1, 3})};
  EXPECT_THAT(Refusal(request), HasSubstr("input 'x': datatype INT64, expected FP32"));
  request.inputs[0] = {"x", Tensor()};
  EXPECT_THAT(Refusal(request), HasSubstr("input 'x': missing"));
  EXPECT_EQ(server_->Describe("absent").status().code(), StatusCode::kNotFound);
  EXPECT_EQ(server_->Load("../bell").code(), StatusCode::kInvalidArgument);
}

TEST_F(InProcessTest, OptionsAreChecked) {
  const auto refusal = [&] { return Server::Start(options_).status().message(); };
  options_.settings = {{"policy", "adaptive"}};
  EXPECT_THAT(refusal(), HasSubstr("expected section.key"));
  options_.settings = {{"batching.polly", "adaptive"}};
  EXPECT_THAT(refusal(), HasSubstr("[batching] polly: unknown key"));
  options_.settings = {{"batching.max_batch", "many"}};
  EXPECT_THAT(refusal(), HasSubstr("[batching] max_batch: found"));
  options_.settings = {};
  options_.cache = "disk://";
  EXPECT_THAT(refusal(), HasSubstr("memory"));
  options_.cache = "";
  options_.path += "/absent";
  EXPECT_THAT(refusal(), HasSubstr("absent"));
}

TEST_F(InProcessTest, PortsAreOpenIfTheyAreWanted) {
  Start();
  EXPECT_EQ(server_->http_port(), 0);
  EXPECT_EQ(server_->grpc_port(), 0);
  options_.http_port = 0;
#ifndef __SANITIZE_THREAD__  // it does not see gRPC's locks
  options_.grpc_port = 0;
#endif
  Start();
  EXPECT_EQ(server_->grpc_port() != 0, options_.grpc_port.has_value());
  RawClient client(server_->http_port());
  client.Send("GET /v2/health/ready HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_EQ(StatusOf(client.ReadResponse()), 200);
  options_.http_port = server_->http_port();
  const auto second = Server::Start(options_);
  EXPECT_EQ(second.status().code(), StatusCode::kUnavailable);
  EXPECT_THAT(second.status().message(), HasSubstr(std::to_string(*options_.http_port)));
}

TEST_F(InProcessTest, SettingsChangeWhileItRuns) {
  WaitForFullBatches(2);
  Start();
  auto waiting = server_->Predict(Bell(1));
  const Status wrong = server_->Configure(
      "bell", {{"batching.policy", "work-conserving"}, {"serving.instances", 2}});
  EXPECT_THAT(wrong.message(), HasSubstr("cannot change while the model is loaded"));
  EXPECT_EQ(server_->Configure("absent", {}).code(), StatusCode::kNotFound);
  const Status changed = server_->Configure(
      "bell", {{"batching.policy", "adaptive"}, {"batching.latency_target_ms", 5.5}});
  ASSERT_TRUE(changed.ok()) << changed.message();
  EXPECT_TRUE(waiting.get().ok());
}

TEST_F(InProcessTest, ModelsComeAndGo) {
  options_.loading = ModelLoading::kByRequest;
  options_.load_models = {"half"};
  Start();
  EXPECT_FALSE(Ask(Bell(1)).ok());
  ASSERT_TRUE(server_->Load("bell").ok());
  EXPECT_TRUE(Ask(Bell(1)).ok());
  const auto signature = server_->Describe("bell");
  ASSERT_TRUE(signature.ok()) << signature.status().message();
  EXPECT_EQ(signature->inputs[0].name, "x");
  EXPECT_EQ(signature->outputs.size(), 2u);
  EXPECT_EQ(signature->tiers, std::vector<std::string>{"fp32"});
  ASSERT_TRUE(server_->Unload("bell").ok());
  EXPECT_EQ(Ask(Bell(1)).status().code(), StatusCode::kNotFound);
  const auto models = server_->Models();
  ASSERT_EQ(models.size(), 2u);
  EXPECT_EQ(models[0].name, "half");
  EXPECT_TRUE(models[0].ready);
  EXPECT_FALSE(models[1].ready);
  EXPECT_EQ(server_->Load("absent").code(), StatusCode::kNotFound);
}

TEST_F(InProcessTest, StatsAddUp) {
  Start();
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(Ask(Bell(1)).ok());
  PredictRequest wrong = Bell(1);
  wrong.outputs = {"z"};
  EXPECT_FALSE(Ask(wrong).ok());
  const ServerStats stats = server_->Stats();
  EXPECT_EQ(stats.total.predictions, 4u);
  EXPECT_EQ(stats.total.failures, 1u);
  EXPECT_DOUBLE_EQ(stats.total.hit_rate, 2.0 / 3);
  EXPECT_GT(stats.total.p50.count(), 0);
  EXPECT_LE(stats.total.p50, stats.total.p95);
  EXPECT_LE(stats.total.p95, stats.total.p99);
  ASSERT_EQ(stats.tiers.size(), 2u);
  EXPECT_EQ(stats.tiers[0].model, "bell");
  EXPECT_EQ(stats.tiers[0].stats.runs, 1u);
  EXPECT_EQ(stats.tiers[1].stats.predictions, 0u);
}

TEST_F(InProcessTest, DrainRefusesNewOnesAndWaitsForTheRest) {
  WaitForFullBatches(2);
  Start();
  auto waiting = server_->Predict(Bell(1));
  options_.drain_limit = milliseconds(1);
  auto second = server_->Predict(Bell(2));
  EXPECT_TRUE(server_->Drain());
  EXPECT_EQ(Ask(Bell(3)).status().code(), StatusCode::kUnavailable);
  EXPECT_TRUE(waiting.get().ok());
  EXPECT_TRUE(second.get().ok());
  Start();
  auto held = server_->Predict(Bell(1));
  EXPECT_FALSE(server_->Drain());
  server_.reset();
  EXPECT_EQ(held.get().status().code(), StatusCode::kUnavailable);
}

TEST_F(InProcessTest, TheDestructorAnswersWhatIsInFlight) {
  for (const bool waits : {true, false}) {
    if (waits) WaitForFullBatches(1000);
    Start();
    std::vector<std::future<Result<Prediction>>> answers;
    for (int i = 0; i < 100; ++i) answers.push_back(server_->Predict(Bell(static_cast<float>(i))));
    server_.reset();
    for (auto& answer : answers) {
      ASSERT_EQ(answer.wait_for(milliseconds(0)), std::future_status::ready);
      const auto got = answer.get();
      EXPECT_TRUE(got.ok() ? !waits : got.status().code() == StatusCode::kUnavailable)
          << got.status().message();
    }
    options_.settings = {};
  }
}

}  // namespace
}  // namespace minim
