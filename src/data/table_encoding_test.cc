#include "data/table_encoding.h"

#include <gtest/gtest.h>

namespace minim {
namespace {

constexpr const char* kPeople =
    "age,city,zip,paid\n"
    "30,Bern,1,yes\n"
    "NA,Basel,2,no\n"
    "50,Bern,10,yes\n"
    "+1e1,Chur,3,no\n";  // for testing

class TableEncodingTest : public testing::Test {
 protected:
  const CsvTable table_ = ParseCsv(kPeople).value();
  const std::vector<int64_t> train_ = {0, 1, 2}, test_ = {3};
};

TEST_F(TableEncodingTest, LearnsFromTheTrainingRowsOnly) {
  const TableEncoding encoding =
      LearnEncoding(table_, train_, {.target = "paid", .categorical = {"zip"}}).value();
  EXPECT_EQ(encoding.width(), 1 + 2 + 3);
  EXPECT_EQ(encoding.OneHot(), (std::vector<bool>{false, true, true, true, true, true}));
  EXPECT_EQ(encoding.columns[2].categories, (std::vector<std::string>{"1", "2", "10"}));
  EXPECT_EQ(encoding.classes, (std::vector<std::string>{"no", "yes"}));
  const Tensor x = EncodeFeatures(table_, train_, encoding).value();
  const auto row = x.as<float>().subspan(6, 6);  // the missing age is the mean
  EXPECT_EQ(std::vector<float>(row.begin(), row.end()), (std::vector<float>{40, 1, 0, 0, 1, 0}));
  const Tensor unknown = EncodeFeatures(table_, test_, encoding).value();
  EXPECT_EQ(std::vector<float>(unknown.as<float>().begin(), unknown.as<float>().end()),
            (std::vector<float>{10, 0, 0, 0, 0, 0}));
  const Tensor labels = EncodeLabels(table_, train_, encoding).value();
  EXPECT_EQ(labels.as<int64_t>()[0], 1);
  EXPECT_EQ(labels.as<int64_t>()[1], 0);
}

TEST_F(TableEncodingTest, NumbersMayBeTargets) {
  const TableEncoding encoding =
      LearnEncoding(table_, train_, {.target = "zip", .drop = {"city", "paid"}}).value();
  EXPECT_EQ(encoding.width(), 1);
  const Tensor labels = EncodeLabels(table_, test_, encoding).value();
  ASSERT_EQ(labels.dtype(), DType::f32);
  EXPECT_EQ(labels.as<float>()[0], 3);
}

TEST_F(TableEncodingTest, ErrorsSayLineAndColumn) {
  const auto message = [&](const TableColumns& columns, const std::string& other) {
    const auto encoding = LearnEncoding(table_, train_, columns);
    if (!encoding.ok()) return encoding.status().message();
    const CsvTable table = ParseCsv(other).value();
    const auto features = EncodeFeatures(table, std::vector<int64_t>{0}, *encoding);
    if (!features.ok()) return features.status().message();
    return EncodeLabels(table, std::vector<int64_t>{0}, *encoding).status().message();
  };
  const auto expect = [](const std::string& found, const char* part) {
    EXPECT_NE(found.find(part), std::string::npos) << found;
  };
  expect(message({.target = "pay"}, ""), "no column 'pay'; the columns are age, city, zip, paid");
  expect(message({.target = "paid", .drop = {"x"}}, ""), "'x'");
  expect(message({.target = "paid", .drop = {"age", "city", "zip"}}, ""), "no column is left");
  expect(message({.target = "paid"}, "age,city,zip,paid\nold,Bern,1,yes\n"),
         "line 2: column 'age': found 'old'");
  expect(message({.target = "paid"}, "age,city,zip,paid\n1,Bern,1,maybe\n"),
         "line 2, column 'paid': found 'maybe', expected one of no, yes");
  expect(message({.target = "paid"}, "age,city,paid\n1,Bern,no\n"), "no column 'zip'");
}

TEST(LearnEncodingTest, AnIdentifierIsNoCategory) {
  std::string text = "id,y,empty\n";
  for (int i = 0; i < 1500; ++i) text += fmt::format("c{},1,\n", i);
  const CsvTable table = ParseCsv(text).value();
  const auto learn = [&](std::vector<std::string> drop) {
    return LearnEncoding(table, InOrder(1500), {.target = "y", .drop = std::move(drop)})
        .status()
        .message();
  };
  EXPECT_NE(learn({}).find("'c0' in line 2"), std::string::npos) << learn({});
  EXPECT_NE(learn({"id"}).find("'empty' has no value"), std::string::npos);
}

TEST(LearnEncodingTest, TextIsUtf8AndNumbersFitFloats) {
  const auto learn = [](const char* text) {
    const CsvTable table = ParseCsv(text).value();
    return LearnEncoding(table, InOrder(table.row_count()), {.target = "y"});
  };
  EXPECT_NE(learn("y,x\n1,a\n2,\xFCrich\n").status().message().find("line 3: holds text"),
            std::string::npos);
  EXPECT_EQ(learn("y,x\n1,Z\xC3\xBCrich\n")->columns[0].categories[0], "Z\xC3\xBCrich");
  EXPECT_EQ(learn("y,x\n1,1e39\n")->columns[0].categories[0], "1e39");
}

TEST_F(TableEncodingTest, SurvivesAsText) {
  const TableEncoding encoding = LearnEncoding(table_, train_, {.target = "paid"}).value();
  const std::string text = EncodingToJson(encoding);
  const TableEncoding back = EncodingFromJson(text).value();
  EXPECT_EQ(EncodingToJson(back), text);
  EXPECT_EQ(back.columns[1].categories, (std::vector<std::string>{"Basel", "Bern"}));
  EXPECT_EQ(back.columns[0].mean, 40);
  for (const char* bad : {"", "{", "[]", "{\"target\":1}", "{\"target\":\"y\",\"columns\":[{}]}"})
    EXPECT_EQ(EncodingFromJson(bad).status().code(), StatusCode::kDataLoss) << bad;
}

}  // namespace
}  // namespace minim
