// What the tests of the keeper share: models of stated sizes, a server that serves them.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <thread>

#include "serve/server.h"
#include "serve/testing/fake_model.h"
#include "serve/testing/raw_client.h"

namespace minim::serve {

/// A server over a budget of two of its four models, which say what they hold.
class KeeperFixture : public testing::Test {
 protected:
  void SetUp() override {
    root_ = Path(testing::TempDir()) / ("minim_keeper_" + std::to_string(::getpid()));
    std::filesystem::remove_all(root_);
    for (const char* name : {"a", "b", "c", "d"}) Write(name, 100);
    options_.path = root_ / "models";
    options_.memory.budget = 200;
    options_.memory.clean_up = std::chrono::hours(1);
    options_.http->threads = 2;
    options_.log = [this](const std::string& line) {
      std::lock_guard lock(mutex_);
      log_ += line + "\n";
    };
  }
  void TearDown() override {
    server_.reset();
    std::filesystem::remove_all(root_);
  }

  // A model that says it holds so many bytes.
  void Write(const std::string& name, int bytes, const std::string& toml = "") {
    std::filesystem::create_directories(root_ / "models" / name / "1");
    std::ofstream(root_ / "models" / name / "1/model.onnx") << bytes;
    if (!toml.empty()) std::ofstream(root_ / "models" / name / "minim.toml") << toml;
  }
  Result<std::shared_ptr<Model>> Load(const TierSource& source) {
    const std::string name = source.path.parent_path().parent_path().filename().string();
    MINIM_TRY(const std::string text, ReadFile(source.path));
    std::unique_lock lock(mutex_);
    ++loads_[name];
    gate_.wait(lock, [&] { return held_back_ != name; });
    if (text == "bad") return DataLoss("not a model");
    auto model = std::make_shared<FakeModel>();
    model->weight_bytes_ = static_cast<size_t>(std::stoi(text));
    model->arena_bytes_ = arena_bytes_;
    models_[name] = model;
    return std::shared_ptr<Model>(model);
  }
  ModelLoader Loader() {
    return [this](const TierSource& source) { return Load(source); };
  }
  void Start() {
    auto server = Server::Start(options_, Loader());
    ASSERT_TRUE(server.ok()) << server.status().message();
    server_ = std::move(*server);
  }

  std::string Ask(const std::string& method, const std::string& target,
                  const std::string& body = "") {
    RawClient client(server_->port());
    EXPECT_TRUE(client.Send(Wire(method, target, body)));
    return client.ReadResponse(30);
  }
  static std::string Wire(const std::string& method, const std::string& target,
                          const std::string& body) {
    return method + " " + target +
           " HTTP/1.1\r\nHost: x\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" +
           body;
  }
  // No two requests are the same, so that none is answered by the cache.
  std::string Question() {
    const int n = ++asked_;
    return R"({"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[)" +
           std::to_string(n) + ",1]}]}";
  }
  std::string Infer(const std::string& model) {
    return Ask("POST", "/v2/models/" + model + "/infer", Question());
  }
  nlohmann::json Memory() {
    return nlohmann::json::parse(BodyOf(Ask("GET", "/v2/memory")), nullptr, false);
  }
  nlohmann::json MemoryOf(const std::string& model) {
    const nlohmann::json memory = Memory();
    for (const nlohmann::json& entry : memory["models"])
      if (entry["name"] == model) return entry;
    return {};
  }
  std::vector<std::string> Loaded() {
    std::vector<std::string> names;
    const nlohmann::json memory = Memory();
    for (const nlohmann::json& entry : memory["models"])
      if (entry["state"] == "loaded") names.push_back(entry["name"]);
    return names;
  }
  template <typename F>
  static bool Eventually(F&& holds) {
    for (int i = 0; i < 1000; ++i) {
      if (holds()) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return false;
  }
  // The answer may be there before its lease is back.
  bool Unused() {
    return Eventually([&] { return Memory()["request_bytes"] == 0; });
  }
  void HoldBack(const std::string& name) {
    {
      std::lock_guard lock(mutex_);
      held_back_ = name;
    }
    gate_.notify_all();
  }
  std::string log() {
    std::lock_guard lock(mutex_);
    return log_;
  }

  Path root_;
  ServerOptions options_;
  std::unique_ptr<Server> server_;
  std::mutex mutex_;
  std::condition_variable gate_;
  std::string held_back_, log_;                               // guarded by mutex_
  std::map<std::string, int> loads_;                          // guarded by mutex_
  std::map<std::string, std::shared_ptr<FakeModel>> models_;  // guarded by mutex_
  size_t arena_bytes_ = 0;
  std::atomic<int> asked_{0};
};

}  // namespace minim::serve
