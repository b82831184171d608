// The whole server over real sockets, with a model that doubles its input.
#include "serve/server.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <future>
#include <nlohmann/json.hpp>
#include <thread>

#include "serve/testing/fake_model.h"
#include "serve/testing/raw_client.h"

namespace minim::serve {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using std::chrono::milliseconds;

class ServerTest : public testing::Test {
 protected:
  void SetUp() override {
    root_ = Path(testing::TempDir()) / ("minim_server_" + std::to_string(::getpid()));
    fs::remove_all(root_);
    Write("double/1/model.onnx", "2");
    Write("double/1/variants/int8.onnx", "3");
    Write("other model/4/model.onnx", "5");
    options_.path = root_;
    options_.control = ModelControl::kExplicit;
    options_.load_models = {"*"};
    options_.http->max_body_bytes = 1 << 20;
  }
  void TearDown() override {
    server_.reset();
    fs::remove_all(root_);
  }
  void Write(const std::string& path, const std::string& text) {
    fs::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text;
  }
  // The file's text is the factor; the last model loaded is kept for the test to look at.
  void Start() {
    auto server =
        Server::Start(options_, [this](const TierSource& source) -> Result<std::shared_ptr<Model>> {
          MINIM_TRY(const std::string text, ReadFile(source.path));
          if (text == "bad") return DataLoss("{}: not a model", source.path.string());
          auto model = std::make_shared<FakeModel>(2, std::stof(text));
          std::lock_guard lock(mutex_);
          models_[text] = model;
          return std::shared_ptr<Model>(model);
        });
    ASSERT_TRUE(server.ok()) << server.status().message();
    server_ = std::move(*server);
  }
  FakeModel& model(const std::string& factor) {
    std::lock_guard lock(mutex_);
    return *models_.at(factor);
  }

  static std::string Wire(const std::string& method, const std::string& target,
                          const std::string& body = "", const std::string& fields = "") {
    return method + " " + target + " HTTP/1.1\r\nHost: x\r\n" + fields +
           (body.empty() ? "" : "Content-Length: " + std::to_string(body.size()) + "\r\n") +
           "\r\n" + body;
  }
  std::string Ask(const std::string& method, const std::string& target,
                  const std::string& body = "", const std::string& fields = "") {
    RawClient client(server_->port());
    EXPECT_TRUE(client.Send(Wire(method, target, body, fields)));
    return client.ReadResponse();
  }
  json AskJson(const std::string& method, const std::string& target, const std::string& body = "") {
    return json::parse(BodyOf(Ask(method, target, body)), nullptr, false);
  }
  static std::string Body(float a, float b, const std::string& more = "") {
    return R"({"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[)" +
           std::to_string(a) + "," + std::to_string(b) + "]}]" + more + "}";
  }

