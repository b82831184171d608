// Tiers and rollouts on the running server: what is wrong with a variant or a version shows in the
// answers of one or a few requests, never in what clients get.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "serve/server.h"
#include "serve/testing/fake_model.h"
#include "serve/testing/raw_client.h"

namespace minim::serve {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using std::chrono::milliseconds;
using testing::HasSubstr;
using Fault = FakeModel::Fault;

class TiersTest : public testing::Test {
 protected:
  void SetUp() override {
    root_ = Path(testing::TempDir()) / ("minim_tiers_" + std::to_string(::getpid()));
    fs::remove_all(root_);
    Write("m/1/model.onnx", "fp32 one");
    Write("m/1/variants/int8.onnx", "int8 one");
    Write("m/1/report.json", R"({"variants":[{"name":"int8","verdict":"pass","agreement":1}]})");
    options_.path = root_;
    options_.cache = "";
    options_.log = [this](const std::string& line) {
      std::lock_guard lock(mutex_);
      log_ += line + "\n";
    };
    options_.control = ModelControl::kExplicit;
    options_.load_models = {"*"};
  }
  void TearDown() override {
    server_.reset();
    fs::remove_all(root_);
  }
  void Write(const std::string& path, const std::string& text) {
    fs::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text;
  }
  // Every model doubles its input; those in FP32 take longer, slow ones longer than those by more
  // than a shared processor can hide.
  void Start() {
    auto server =
        Server::Start(options_, [this](const TierSource& source) -> Result<std::shared_ptr<Model>> {
          MINIM_TRY(const std::string text, ReadFile(source.path));
          auto model = std::make_shared<FakeModel>(2, 2);
          if (text.starts_with("fp32")) model->run_time_ = std::chrono::microseconds(400);
          if (text.starts_with("slow")) model->run_time_ = std::chrono::microseconds(1600);
          std::lock_guard lock(mutex_);
          models_[source.portable_kernels ? "reference" : text] = model;
          return std::shared_ptr<Model>(model);
        });
    ASSERT_TRUE(server.ok()) << server.status().message();
    server_ = std::move(*server);
    client_.emplace(server_->port());
  }
  FakeModel& model(const std::string& text) {
    std::lock_guard lock(mutex_);
    return *models_.at(text);
  }
  std::string log() {
    std::lock_guard lock(mutex_);
    return log_;
  }
  json Ask(const std::string& method, const std::string& target, const std::string& body = "") {
    const std::string length =
        body.empty() ? "" : "Content-Length: " + std::to_string(body.size()) + "\r\n";
    EXPECT_TRUE(
        client_->Send(method + " " + target + " HTTP/1.1\r\nHost: x\r\n" + length + "\r\n" + body));
    return json::parse(BodyOf(client_->ReadResponse()), nullptr, false);
  }
  json Infer(const std::string& parameters = "{}") {
    return Ask("POST", "/v2/models/m/infer",
               R"({"parameters":)" + parameters +
                   R"(,"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,-3]}]})");
  }
  // The right answer, from whatever tier; returns the tier.
  std::string Right() {
    const json answer = Infer();
    EXPECT_EQ(answer["outputs"][0]["data"], json({2, -6})) << answer;
    return answer["parameters"].value("tier", "");
  }
  json Tier(const std::string& name) {
    const json tiers = Ask("GET", "/v2/models/m/tiers");
    for (const json& tier : tiers["tiers"])
      if (tier["tier"] == name) return tier;
    return tiers;
  }
  // Answers until the tier is in this state; how many that took.
  int RequestsUntil(const std::string& tier, const std::string& state, int most) {
    for (int i = 0; i < most; ++i) {
      if (Tier(tier)["state"] == state) return i;
      Infer();
    }
    return Tier(tier)["state"] == state ? most : most + 1;
  }

  Path root_;
  ServerOptions options_;
  std::mutex mutex_;
  std::string log_;                                           // guarded by mutex_
  std::map<std::string, std::shared_ptr<FakeModel>> models_;  // guarded by mutex_
  std::unique_ptr<Server> server_;
  std::optional<RawClient> client_;
};

TEST_F(TiersTest, TheFastestThatPassedServes) {
  Start();
  EXPECT_EQ(Right(), "int8");
  EXPECT_GT(Tier("int8")["speedup"].get<double>(), 1.1);
  EXPECT_EQ(Tier("fp32")["state"], "standby");
  EXPECT_EQ(Infer(R"({"tier":"fp32"})")["parameters"]["tier"], "fp32");
  EXPECT_EQ(Infer()["parameters"]["optimizations"], "int8");
}

