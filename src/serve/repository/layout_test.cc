#include "serve/repository/layout.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

namespace minim::serve {
namespace {

namespace fs = std::filesystem;

class LayoutTest : public testing::Test {
 protected:
  void SetUp() override {
    root_ = Path(testing::TempDir()) / ("minim_layout_" + std::to_string(::getpid()));
    fs::remove_all(root_);
    Write("repo/a/1/model.onnx");
    Write("repo/a/2/model.onnx");
    Write("repo/a/10/model.onnx");
    Write("repo/a/10/variants/int8.onnx");
    Write("repo/a/10/variants/notes.txt");
    Write("repo/a/10/report.json",
          R"({"variants": [{"name": "int8", "verdict": "pass", "agreement": 0.75}, 3]})");
    Write("repo/a/x/model.onnx");
    Write("repo/b b/1/model.onnx");
    Write("repo/empty/readme");
    Write("outside.onnx");
  }
  void TearDown() override { fs::remove_all(root_); }
  void Write(const std::string& path, const std::string& text = "x") {
    fs::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text;
  }
  RepositoryLayout Open(const std::string& path, bool bf16 = false) {
    auto layout = RepositoryLayout::Open(root_ / path, bf16);
    EXPECT_TRUE(layout.ok()) << layout.status().message();
    return *layout;
  }
  Path root_;
};

TEST_F(LayoutTest, ARepository) {
  const RepositoryLayout layout = Open("repo");
  EXPECT_EQ(layout.ModelNames(), (std::vector<std::string>{"a", "b b"}));
  const auto model = layout.Scan("a");
  ASSERT_TRUE(model.ok()) << model.status().message();
  ASSERT_EQ(model->versions.size(), 3u);
  EXPECT_EQ(model->versions[2].number, 10);
  ASSERT_EQ(model->versions[2].tiers.size(), 2u);
  EXPECT_EQ(model->versions[2].tiers[1].tier, "int8");
  EXPECT_TRUE(model->versions[2].gates.at("int8").passed);
  EXPECT_EQ(model->versions[2].gates.at("int8").disagreement, 0.25);
  EXPECT_TRUE(model->versions[0].gates.empty());
}

TEST_F(LayoutTest, OneModelAndOneFile) {
  EXPECT_EQ(Open("repo/b b").ModelNames(), (std::vector<std::string>{"b b"}));
  EXPECT_EQ(Open("repo/b b").Scan("b b")->versions.size(), 1u);
  const RepositoryLayout file = Open("outside.onnx", true);
  const auto model = file.Scan("outside");
  ASSERT_EQ(model->versions[0].tiers.size(), 2u);
  EXPECT_TRUE(model->versions[0].tiers[1].bf16_arithmetic);
  EXPECT_EQ(file.Scan("other").status().code(), StatusCode::kNotFound);
}

TEST_F(LayoutTest, LinksOutOfTheRepositoryAreRefused) {
  fs::create_directories(root_ / "repo/evil/1/variants");
  fs::create_symlink(root_ / "outside.onnx", root_ / "repo/evil/1/model.onnx");
  EXPECT_EQ(Open("repo").Scan("evil").status().code(), StatusCode::kInvalidArgument);
  fs::remove(root_ / "repo/evil/1/model.onnx");
  fs::create_symlink(root_ / "repo/a/1/model.onnx", root_ / "repo/evil/1/model.onnx");
  fs::create_symlink(root_ / "outside.onnx", root_ / "repo/evil/1/variants/int8.onnx");
  const auto model = Open("repo").Scan("evil");
  ASSERT_TRUE(model.ok()) << "a link within the repository is fine";
  EXPECT_EQ(model->versions[0].tiers.size(), 1u) << "the other variant is left out";
}

TEST_F(LayoutTest, NamesAreChecked) {
  const RepositoryLayout layout = Open("repo");
  for (const std::string& bad :
       {std::string(), std::string("."), std::string(".."), std::string("../repo/a"),
        std::string("/etc"), std::string("a\0b", 3), std::string(300, 'a'), std::string("a\\b"),
        std::string("\xff"), std::string(".hidden")})
    EXPECT_EQ(layout.Scan(bad).status().code(), StatusCode::kInvalidArgument) << bad;
  EXPECT_EQ(layout.Scan("absent").status().code(), StatusCode::kNotFound);
  EXPECT_EQ(layout.Scan("empty").status().code(), StatusCode::kNotFound);
  EXPECT_TRUE(CheckModelName("mod\xC3\xA8le").ok());
}

TEST_F(LayoutTest, NothingToServeIsExplained) {
  EXPECT_EQ(RepositoryLayout::Open(root_ / "absent", false).status().code(), StatusCode::kNotFound);
  EXPECT_NE(
      RepositoryLayout::Open(root_ / "repo/empty", false).status().message().find("model.onnx"),
      std::string::npos);
}

}  // namespace
}  // namespace minim::serve
