#include "serve/protocol/batch_settings.h"

#include <gtest/gtest.h>

namespace minim::serve {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;

TEST(BatchSettingsTest, WhatIsLeftOutStays) {
  BatchSettings current;
  current.bounds.max_batch = 77;
  std::string text = R"({"policy":"adaptive","latency_target_ms":2.5,"window_ms":0})";
  const auto settings = ParseBatchSettings(text, current);
  ASSERT_TRUE(settings.ok()) << settings.status().message();
  EXPECT_EQ(settings->policy.name, "adaptive");
  EXPECT_EQ(settings->bounds.latency_target, microseconds(2500));
  EXPECT_EQ(settings->bounds.window, milliseconds(0));
  EXPECT_EQ(settings->bounds.max_batch, 77);
}

TEST(BatchSettingsTest, WhatIsWrittenReadsBack) {
  BatchSettings written{.policy = *FindBatchPolicy("fixed-size"), .max_queue_rows = 9};
  written.bounds = {3, 4, milliseconds(5), milliseconds(6), milliseconds(7)};
  std::string text = BatchSettingsJson(written);
  const auto read = ParseBatchSettings(text, {});
  ASSERT_TRUE(read.ok()) << read.status().message();
  EXPECT_EQ(BatchSettingsJson(*read), text);
}

TEST(BatchSettingsTest, ErrorsNameTheField) {
  const std::pair<const char*, const char*> kWrong[] = {
      {R"({"policy":"magic"})", "policy"},
      {R"({"policy":3})", "policy"},
      {R"({"max_batch":0})", "max_batch"},
      {R"({"max_batch":1e99})", "max_batch"},
      {R"({"max_batch":"8"})", "max_batch"},
      {R"({"min_batch":60})", "min_batch"},
      {R"({"window_ms":-1})", "window_ms"},
      {R"({"max_wait_ms":1e300})", "max_wait_ms"},
      {R"({"latency_target_ms":0})", "latency_target_ms"},
      {R"({"max_queue_rows":0})", "max_queue_rows"},
      {R"({"max_bach":3})", "max_bach"},
      {R"({"max_batch":3,"max_batch":4})", "max_batch"},
      {R"({"max_batch":3} 7 {})", "closing brace"},
      {R"({"max_batch":3}{)", "batch settings"},
      {R"([1])", "batch settings"},
      {"", "batch settings"},
  };
  for (const auto& [text, field] : kWrong) {
    std::string copy = text;
    const auto settings = ParseBatchSettings(copy, {});
    ASSERT_FALSE(settings.ok()) << text;
    EXPECT_NE(settings.status().message().find(field), std::string::npos)
        << text << ": " << settings.status().message();
  }
}

}  // namespace
}  // namespace minim::serve