TEST_F(TiersTest, WhatNobodyJudgedOrIsNotFasterDoesNotServe) {
  Write("m/1/variants/other.onnx", "other");
  Write("m/1/variants/slow.onnx", "slow");
  Write("m/1/report.json", R"({"variants":[{"name":"int8","verdict":"fail","reason":"lost 9 %"},
                               {"name":"slow","verdict":"pass"}]})");
  Start();
  EXPECT_EQ(Right(), "fp32");
  EXPECT_THAT(Tier("int8")["reason"], HasSubstr("lost 9 %"));
  EXPECT_THAT(Tier("other")["reason"], HasSubstr("run minim shrink"));
  EXPECT_THAT(Tier("slow")["reason"], HasSubstr("not faster here"));
}

TEST_F(TiersTest, AFailingTierCostsNobodyAnAnswer) {
  Start();
  model("int8 one").fault_ = Fault::kFail;
  const json first = Infer();
  EXPECT_EQ(first["outputs"][0]["data"], json({2, -6}));
  EXPECT_EQ(first["parameters"]["tier"], "fp32");
  EXPECT_EQ(first["parameters"]["fallback"], "int8: made to fail");
  EXPECT_EQ(Right(), "fp32");
  EXPECT_EQ(Right(), "fp32");
  EXPECT_EQ(Tier("int8")["state"], "demoted") << "three requests in a row failed there";
  EXPECT_THAT(log(), HasSubstr("tier 'int8' demoted: 3 runs in a row failed: made to fail"));
  RawClient metrics(server_->port());
  ASSERT_TRUE(metrics.Send("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"));
  const std::string text = metrics.ReadResponse();
  for (const char* line :
       {R"(minim_fallbacks_total{model="m",reason="failed",tier="int8",version="1"} 3)",
        R"(minim_tier_changes_total{change="demoted",model="m",tier="int8",version="1"} 1)"})
    EXPECT_NE(text.find(line), std::string::npos) << line;
}

TEST_F(TiersTest, WhenAllFailThePortableKernelsAnswer) {
  Start();
  model("int8 one").fault_ = Fault::kFail;
  model("fp32 one").fault_ = Fault::kFail;
  EXPECT_EQ(Right(), "reference");
  EXPECT_EQ(Infer(R"({"tier":"fp32"})")["error"], "made to fail") << "who asks for one gets it";
}

TEST_F(TiersTest, NaNIsReplacedAndDemotesAtOnce) {
  Start();
  model("int8 one").fault_ = Fault::kNaN;
  EXPECT_EQ(Right(), "fp32");
  EXPECT_EQ(Tier("int8")["state"], "demoted");
  EXPECT_THAT(Tier("int8")["reason"], HasSubstr("NaN"));
}

TEST_F(TiersTest, NaNThatIsTheModelsOwnIsItsAnswer) {
  Start();
  model("int8 one").fault_ = Fault::kNaN;
  model("fp32 one").fault_ = Fault::kNaN;
  const json answer = Infer();
  EXPECT_EQ(answer["parameters"]["tier"], "int8") << answer;
  EXPECT_EQ(Tier("int8")["state"], "serving");
}

TEST_F(TiersTest, DriftDemotesWithinTenRequestsAfterLoading) {
  Start();
  model("int8 one").fault_ = Fault::kDrift;
  EXPECT_LE(RequestsUntil("int8", "demoted", 200), 60);
  EXPECT_THAT(Tier("int8")["reason"], HasSubstr("compared rows differ"));
  for (int i = 0; i < 20; ++i) EXPECT_EQ(Right(), "fp32") << "no answer beyond the budget";
}

TEST_F(TiersTest, SlownessDemotes) {
  Start();
  model("int8 one").fault_ = Fault::kSlow;
  EXPECT_LE(RequestsUntil("int8", "demoted", 400), 200);
  EXPECT_THAT(Tier("int8")["reason"], HasSubstr("times as long"));
}

