#include "serve/preload/memory_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace minim::serve {
namespace {

using std::chrono::hours;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

ModelMemory Model(const std::string& name, uint64_t mib, hours idle, double rate = 0) {
  return {.name = name, .state = "loaded", .bytes = mib << 20, .rate = rate, .idle = idle};
}

TEST(MemoryReport, BytesAreShownInTheirUnit) {
  const std::pair<uint64_t, const char*> cases[] = {
      {0, "0 bytes"},          {1023, "1023 bytes"},   {1536, "1.5 KiB"}, {800ull << 20, "800 MiB"},
      {5ull << 40, "5.0 TiB"}, {~0ull, "16777216 TiB"}};
  for (const auto& [bytes, text] : cases) EXPECT_EQ(ShowBytes(bytes), text);
}

TEST(MemoryReport, NamesWhatIsHeldForNothing) {
  MemoryReport report;
  report.models = {Model("used", 800, hours(1)), Model("old", 800, hours(24 * 9)),
                   Model("older", 900, hours(24 * 7)), Model("gone", 900, hours(24 * 30))};
  report.models[3].state = "available";
  EXPECT_THAT(
      Recommendations(report),
      ElementsAre("model 'older' had no request for 7 days and holds 900 MiB: take it out, or "
                  "serve with a memory budget",
                  HasSubstr("'old' had no request for 9 days and holds 800 MiB")));
  report.models = {Model("kept", 1, hours(24 * 9))};
  report.models[0].pinned = true;
  report.budget = 1 << 30;
  EXPECT_THAT(Recommendations(report), ElementsAre(HasSubstr("do not pin it")));
}

TEST(MemoryReport, SaysWhenTheBudgetIsTooSmallForWhatIsAskedFor) {
  MemoryReport report{.budget = 100 << 20};
  report.models = {Model("a", 80, hours(0), 50), Model("b", 40, hours(0), 9),
                   Model("c", 40, hours(0), 0.1)};
  report.models[0].hits = 80;
  report.models[1].misses = 20;
  EXPECT_THAT(Recommendations(report),
              ElementsAre("20 % of the requests had to wait for a model to be loaded: the models "
                          "that are asked for need 120 MiB, the budget is 100 MiB"));
  report.models[0].hits = 2000;
  EXPECT_THAT(Recommendations(report), IsEmpty()) << "hardly ever";
  report.models[0].hits = report.models[1].misses = 0;
  EXPECT_THAT(Recommendations(report), IsEmpty()) << "nothing yet";
  report.models[1].misses = 20;
  report.budget = 200 << 20;
  EXPECT_THAT(Recommendations(report), IsEmpty()) << "they fit";
}

TEST(MemoryReport, TotalsAddUp) {
  MemoryReport report{.cache_bytes = 5, .request_bytes = 7};
  report.models = {Model("a", 1, hours(0)), Model("b", 2, hours(0))};
  report.models[0].tiers = {{"1", "fp32", 600, 400}};
  report.models[1].state = "available";
  auto json = nlohmann::json::parse(MemoryJson(report));
  EXPECT_EQ(json["model_bytes"], 1 << 20);
  EXPECT_EQ(json["total_bytes"], (1 << 20) + 12);
  EXPECT_EQ(json["budget_bytes"], nullptr);
  EXPECT_EQ(json["models"][0]["tiers"][0]["context_bytes"], 400);
  EXPECT_EQ(json["models"][0]["last_use"], nullptr);
  EXPECT_FALSE(json["models"][0].contains("hits")) << "nothing is kept without a budget";
  report.budget = 100;
  report.models[0].last_use = WallTime(std::chrono::milliseconds(1234));
  json = nlohmann::json::parse(MemoryJson(report));
  EXPECT_EQ(json["budget_bytes"], 100);
  EXPECT_EQ(json["models"][0]["last_use"], 1234);
  EXPECT_EQ(json["models"][0]["hits"], 0);
}

}  // namespace
}  // namespace minim::serve
