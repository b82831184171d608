// On the running server, as clients see it.
#include "serve/preload/model_keeper.h"

#include <gmock/gmock.h>

#include <future>

#include "serve/testing/keeper_fixture.h"

namespace minim::serve {
namespace {

using nlohmann::json;
using std::chrono::milliseconds;
using testing::ElementsAre;
using testing::HasSubstr;

using ModelKeeperTest = KeeperFixture;

TEST_F(ModelKeeperTest, TheLeastValuableLeavesForWhatIsAskedFor) {
  Start();
  EXPECT_THAT(Loaded(), ElementsAre("a", "b")) << "what fits, by name";
  const json index = json::parse(BodyOf(Ask("POST", "/v2/repository/index")));
  EXPECT_EQ(index[0]["state"], "READY");
  EXPECT_EQ(index[2]["state"], "UNAVAILABLE");
  EXPECT_THAT(std::string(index[2]["reason"]), HasSubstr("its first request loads it"));
  for (int i = 0; i < 3; ++i) EXPECT_EQ(StatusOf(Infer("a")), 200);
  ASSERT_TRUE(Unused());
  const json answer = json::parse(BodyOf(Infer("c")), nullptr, false);
  EXPECT_EQ(answer["outputs"][0]["data"], json::parse("[8,2]")) << answer;
  EXPECT_THAT(Loaded(), ElementsAre("a", "c"));
  ASSERT_TRUE(Unused());
  EXPECT_EQ(StatusOf(Infer("b")), 200);
  EXPECT_THAT(Loaded(), ElementsAre("a", "b"));
  const json memory = Memory();
  EXPECT_EQ(memory["budget_bytes"], 200);
  EXPECT_EQ(memory["threshold_bytes"], 140);
  EXPECT_EQ(memory["model_bytes"], 200);
  EXPECT_EQ(memory["models"][2]["state"], "available");
  EXPECT_EQ(memory["models"][0]["hits"], 3);
  const std::string metrics = BodyOf(Ask("GET", "/metrics"));
  for (const char* line :
       {"minim_preload_requests_total{model=\"a\",result=\"hit\"} 3",
        "minim_preload_requests_total{model=\"b\",result=\"miss\"} 1",
        "minim_model_evictions_total{model=\"c\"} 1",
        "minim_model_load_seconds_count{model=\"b\"} 1",
        "minim_memory_bytes{holder=\"models\"} 200", "minim_model_memory_bytes{model=\"a\"} 100",
        "minim_memory_budget_bytes 200"})
    EXPECT_THAT(metrics, HasSubstr(line));
}

TEST_F(ModelKeeperTest, QuestionsAboutAModelLoadItAndBrokenRequestsDoNot) {
  Start();
  EXPECT_EQ(StatusOf(Ask("POST", "/v2/models/d/infer", "{")), 400) << "not 404: it is there";
  EXPECT_EQ(MemoryOf("d")["state"], "available");
  EXPECT_THAT(Ask("GET", "/v2/models/c"), HasSubstr("\"inputs\""));
  EXPECT_EQ(MemoryOf("c")["state"], "loaded");
  EXPECT_EQ(MemoryOf("c")["last_use"], nullptr) << "no request";
  EXPECT_EQ(StatusOf(Infer("absent")), 404);
}

TEST_F(ModelKeeperTest, ConcurrentRequestsLoadOnce) {
  Start();
  HoldBack("c");
  std::vector<std::unique_ptr<RawClient>> clients;
  for (int i = 0; i < 8; ++i) {
    clients.push_back(std::make_unique<RawClient>(server_->port()));
    clients.back()->Send(Wire("POST", "/v2/models/c/infer", Question()));
  }
  EXPECT_TRUE(Eventually([&] { return MemoryOf("c")["misses"] == 8; }));
  EXPECT_EQ(MemoryOf("c")["state"], "loading");
  EXPECT_EQ(Memory()["request_bytes"], 8 * 8);
  EXPECT_EQ(StatusOf(Infer("b")), 200) << "others go on";
  HoldBack("");
  for (const auto& client : clients) EXPECT_EQ(StatusOf(client->ReadResponse(30)), 200);
  std::lock_guard lock(mutex_);
  EXPECT_EQ(loads_["c"], 1);
}

TEST_F(ModelKeeperTest, TheWaitForALoadIsBounded) {
  options_.memory.load_wait = milliseconds(100);
  Start();
  HoldBack("c");
  const std::string late = Infer("c");
  EXPECT_EQ(StatusOf(late), 503);
  EXPECT_THAT(late, HasSubstr("Retry-After: 1"));
  EXPECT_THAT(late, HasSubstr("model 'c' is still being loaded after 100 ms"));
  HoldBack("");
  EXPECT_TRUE(Eventually([&] { return StatusOf(Infer("c")) == 200; }));
}

TEST_F(ModelKeeperTest, PinnedModelsStay) {
  Write("d", 100, "[serving]\npinned = true\n");
  Start();
  EXPECT_THAT(Loaded(), ElementsAre("a", "d"));
  EXPECT_EQ(MemoryOf("d")["pinned"], true);
  for (const char* model : {"a", "a", "b", "c"}) {
    EXPECT_EQ(StatusOf(Infer(model)), 200);
    ASSERT_TRUE(Unused());
  }
  EXPECT_THAT(Loaded(), ElementsAre("c", "d"));
  server_.reset();
  Write("a", 100, "[serving]\npinned = true\n");
  Start();
  EXPECT_THAT(Loaded(), ElementsAre("a", "d"));
  const std::string refused = Infer("b");
  EXPECT_EQ(StatusOf(refused), 429);
  EXPECT_THAT(refused, HasSubstr("pinned"));
}

TEST_F(ModelKeeperTest, WhatIsInUseLeavesWhenItsRequestsAreDone) {
  options_.memory.budget = 100;
  Start();
  const std::shared_ptr<FakeModel> a = models_.at("a");
  a->Block(true);
  auto busy = std::async(std::launch::async, [&] { return Infer("a"); });
  a->WaitUntilEntered(1);
  auto next = std::async(std::launch::async, [&] { return Infer("b"); });
  EXPECT_TRUE(Eventually([&] { return MemoryOf("a")["state"] == "unloading"; }));
  auto again = std::async(std::launch::async, [&] { return Infer("a"); });
  EXPECT_TRUE(Eventually([&] { return MemoryOf("a")["misses"] == 1; }));
  EXPECT_EQ(Memory()["model_bytes"], 100) << "b waits for room";
  a->Block(false);
  EXPECT_EQ(StatusOf(busy.get()), 200);
  EXPECT_EQ(StatusOf(next.get()), 200);
  EXPECT_EQ(StatusOf(again.get()), 200);
  EXPECT_EQ(Memory()["model_bytes"], 100);
}

TEST_F(ModelKeeperTest, AModelTooBigOrBrokenSaysSoAndIsNotReadAgain) {
  Write("c", 300);
  std::ofstream(root_ / "models/d/1/model.onnx") << "bad";
  Start();
  for (int i = 0; i < 2; ++i) {
    const std::string big = Infer("c");
    EXPECT_EQ(StatusOf(big), 429);
    EXPECT_THAT(big, HasSubstr("needs 300 bytes, more than the memory budget of 200 bytes"));
    const std::string broken = Infer("d");
    EXPECT_EQ(StatusOf(broken), 500);
    EXPECT_THAT(broken, HasSubstr("not a model"));
  }
  EXPECT_EQ(StatusOf(Infer("a")), 200);
  std::lock_guard lock(mutex_);
  EXPECT_EQ(loads_["c"], 1);
  EXPECT_EQ(loads_["d"], 1);
}

TEST_F(ModelKeeperTest, TheHistoryDecidesWhatIsThereAfterARestart) {
  options_.memory.history = root_ / "history.json";
  Start();
  for (const char* model : {"c", "d", "d"}) EXPECT_EQ(StatusOf(Infer(model)), 200);
  EXPECT_TRUE(server_->Drain());
  server_.reset();
  Start();
  EXPECT_THAT(Loaded(), ElementsAre("c", "d"));
  EXPECT_EQ(StatusOf(Infer("d")), 200);
  EXPECT_EQ(MemoryOf("d")["hits"], 1);
  const json stats = json::parse(BodyOf(Ask("GET", "/v2/models/d/stats")));
  EXPECT_EQ(stats["model_stats"][0]["minim"][0]["cold_runs"], 0) << "its first request was warm";
}

TEST_F(ModelKeeperTest, ABrokenHistoryIsPutAside) {
  options_.memory.history = root_ / "history.json";
  std::ofstream(options_.memory.history) << "{\"models\": 3";
  Start();
  EXPECT_THAT(log(), HasSubstr("starting without it"));
  EXPECT_EQ(*ReadFile(root_ / "history.json.unreadable"), "{\"models\": 3");
  EXPECT_THAT(Loaded(), ElementsAre("a", "b"));
  EXPECT_EQ(StatusOf(Infer("b")), 200);
  EXPECT_TRUE(server_->Drain());
  UsageHistory history;
  EXPECT_TRUE(history.FromJson(*ReadFile(options_.memory.history)).ok());
  EXPECT_EQ(history.total("b"), 1);
}

TEST_F(ModelKeeperTest, WithoutABudgetItOnlyCounts) {
  options_.memory.budget = 0;
  Start();
  EXPECT_EQ(StatusOf(Infer("a")), 200);
  const json memory = Memory();
  EXPECT_EQ(memory["budget_bytes"], nullptr);
  EXPECT_EQ(memory["model_bytes"], 400);
  EXPECT_GT(memory["models"][0]["requests_an_hour"], 0);
  EXPECT_THAT(Loaded(), ElementsAre("a", "b", "c", "d"));
}

TEST_F(ModelKeeperTest, WrongOptionsAreExplained) {
  const auto start = [this] { return Server::Start(options_, Loader()).status().message(); };
  options_.control = ModelControl::kPoll;
  EXPECT_THAT(start(), HasSubstr("memory budget"));
  options_.control = ModelControl::kNone;
  options_.memory.threshold = 0;
  EXPECT_THAT(start(), HasSubstr("threshold: found 0"));
  options_.memory.threshold = 1;
  options_.memory.history = root_ / "absent/history.json";
  EXPECT_THAT(start(), HasSubstr("no folder"));
  options_.memory.history.clear();
  options_.memory.budget = 2;
  EXPECT_THAT(start(), HasSubstr("no model fits the memory budget of 2 bytes"));
}

}  // namespace
}  // namespace minim::serve