TEST_F(TiersTest, ProbationBringsItBack) {
  Write("m/minim.toml", "[tiers]\nprobation_ms = 0\n");
  Start();
  model("int8 one").fault_ = Fault::kNaN;
  EXPECT_EQ(Right(), "fp32");
  EXPECT_EQ(Right(), "fp32") << "it runs beside, and is not believed";
  model("int8 one").fault_ = Fault::kNone;
  EXPECT_LE(RequestsUntil("int8", "serving", 600), 400);
  EXPECT_THAT(log(), HasSubstr("serves again"));
}

class RolloutServerTest : public TiersTest {
 protected:
  void SetUp() override {
    TiersTest::SetUp();
    fs::remove_all(root_ / "m");
    Write("m/1/model.onnx", "fast one");
    // Answers have the row's number in its batch, so comparisons that wait must not meet in one.
    Write("m/config.pbtxt", "max_batch_size: 1\n");
    Write("m/minim.toml", "[rollout]\nmode = \"gradual\"\nstage_requests = 30\ncompare = 1\n");
  }
  void AddVersionTwo() {
    Write("m/2/model.onnx", "fast two");
    Ask("POST", "/v2/repository/models/m/load");
  }
  std::string Version(const std::string& parameters = "{}") {
    const json answer = Infer(parameters);
    return answer.value("model_version", answer.dump());
  }
};

TEST_F(RolloutServerTest, AGoodVersionTakesOver) {
  Start();
  AddVersionTwo();
  EXPECT_EQ(Ask("GET", "/v2/models/m/rollout")["state"], "running");
  int second = 0, all = 0;
  while (Ask("GET", "/v2/models/m/rollout")["state"] == "running" && all < 2000) {
    second += Version() == "2";
    ++all;
  }
  EXPECT_LT(second, all / 2);
  EXPECT_EQ(Ask("GET", "/v2/models/m/rollout")["state"], "completed");
  EXPECT_EQ(Version(), "2");
  EXPECT_THAT(log(), HasSubstr("version 2 is in full use"));
}

TEST_F(RolloutServerTest, ABadVersionGoesWithUnderATenthExposed) {
  for (const Fault fault : {Fault::kFail, Fault::kDrift}) {
    Start();
    AddVersionTwo();
    model("fast two").fault_ = fault;
    int second = 0;
    for (int i = 0; i < 600; ++i) {
      const json answer = Infer();
      second += answer.value("model_version", "2") == "2";
    }
    EXPECT_LT(second, 60) << static_cast<int>(fault);
    const json rollout = Ask("GET", "/v2/models/m/rollout");
    EXPECT_EQ(rollout["state"], "rolled back") << rollout;
    EXPECT_THAT(log(), HasSubstr("version 2 rolled back to 1"));
    client_.reset();
    server_.reset();
    fs::remove_all(root_ / "m/2");
  }
}

TEST_F(RolloutServerTest, SplitsStickByParameterOrHeader) {
  Write("m/2/model.onnx", "fast two");
  Write("m/minim.toml",
        "[rollout]\nmode = \"split\"\nweights = \"1:50, 2:50\"\nsticky = \"user\"\n");
  Start();
  std::set<std::string> seen;
  for (int user = 0; user < 20; ++user) {
    const std::string key = "{\"user\":\"u" + std::to_string(user) + "\"}";
    const std::string version = Version(key);
    EXPECT_EQ(Version(key), version);
    seen.insert(version);
  }
  EXPECT_EQ(seen.size(), 2u);
}

TEST_F(RolloutServerTest, HandsMayDecideAndErrorsAreSaid) {
  Start();
  AddVersionTwo();
  EXPECT_EQ(Ask("POST", "/v2/models/m/rollout", R"({"action":"rollback"})")["state"],
            "rolled back");
  EXPECT_EQ(Version(), "1");
  EXPECT_EQ(Ask("POST", "/v2/models/m/rollout", R"({"action":"promote"})")["state"], "completed");
  EXPECT_EQ(Version(), "2");
  for (const char* wrong : {"{}", "[", R"({"action":3})", R"({"action":"fly"})"})
    EXPECT_TRUE(Ask("POST", "/v2/models/m/rollout", wrong).contains("error")) << wrong;
  EXPECT_TRUE(Ask("POST", "/v2/models/m/settings", R"({"a":1})").contains("error"));
  EXPECT_EQ(
      Ask("POST", "/v2/models/m/settings", R"({"rollout":{"compare":0.25}})")["rollout"]["compare"],
      0.25);
}

}  // namespace
}  // namespace minim::serve
