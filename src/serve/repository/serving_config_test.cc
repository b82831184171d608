#include "serve/repository/serving_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

namespace minim::serve {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;

TEST(ServingConfig, ReadsItsSectionsAndLeavesOthersAlone) {
  ServingConfig config;
  const Status status = ReadServingToml(R"(
[shrink]
data = "x.npy"
[serving]
versions = "1, 3"
instances = 3
cache_ttl_ms = 1500
[batching]
policy = "adaptive"
max_batch = 64
latency_target_ms = 2.5
[tiers]
allow = "int8, fp32"
[rollout]
mode = "split"
weights = "1:90, 3:10"
stages = "0.05, 1"
)",
                                        config);
  ASSERT_TRUE(status.ok()) << status.message();
  EXPECT_THAT(config.versions.numbers, ElementsAre(1, 3));
  EXPECT_EQ(config.instances, 3);
  EXPECT_EQ(config.cache_ttl, std::chrono::milliseconds(1500));
  EXPECT_EQ(config.policy, "adaptive");
  EXPECT_EQ(config.bounds.max_batch, 64);
  EXPECT_EQ(config.bounds.latency_target, std::chrono::microseconds(2500));
  EXPECT_THAT(config.tiers.allow, ElementsAre("int8", "fp32"));
  EXPECT_EQ(config.rollout.mode, RolloutMode::kSplit);
  EXPECT_THAT(config.rollout.weights, ElementsAre(std::pair(1, 90.0), std::pair(3, 10.0)));
}

TEST(ServingConfig, ErrorsNameKeyAndExpectation) {
  const std::pair<const char*, const char*> cases[] = {
      {"[serving", "line 1"},
      {"serving = 3", "'serving'"},
      {"[serving]\ninstances = 0", "[serving] instances: found 0, expected a number from 1"},
      {"[serving]\ninstances = 1.5", "a whole number"},
      {"[serving]\ninstances = \"two\"", "found 'two'"},
      {"[serving]\ncache = 1", "true or false"},
      {"[serving]\ntimeout_ms = -1", "found -1"},
      {"[serving]\nversions = \"latest:0\"", "latest:N"},
      {"[serving]\nversions = \"\"", "numbers"},
      {"[serving]\nversons = \"all\"", "known are versions"},
      {"[batching]\npolicy = \"fast\"", "work-conserving"},
      {"[batching]\nmin_batch = 60\nmax_batch = 50", "min_batch: found 60, expected 1 to 50"},
      {"[rollout]\nmode = \"split\"", "needs weights"},
      {"[rollout]\nstages = \"0.5, 0.1, 1\"", "ascending"},
      {"[rollout]\nstages = \"0.5\"", "end in 1"},
      {"[rollout]\nweights = \"1=2\"", "VERSION:WEIGHT"},
      {"[rollout]\nmode = [1]", "expected true or false"},
  };
  for (const auto& [text, part] : cases) {
    ServingConfig config;
    const Status status = ReadServingToml(text, config);
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(std::string(status.message()), HasSubstr(part)) << text;
  }
}

TEST(ServingConfig, SomeSettingsChangeWhileRunning) {
  ServingConfig config;
  ASSERT_TRUE(
      ReadLiveSettings(R"({"batching":{"policy":"adaptive","latency_target_ms":7}})", config).ok());
  EXPECT_EQ(config.policy, "adaptive");
  EXPECT_EQ(config.bounds.latency_target, std::chrono::milliseconds(7));
  for (const char* text : {"", "[1]", R"({"serving":{"instances":2}})", R"({"odd":{}})",
                           R"({"batching":{"max_batch":0}})", R"({"batching":{"max_batch":[1]}})",
                           R"({"batching":3})", R"({"batching":{"x":1}})"}) {
    EXPECT_EQ(ReadLiveSettings(text, config).code(), StatusCode::kInvalidArgument) << text;
  }
  // All or nothing.
  EXPECT_FALSE(
      ReadLiveSettings(R"({"batching":{"policy":"fixed-size","max_batch":0}})", config).ok());
  EXPECT_EQ(config.policy, "adaptive");
}

TEST(ServingConfig, EverySettingReadsBackWhatItShows) {
  ServingConfig changed;
  ASSERT_TRUE(ReadServingToml("[serving]\nversions=\"2\"\n[rollout]\nweights=\"1:2\"\n"
                              "[tiers]\nallow=\"fp32\"",
                              changed)
                  .ok());
  for (const ServingConfig& from : {ServingConfig(), changed}) {
    ServingConfig to;
    for (const Setting& setting : Settings()) {
      const SettingValue shown = setting.get(from);
      EXPECT_TRUE(setting.set(to, shown).ok()) << setting.key;
      EXPECT_EQ(setting.get(to), shown) << setting.key;
    }
    EXPECT_EQ(SettingsJson(to), SettingsJson(from));
  }
  const json shown = json::parse(SettingsJson(changed));
  EXPECT_EQ(shown["serving"]["versions"], "2");
  EXPECT_EQ(shown["batching"]["max_batch"], 50);
}

TEST(ServingConfig, TheReferenceIsUpToDate) {
  std::ifstream file(MINIM_SERVING_DOC);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  EXPECT_NE(text.find("<!-- settings: begin -->\n" + SettingsMarkdown() + "<!-- settings: end -->"),
            std::string::npos)
      << "docs/serving.md must hold, between its marks:\n"
      << SettingsMarkdown();
}

}  // namespace
}  // namespace minim::serve
