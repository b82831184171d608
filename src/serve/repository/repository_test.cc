#include "serve/repository/repository.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

#include "serve/testing/fake_model.h"

namespace minim::serve {
namespace {

namespace fs = std::filesystem;

// The file's text is the factor of a FakeModel; "bad" does not load.
Result<std::shared_ptr<Model>> LoadFake(const TierSource& source) {
  MINIM_TRY(const std::string text, ReadFile(source.path));
  if (text == "bad") return DataLoss("{}: not a model", source.path.string());
  const int64_t width = text == "wide" ? 3 : 2;
  return std::shared_ptr<Model>(
      std::make_shared<FakeModel>(width, width == 3 ? 2 : std::stof(text)));
}

class RepositoryTest : public testing::Test {
 protected:
  void SetUp() override {
    root_ = Path(testing::TempDir()) / ("minim_repository_" + std::to_string(::getpid()));
    fs::remove_all(root_);
    Write("a/1/model.onnx", "2");
    Write("a/3/model.onnx", "3");
    Write("a/3/variants/int8.onnx", "4");
  }
  void TearDown() override { fs::remove_all(root_); }
  void Write(const std::string& path, const std::string& text) {
    fs::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text;
  }
  Repository& Open() {
    auto repository = Repository::Open(root_, {.loader = LoadFake}, std::make_shared<Metrics>());
    EXPECT_TRUE(repository.ok());
    repository_ = std::move(*repository);
    return *repository_;
  }
  Path root_;
  std::unique_ptr<Repository> repository_;
};

TEST_F(RepositoryTest, LatestByDefaultOthersByNumber) {
  Repository& repository = Open();
  ASSERT_TRUE(repository.LoadAll().ok());
  EXPECT_EQ((*repository.Find("a", ""))->version, "3");
  EXPECT_EQ((*repository.Find("a", "1"))->version, "1");
  EXPECT_EQ((*repository.Find("a", "3"))->max_batch, 50);
  EXPECT_EQ(repository.Find("a", "2").status().code(), StatusCode::kNotFound);
  EXPECT_EQ(repository.Find("b", "").status().code(), StatusCode::kNotFound);
}

TEST_F(RepositoryTest, TiersAreChosenByName) {
  Repository& repository = Open();
  ASSERT_TRUE(repository.LoadAll().ok());
  const auto version = *repository.Find("a", "");
  EXPECT_EQ((*version->Tier(""))->name, "fp32");
  EXPECT_EQ((*version->Tier("int8"))->name, "int8");
  EXPECT_NE(version->Tier("int4").status().message().find("'fp32', 'int8'"), std::string::npos);
  EXPECT_NE((*version->Tier(""))->generation, (*version->Tier("int8"))->generation);
}

TEST_F(RepositoryTest, AFailedReloadKeepsTheOldAndSaysWhy) {
  Repository& repository = Open();
  ASSERT_TRUE(repository.LoadAll().ok());
  const uint64_t before = (*(*repository.Find("a", ""))->Tier(""))->generation;
  Write("a/3/variants/int8.onnx", "bad");
  const Status status = repository.Load("a");
  EXPECT_NE(status.message().find("tier 'int8'"), std::string::npos) << status.message();
  EXPECT_EQ((*(*repository.Find("a", ""))->Tier(""))->generation, before);
  EXPECT_NE(repository.Index()[0].reason.find("not a model"), std::string::npos);
  Write("a/3/variants/int8.onnx", "5");
  ASSERT_TRUE(repository.Load("a").ok());
  EXPECT_NE((*(*repository.Find("a", ""))->Tier(""))->generation, before);
  EXPECT_EQ(repository.Index()[0].reason, "");
}

TEST_F(RepositoryTest, UnloadedModelsStayUsableForWhoHoldsThem) {
  Repository& repository = Open();
  ASSERT_TRUE(repository.LoadAll().ok());
  const auto held = *repository.Find("a", "");
  ASSERT_TRUE(repository.Unload("a").ok());
  EXPECT_FALSE(repository.Find("a", "").ok());
  EXPECT_FALSE(repository.Unload("a").ok());
  EXPECT_FALSE(repository.Index()[0].ready);
  EXPECT_EQ(held->reference().inputs()[0].name, "x");
  EXPECT_TRUE(repository.Load("a").ok());
}

TEST_F(RepositoryTest, OneBadModelDoesNotStopTheOthers) {
  Write("b/1/model.onnx", "bad");
  Repository& repository = Open();
  EXPECT_TRUE(repository.LoadAll().ok());
  const auto index = repository.Index();
  ASSERT_EQ(index.size(), 3u);
  EXPECT_EQ(index[2].name, "b");
  EXPECT_FALSE(index[2].ready);
  EXPECT_FALSE(repository.Load("../a").ok());
}

TEST_F(RepositoryTest, VariantsMustLookLikeTheReference) {
  Write("a/3/variants/int8.onnx", "wide");
  EXPECT_NE(Open().LoadAll().message().find("differ"), std::string::npos);
}

}  // namespace
}  // namespace minim::serve
