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
    Write("a/minim.toml", "[serving]\nversions = \"all\"\n");
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
    RepositoryOptions options{.loader = LoadFake};
    options.log = [this](const std::string& line) { log_ += line + "\n"; };
    auto repository = Repository::Open(root_, options, std::make_shared<Metrics>());
    EXPECT_TRUE(repository.ok());
    repository_ = std::move(*repository);
    return *repository_;
  }
  Path root_;
  std::string log_;
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
  Write("a/3/model.onnx", "bad");
  const Status status = repository.Load("a");
  EXPECT_NE(status.message().find("version 3"), std::string::npos) << status.message();
  EXPECT_EQ((*(*repository.Find("a", ""))->Tier(""))->generation, before);
  EXPECT_NE(repository.Index()[0].reason.find("not a model"), std::string::npos);
  Write("a/3/model.onnx", "5");
  Write("a/minim.toml", "[serving]\nversion = \"all\"\n");
  EXPECT_NE(repository.Load("a").message().find("[serving] version: unknown key"),
            std::string::npos);
  Write("a/minim.toml", "");
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

TEST_F(RepositoryTest, AVariantThatDoesNotLoadIsLeftOut) {
  for (const auto& [text, reason] : {std::pair("wide", "differ"), {"bad", "not a model"}}) {
    Write("a/3/variants/int8.onnx", text);
    Repository& repository = Open();
    ASSERT_TRUE(repository.LoadAll().ok());
    const auto version = *repository.Find("a", "");
    EXPECT_FALSE(version->Tier("int8").ok());
    EXPECT_EQ((*version->Tier(""))->name, "fp32");
    const TierStatus status = version->chain->Describe()[0];
    EXPECT_EQ(status.state, "not offered");
    EXPECT_NE(status.reason.find(reason), std::string::npos) << status.reason;
    EXPECT_NE(log_.find("tier 'int8' is left out"), std::string::npos) << log_;
  }
}

TEST_F(RepositoryTest, TheNewestIsServedUnlessTheConfigurationSaysMore) {
  Write("a/minim.toml", "");
  Repository& repository = Open();
  const auto versions = [&] {
    std::string list;
    EXPECT_TRUE(repository.Load("a").ok());
    for (const IndexEntry& entry : repository.Index()) list += entry.version + " ";
    return list;
  };
  EXPECT_EQ(versions(), "3 ");
  Write("a/minim.toml", "[rollout]\nmode = \"shadow\"\n");
  EXPECT_EQ(versions(), "1 3 ");
  Write("a/config.pbtxt", "max_batch_size: 8 version_policy { specific { versions: 1 } }");
  EXPECT_EQ(versions(), "1 ");
  EXPECT_EQ((*repository.Find("a", ""))->max_batch, 8);
  Write("a/config.pbtxt", "version_policy { specific { versions: 9 } }");
  EXPECT_EQ(repository.Load("a").code(), StatusCode::kNotFound);
  Write("a/config.pbtxt", "max_batch_size: 8 input { name: \"x\" data_type: TYPE_INT8 dims: 2 }");
  EXPECT_NE(repository.Load("a").message().find("the model has TYPE_FP32"), std::string::npos);
}

TEST_F(RepositoryTest, PollingLoadsWhatChangedOnceItIsWhole) {
  Repository& repository = Open();
  ASSERT_TRUE(repository.LoadAll().ok());
  const auto generation = [&] { return (*(*repository.Find("a", ""))->Tier(""))->generation; };
  const uint64_t first = generation();
  repository.Poll();
  repository.Poll();
  EXPECT_EQ(generation(), first) << "nothing changed";
  Write("a/3/model.onnx", "33");
  repository.Poll();
  EXPECT_EQ(generation(), first) << "seen once: it may still be being written";
  Write("a/3/model.onnx", "333");
  repository.Poll();
  EXPECT_EQ(generation(), first) << "it was";
  repository.Poll();
  EXPECT_GT(generation(), first);
  Write("b/1/model.onnx", "4");
  repository.Poll();
  repository.Poll();
  EXPECT_TRUE(repository.Find("b", "").ok());
  Write("b/1/model.onnx", "bad");
  for (int i = 0; i < 4; ++i) repository.Poll();
  EXPECT_TRUE(repository.Find("b", "").ok()) << "the old one stays";
  EXPECT_EQ(log_.find("not a model"), log_.rfind("not a model")) << "tried once: " << log_;
  fs::remove_all(root_ / "b");
  repository.Poll();
  EXPECT_FALSE(repository.Find("b", "").ok());
}

TEST_F(RepositoryTest, SettingsChangeWhileRunning) {
  Repository& repository = Open();
  ASSERT_TRUE(repository.LoadAll().ok());
  EXPECT_TRUE(repository.Configure("a", R"({"serving":{"timeout_ms":70}})").ok());
  EXPECT_EQ((*repository.Find("a", ""))->config->Get()->default_timeout,
            std::chrono::milliseconds(70));
  EXPECT_EQ(repository.Configure("a", "{").code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(repository.Configure("b", "{}").code(), StatusCode::kNotFound);
}

}  // namespace
}  // namespace minim::serve