  Path root_;
  ServerOptions options_;
  std::mutex mutex_;
  std::map<std::string, std::shared_ptr<FakeModel>> models_;  // guarded by mutex_
  std::unique_ptr<Server> server_;
};

TEST_F(ServerTest, Describes) {
  Start();
  EXPECT_EQ(AskJson("GET", "/v2/health/live"), json::parse(R"({"live":true})"));
  EXPECT_EQ(AskJson("GET", "/v2/health/ready"), json::parse(R"({"ready":true})"));
  EXPECT_EQ(AskJson("GET", "/v2")["name"], "minim");
  EXPECT_EQ(AskJson("GET", "/v2/models/double/ready"),
            json::parse(R"({"name":"double","ready":true})"));
  const json metadata = AskJson("GET", "/v2/models/double");
  EXPECT_EQ(metadata["inputs"], json::parse(R"([{"name":"x","datatype":"FP32","shape":[-1,2]}])"));
  EXPECT_EQ(metadata["versions"], json::parse(R"(["1"])"));
  const json config = AskJson("GET", "/v2/models/other%20model/config");
  EXPECT_EQ(config["max_batch_size"], 50);
  EXPECT_EQ(config["input"][0]["dims"], json::parse("[2]"));
  EXPECT_EQ(config["output"][1]["data_type"], "TYPE_INT64");
  EXPECT_EQ(AskJson("POST", "/v2/repository/index").size(), 2u);
  EXPECT_EQ(StatusOf(Ask("GET", "/v2/models/absent")), 404);
  EXPECT_EQ(StatusOf(Ask("GET", "/v2/models/double/versions/9")), 404);
  EXPECT_EQ(StatusOf(Ask("GET", "/v2/models/double/infer")), 405);
}

TEST_F(ServerTest, AnswersJsonAndSaysHow) {
  Start();
  const json answer = AskJson("POST", "/v2/models/double/infer", Body(1.5, -2, R"(,"id":"q")"));
  EXPECT_EQ(answer["model_name"], "double");
  EXPECT_EQ(answer["id"], "q");
  EXPECT_EQ(answer["outputs"][0],
            json::parse(R"({"name":"y","datatype":"FP32","shape":[1,2],"data":[3,-4]})"))
      << answer;
  EXPECT_EQ(answer["outputs"][1]["name"], "row");
  EXPECT_EQ(answer["parameters"]["tier"], "fp32");
  EXPECT_EQ(answer["parameters"]["batch_size"], 1);
  EXPECT_EQ(answer["parameters"]["cache_hit"], false);
  const json int8 =
      AskJson("POST", "/v2/models/double/versions/1/infer",
              Body(1, 1, R"(,"parameters":{"tier":"int8"},"outputs":[{"name":"y"}])"));
  EXPECT_EQ(int8["outputs"][0]["data"], json::parse("[3,3]"));
  EXPECT_EQ(int8["outputs"].size(), 1u);
}

TEST_F(ServerTest, WhatCameTooLateToBeReadIsRefusedOnceThatIsCommon) {
  Start();
  ASSERT_EQ(StatusOf(Ask("POST", "/v2/models/double/settings",
                         R"({"batching":{"policy":"adaptive","latency_target_ms":500}})")),
            200);
  ASSERT_EQ(StatusOf(Ask("POST", "/v2/models/double/infer", Body(1, 1))), 200);
  const auto inference = server_->inference();
  const auto check = [&](TimePoint since) { return inference->CheckInTime("double", "", since); };
  const auto infer = [&](TimePoint since) {
    InferCall call{.model = "double", .start = since};
    call.request.use_cache = false;
    call.request.inputs.push_back({"x", Tensor(DType::f32, {1, 2})});
    std::promise<StatusCode> code;
    inference->Infer(std::move(call), [&](const InferReply& reply) {
      code.set_value(reply.outputs.status().code());
    });
    return code.get_future().get();
  };
  const TimePoint late = Clock::now() - std::chrono::seconds(2);  // four targets: not given up yet
  int answered = 0, refused = 0;
  while (refused < 1000 && check(late).ok()) {
    // It is refused behind another that has not quite ended.
    ++(infer(late) == StatusCode::kOk ? answered : refused);
    std::this_thread::sleep_for(milliseconds(1));
  }
  EXPECT_GT(answered, 2);
  EXPECT_EQ(check(late).code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(infer(late), StatusCode::kResourceExhausted);
  EXPECT_TRUE(check(Clock::now()).ok());
  EXPECT_TRUE(inference->CheckInTime("absent", "", late).ok()) << "the request's own way says that";
  EXPECT_EQ(StatusOf(Ask("POST", "/v2/models/double/infer", Body(1, 1))), 200);
  const std::string text = Ask("GET", "/metrics");
  EXPECT_NE(text.find("minim_requests_total{code=\"429\",model=\"double\""), std::string::npos)
      << text;
}

TEST_F(ServerTest, AnswersBinary) {
  Start();
  const std::string head =
      R"({"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","parameters":{"binary_data_size":8}}],)"
      R"("outputs":[{"name":"y","parameters":{"binary_data":true}},{"name":"row"}]})";
  const float values[2] = {4, 5};
  const std::string body = head + std::string(reinterpret_cast<const char*>(values), 8);
  const std::string response =
      Ask("POST", "/v2/models/double/infer", body,
          "Inference-Header-Content-Length: " + std::to_string(head.size()) + "\r\n");
  ASSERT_EQ(StatusOf(response), 200) << response;
  float answers[2];
  const std::string payload = BodyOf(response);
  std::memcpy(answers, payload.data() + payload.size() - 8, 8);
  EXPECT_EQ(answers[0], 8);
  EXPECT_EQ(answers[1], 10);
}

TEST_F(ServerTest, RepeatedRequestsComeFromTheCache) {
  Start();
  const std::string body = Body(7, 8);
  EXPECT_EQ(AskJson("POST", "/v2/models/double/infer", body)["parameters"]["cache_hit"], false);
  const json hit = AskJson("POST", "/v2/models/double/infer", body);
  EXPECT_EQ(hit["parameters"]["cache_hit"], true);
  EXPECT_EQ(hit["outputs"][0]["data"], json::parse("[14,16]"));
  EXPECT_EQ(model("2").runs_, 1);
  AskJson("POST", "/v2/models/double/infer", Body(7, 8, R"(,"parameters":{"use_cache":false})"));
  EXPECT_EQ(model("2").runs_, 2);
  AskJson("POST", "/v2/models/double/infer", Body(7, 8, R"(,"parameters":{"tier":"int8"})"));
  EXPECT_EQ(model("3").runs_, 1) << "another tier is another answer";
  ASSERT_EQ(StatusOf(Ask("POST", "/v2/repository/models/double/load")), 200);
  EXPECT_EQ(AskJson("POST", "/v2/models/double/infer", body)["parameters"]["cache_hit"], false)
      << "a reload invalidates";
}

TEST_F(ServerTest, IdenticalRequestsInFlightRunOnce) {
  Start();
  FakeModel& held = model("2");
  held.Block(true);
  std::vector<std::future<std::string>> answers;
  for (int i = 0; i < 5; ++i)
    answers.push_back(std::async(
        std::launch::async, [&] { return Ask("POST", "/v2/models/double/infer", Body(1, 1)); }));
  held.WaitUntilEntered(1);
  std::this_thread::sleep_for(milliseconds(100));
  held.Block(false);
  for (auto& answer : answers) EXPECT_EQ(StatusOf(answer.get()), 200);
  EXPECT_EQ(held.runs_, 1);
}

TEST_F(ServerTest, ConcurrentRequestsShareARun) {
  options_.serving.policy = "time-window";
  options_.serving.bounds = {.min_batch = 1, .max_batch = 8, .window = milliseconds(300)};
  Start();
  std::vector<std::future<std::string>> answers;
  for (int i = 0; i < 4; ++i)
    answers.push_back(std::async(std::launch::async, [&, i] {
      return Ask("POST", "/v2/models/double/infer", Body(static_cast<float>(i), 1));
    }));
  for (int i = 0; i < 4; ++i) {
    const json answer = json::parse(BodyOf(answers[i].get()));
    EXPECT_EQ(answer["outputs"][0]["data"][0], 2 * i);
    EXPECT_GE(answer["parameters"]["batch_size"], 2);
  }
  EXPECT_LT(model("2").runs_, 4);
}

TEST_F(ServerTest, TimeoutsAndFailuresAreAnswered) {
  Start();
  EXPECT_EQ(StatusOf(Ask("POST", "/v2/models/double/infer", Body(FakeModel::kPoison, 1))), 400);
  model("2").Block(true);
  auto busy = std::async(std::launch::async,
                         [&] { return Ask("POST", "/v2/models/double/infer", Body(1, 2)); });
  model("2").WaitUntilEntered(2);
  EXPECT_EQ(StatusOf(Ask("POST", "/v2/models/double/infer",
                         Body(3, 4, R"(,"parameters":{"timeout":20000})"))),
            408);
  model("2").Block(false);
  EXPECT_EQ(StatusOf(busy.get()), 200);
}

TEST_F(ServerTest, LoadsUnloadsAndSaysWhyNot) {
  Start();
  EXPECT_EQ(StatusOf(Ask("POST", "/v2/repository/models/double/unload")), 200);
  EXPECT_EQ(StatusOf(Ask("POST", "/v2/models/double/infer", Body(1, 2))), 404);
  Write("double/1/model.onnx", "bad");
  const std::string failed = Ask("POST", "/v2/repository/models/double/load");
  EXPECT_EQ(StatusOf(failed), 500);
  EXPECT_NE(failed.find("not a model"), std::string::npos);
  EXPECT_NE(AskJson("POST", "/v2/repository/index").dump().find("not a model"), std::string::npos);
  Write("double/1/model.onnx", "9");
  EXPECT_EQ(StatusOf(Ask("POST", "/v2/repository/models/double/load")), 200);
  EXPECT_EQ(AskJson("POST", "/v2/models/double/infer", Body(1, 2))["outputs"][0]["data"][0], 9);
}

TEST_F(ServerTest, StatisticsAndMetricsAddUp) {
  Start();
  for (int i = 0; i < 3; ++i) Ask("POST", "/v2/models/double/infer", Body(1, 2));
  Ask("POST", "/v2/models/double/infer", "{}");
  const json stats = AskJson("GET", "/v2/models/double/stats")["model_stats"][0];
  EXPECT_EQ(stats["inference_count"], 1);
  EXPECT_EQ(stats["execution_count"], 1);
  EXPECT_EQ(stats["inference_stats"]["success"]["count"], 3);
  EXPECT_EQ(stats["inference_stats"]["cache_hit"]["count"], 2);
  EXPECT_EQ(stats["inference_stats"]["cache_miss"]["count"], 1);
  EXPECT_EQ(AskJson("GET", "/v2/models/stats")["model_stats"].size(), 2u);
  const std::string metrics = BodyOf(Ask("GET", "/metrics"));
  for (const char* line :
       {"minim_requests_total{code=\"200\",model=\"double\",tier=\"fp32\",version=\"1\"} 3",
        "code=\"400\",model=\"double\"", "minim_cache_entries 1", "minim_ready 1"})
    EXPECT_NE(metrics.find(line), std::string::npos) << line << "\n" << metrics;
}

TEST_F(ServerTest, DrainFailsReadinessFirstAndFinishesWhatIsInProgress) {
  options_.grace = milliseconds(300);
  Start();
  model("2").Block(true);
  auto busy = std::async(std::launch::async,
                         [&] { return Ask("POST", "/v2/models/double/infer", Body(1, 2)); });
  model("2").WaitUntilEntered(1);
  auto drained = std::async(std::launch::async, [&] { return server_->Drain(); });
  for (int i = 0; i < 20 && StatusOf(Ask("GET", "/v2/health/ready")) == 200; ++i)
    std::this_thread::sleep_for(milliseconds(5));
  EXPECT_EQ(StatusOf(Ask("GET", "/v2/health/ready")), 503);
  EXPECT_EQ(StatusOf(Ask("GET", "/v2/health/live")), 200) << "the grace period still serves";
  std::this_thread::sleep_for(milliseconds(350));
  EXPECT_FALSE(RawClient(server_->port()).connected());
  model("2").Block(false);
  EXPECT_EQ(StatusOf(busy.get()), 200);
  EXPECT_TRUE(drained.get());
}

TEST_F(ServerTest, StoppingWithRequestsInProgressIsClean) {
  Start();
  model("2").Block(true);
  RawClient client(server_->port());
  client.Send(Wire("POST", "/v2/models/double/infer", Body(1, 2)));
  model("2").WaitUntilEntered(1);
  std::shared_ptr<FakeModel> held;
  {
    std::lock_guard lock(mutex_);
    held = models_.at("2");
  }
  auto stopped = std::async(std::launch::async, [&] { server_.reset(); });
  std::this_thread::sleep_for(milliseconds(50));
  held->Block(false);
  stopped.get();
}

TEST_F(ServerTest, WrongOptionsAreExplained) {
  const auto start = [this] {
    return Server::Start(options_,
                         [](const TierSource&) -> Result<std::shared_ptr<Model>> {
                           return std::shared_ptr<Model>(std::make_shared<FakeModel>());
                         })
        .status()
        .message();
  };
  options_.serving.policy = "magic";
  EXPECT_NE(start().find("time-window"), std::string::npos);
  options_.serving.policy = "adaptive";
  options_.cache = "memory://?bytes=x";
  EXPECT_NE(start().find("bytes"), std::string::npos);
  options_.cache = "";
  options_.serving.instances = 0;
  EXPECT_NE(start().find("instances"), std::string::npos);
  options_.serving.instances = 1;
  options_.serving.bounds.min_batch = 99;
  EXPECT_NE(start().find("min_batch: found 99"), std::string::npos);
  options_.path = root_ / "absent";
  options_.serving.bounds.min_batch = 1;
  EXPECT_NE(start().find("absent"), std::string::npos);
}

}  // namespace
}  // namespace minim::serve
