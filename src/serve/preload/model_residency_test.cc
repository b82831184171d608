// The keeper by itself, with time passed in.
#include <gmock/gmock.h>

#include <future>

#include "serve/preload/model_keeper.h"
#include "serve/testing/keeper_fixture.h"

namespace minim::serve {
namespace {

using std::chrono::hours;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::UnorderedElementsAre;

class ModelResidencyTest : public KeeperFixture {
 protected:
  ModelKeeper& Open() {
    auto opened = Repository::Open(root_ / "models", {.loader = Loader(), .on_demand = true},
                                   std::make_shared<Metrics>());
    EXPECT_TRUE(opened.ok());
    repository_ = std::move(*opened);
    KeeperOptions options = options_.memory;
    options.log = options_.log;
    options.now = [this] { return now_; };
    keeper_ = std::make_unique<ModelKeeper>(options, repository_);
    const Status status = keeper_->Start();
    EXPECT_TRUE(status.ok()) << status.message();
    return *keeper_;
  }
  // Asks and waits for the answer.
  Status Use(const std::string& model) {
    std::promise<Status> answered;
    keeper_->Use(model, [&](const Result<ModelKeeper::Lease>& lease) {
      answered.set_value(lease.status());
    });
    return answered.get_future().get();
  }
  std::vector<std::string> Names() const {
    std::vector<std::string> names;
    for (const auto& version : repository_->All()) names.push_back(version->model);
    return names;
  }

  WallTime now_ = WallTime(hours(24 * 20000));
  std::shared_ptr<Repository> repository_;
  std::unique_ptr<ModelKeeper> keeper_;
};

TEST_F(ModelResidencyTest, WhatIsAskedForAtThisTimeOfDayIsLoadedAhead) {
  ModelKeeper& keeper = Open();
  for (int day = 0; day < 3; ++day, now_ += hours(24)) {
    const WallTime midnight = now_;
    for (const auto& [hour, models] : {std::pair(8, std::vector{"a", "b"}), {20, {"c", "d"}}}) {
      for (int minute = 0; minute < 60; ++minute) {
        now_ = midnight + hours(hour) + std::chrono::minutes(minute);
        for (const char* model : models) ASSERT_TRUE(Use(model).ok());
      }
    }
    now_ = midnight;
  }
  now_ += hours(8);
  keeper.CleanUp();
  EXPECT_THAT(Names(), UnorderedElementsAre("a", "b"));
  now_ += hours(12);
  keeper.CleanUp();
  EXPECT_THAT(Names(), UnorderedElementsAre("c", "d"));
  EXPECT_THAT(log(), HasSubstr("model 'c': loaded ahead of its requests"));
}

TEST_F(ModelResidencyTest, AboveTheThresholdContextsAreTrimmedThenIdleModelsUnloaded) {
  arena_bytes_ = 20;
  options_.memory.budget = 300;
  options_.memory.threshold = 0.75;
  ModelKeeper& keeper = Open();
  ASSERT_THAT(Names(), ElementsAre("a", "b"));
  EXPECT_EQ(keeper.Report().model_bytes(), 240);
  keeper.CleanUp();
  EXPECT_FALSE(models_.at("a")->trimmed_) << "it has just been loaded";
  now_ += hours(1);
  ASSERT_TRUE(Use("b").ok());
  keeper.CleanUp();
  EXPECT_TRUE(models_.at("a")->trimmed_);
  EXPECT_FALSE(models_.at("b")->trimmed_) << "in use of late";
  EXPECT_EQ(keeper.Report().model_bytes(), 220) << "below the threshold";
  keeper_.reset();
  options_.memory.threshold = 0.5;
  ModelKeeper& stricter = Open();
  now_ += hours(2);
  ASSERT_TRUE(Use("b").ok());
  stricter.CleanUp();
  EXPECT_THAT(Names(), ElementsAre("b")) << "a was idle";
  EXPECT_TRUE(Use("a").ok()) << "and comes back when it is asked for";
}

TEST_F(ModelResidencyTest, ClosingAnswersThoseWhoWait) {
  Open();
  HoldBack("c");
  std::promise<Status> first, second;
  const auto into = [](std::promise<Status>& promise) {
    return
        [&promise](const Result<ModelKeeper::Lease>& lease) { promise.set_value(lease.status()); };
  };
  keeper_->Use("c", into(first));
  keeper_->Use("d", into(second));
  EXPECT_TRUE(Eventually([&] {
    std::lock_guard lock(mutex_);
    return loads_["c"] == 1;
  }));
  auto closed = std::async(std::launch::async, [&] { keeper_->Close(); });
  HoldBack("");
  closed.get();
  (void)first.get_future().get();  // loaded or not: answered
  (void)second.get_future().get();
}

}  // namespace
}  // namespace minim::serve
