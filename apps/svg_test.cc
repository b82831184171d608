#include "apps/svg.h"

#include <gmock/gmock.h>

namespace minim {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

size_t Count(const std::string& text, const std::string& part) {
  size_t count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

TEST(Svg, EscapesWhatCouldBeMarkup) {
  EXPECT_EQ(EscapeHtml("<a href=\"x\">&"), "&lt;a href=&quot;x&quot;&gt;&amp;");
}

TEST(Svg, RowsHaveBarsTextsAndErrorBars) {
  const std::string chart = RowChart("Loss", "%",
                                     {{.bar = {.name = "a<b", .value = 1, .low = 0.5, .high = 2}},
                                      {.bar = {.name = "c", .value = -1}, .text = "less"}},
                                     Limit{"budget", 3});
  EXPECT_THAT(chart, HasSubstr("a&lt;b"));
  EXPECT_THAT(chart, Not(HasSubstr("a<b")));
  EXPECT_THAT(chart, HasSubstr(">less<"));
  EXPECT_THAT(chart, HasSubstr("budget"));
  EXPECT_EQ(Count(chart, "<rect"), 2u);
  EXPECT_EQ(Count(chart, "stroke-width=\"2\""), 1u);
}

TEST(Svg, ALongNameIsCutAtItsBeginningBetweenCharacters) {
  const std::string name = "first/\u00e4/and-the-end-of-a-very-long-name-of-an-op";
  const std::string chart = RowChart("", "", {{.bar = {.name = name, .value = 1}}});
  EXPECT_THAT(chart, HasSubstr("<title>" + name));  // whole where it is pointed at
  EXPECT_THAT(chart, HasSubstr("\u2026"));
  EXPECT_THAT(chart, HasSubstr("-name-of-an-op</text>"));
}

TEST(Svg, LabelsOfEqualPointsDoNotCoverEachOther) {
  const std::string chart =
      ScatterChart({.points = {{.name = "one", .x = 1, .y = 1}, {.name = "two", .x = 1, .y = 1}}});
  const size_t first = chart.rfind("<text", chart.find(">one<"));
  const size_t second = chart.rfind("<text", chart.find(">two<"));
  EXPECT_NE(chart.substr(first, chart.find('>', first) - first),
            chart.substr(second, chart.find('>', second) - second));
}

TEST(Svg, SpreadsOfManyBinsStaySmall) {
  const std::string chart = SpreadChart({.name = "x",
                                         .low = -1,
                                         .high = 1,
                                         .counts = std::vector<double>(4096, 3),
                                         .chosen = {{-0.5, 9}}});
  EXPECT_LT(chart.size(), 4000u);
  EXPECT_EQ(Count(chart, "#dc2626"), 2u);
  EXPECT_THAT(chart, Not(HasSubstr("nan")));
}

TEST(Svg, NothingToShowIsNoError) {
  for (const std::string& chart :
       {RowChart("", "", {}), ScatterChart({}), SpreadChart({}), LineChart("", "", "", {}),
        BarChart("", "", {}), Histogram("", "", {})}) {
    EXPECT_THAT(chart, HasSubstr("</svg>"));
    EXPECT_THAT(chart, Not(HasSubstr("nan")));
  }
}

}  // namespace
}  // namespace minim
