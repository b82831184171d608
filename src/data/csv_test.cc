#include "data/csv.h"

#include <gtest/gtest.h>

namespace minim {
namespace {

TEST(CsvTest, ReadsQuotesCommasLinesAndCarriageReturns) {
  const CsvTable table = ParseCsv(
                             "\xEF\xBB\xBF"
                             "a,\"b, c\"\r\n1,\"two \"\"quoted\"\"\nlines\"\r\n\r\n,end")
                             .value();
  EXPECT_EQ(table.header, (std::vector<std::string_view>{"a", "b, c"}));
  ASSERT_EQ(table.row_count(), 2);
  EXPECT_EQ(table.at(0, 1), "two \"quoted\"\nlines");
  EXPECT_EQ(table.at(1, 0), "");
  EXPECT_EQ(table.at(1, 1), "end");
  EXPECT_EQ(table.lines, (std::vector<int64_t>{2, 5}));
  EXPECT_EQ(table.FindColumn("b, c").value(), 1u);
  EXPECT_NE(table.FindColumn("d").status().message().find("a, b, c"), std::string::npos);
}

TEST(CsvTest, ErrorsSayTheLine) {
  const auto message = [](std::string text) {
    return ParseCsv(std::move(text)).status().message();
  };
  EXPECT_NE(message("").find("empty"), std::string::npos);
  EXPECT_NE(message("a,b\n1,2\n3\n").find("line 3: 1 fields, expected 2"), std::string::npos);
  EXPECT_NE(message("a\n\"x\n\n").find("line 2: a quoted field"), std::string::npos);
  EXPECT_NE(message("a\n\"x\"y\n").find("line 2: 'y' follows"), std::string::npos);
  EXPECT_NE(message("a,\n").find("column 2 has no name"), std::string::npos);
  EXPECT_NE(message("a,a\n").find("two columns"), std::string::npos);
  EXPECT_NE(ReadCsv("/nonexistent.csv").status().message().find("nonexistent"), std::string::npos);
}

// Whatever the bytes: an error or a table whose rows are complete.
TEST(CsvTest, EveryPrefixIsReadOrRefused) {
  const std::string text = "a,\"b\"\n\"1\"\"\",2\r\n\"\",\"\n\"\n";
  for (size_t n = 0; n <= text.size(); ++n) {
    const auto table = ParseCsv(text.substr(0, n));
    if (!table.ok()) continue;
    EXPECT_EQ(table->fields.size(), table->lines.size() * table->header.size()) << n;
  }
}

}  // namespace
}  // namespace minim
