// `minim shrink` as a process: one model, a repository of good and bad ones.
#include <gtest/gtest.h>

#include <algorithm>

#include "apps/testing/child.h"
#include "core/file.h"
#include "core/philox.h"
#include "data/npy.h"
#include "minim/session.h"
#include "onnx/onnx.h"
#include "train/model_builder.h"

namespace minim {
namespace {

class ShrinkVerbTest : public testing::Test {
 protected:
  void SetUp() override {
    root_ = Path(testing::TempDir()) /
            ("verb_" + std::string(testing::UnitTest::GetInstance()->current_test_info()->name()));
    std::filesystem::remove_all(root_);
    std::filesystem::create_directories(root_);
  }

  // A model with data beside it, of its own answers as labels.
  void AddModel(const std::string& name, uint64_t seed) {
    std::filesystem::create_directories(root_ / name / "1");
    std::filesystem::create_directories(root_ / name / "data");
    ModelSpec spec;
    spec.input = {16};
    spec.layers = {
        {.kind = "linear", .units = 64}, {.kind = "relu"}, {.kind = "linear", .units = 3}};
    const Graph graph = BuildModel(spec, seed).value();
    ASSERT_TRUE(WriteFileAtomic(root_ / name / "1/model.onnx", SerializeOnnx(graph).value()).ok());
    Tensor x(DType::f32, {800, 16}), y(DType::i64, {800});
    const Philox rng(seed);
    for (int64_t i = 0; i < x.size(); ++i) x.as<float>()[i] = rng.Normal(static_cast<uint64_t>(i));
    const auto session = Session::Load((root_ / name / "1/model.onnx").string()).value();
    const ConstView views[] = {x.view()};
    const Tensor scores = session->Run(views).value()[0];
    for (int64_t i = 0; i < 800; ++i) {
      const float* row = scores.as<float>().data() + i * 3;
      y.as<int64_t>()[i] = std::max_element(row, row + 3) - row;
    }
    ASSERT_TRUE(WriteNpy(root_ / name / "data/samples.npy", x.view()).ok());
    ASSERT_TRUE(WriteNpy(root_ / name / "data/labels.npy", y.view()).ok());
  }

  static std::string LineWith(const std::string& text, const std::string& part) {
    const size_t at = text.find("\n" + part);
    return at == std::string::npos ? "" : text.substr(at + 1, text.find('\n', at + 1) - at - 1);
  }

  Path root_;
};

TEST_F(ShrinkVerbTest, OneModelBecomesAFolderWithAPage) {
  AddModel("m", 1);
  const std::string data = root_ / "m/data/samples.npy", labels = root_ / "m/data/labels.npy";
  Child shrink({"shrink", root_ / "m/1/model.onnx", "--data", data, "--labels", labels,
                "--max-loss", "0.2", "--goal", "bytes", "--out", root_ / "out"});
  const std::string said = shrink.Rest();
  EXPECT_EQ(shrink.ExitCode(), 0) << said;
  EXPECT_NE(said.find("served by default"), std::string::npos) << said;
  for (const char* file : {"model.onnx", "report.json", "report.html", "variants/int8.onnx"})
    EXPECT_TRUE(std::filesystem::exists(root_ / "out/1" / file)) << file;
}

TEST_F(ShrinkVerbTest, ARepositoryIsDoneDespiteItsBadModels) {
  for (uint64_t i = 1; i <= 3; ++i) AddModel("good" + std::to_string(i), i);
  for (const char* name : {"corrupt", "dataless", "mislabelled", "unwritable"}) AddModel(name, 9);
  ASSERT_TRUE(WriteFileAtomic(root_ / "corrupt/1/model.onnx", "no model").ok());
  std::filesystem::remove_all(root_ / "dataless/data");
  ASSERT_TRUE(
      WriteNpy(root_ / "mislabelled/data/labels.npy", Tensor(DType::i64, {799}).view()).ok());
  ASSERT_TRUE(WriteFileAtomic(root_ / "unwritable/1/variants", "a file in the way").ok());
  const std::string original = ReadFile(root_ / "good1/1/model.onnx").value();

  Child shrink({"shrink", "--repository", root_, "--max-loss", "0.2", "--goal", "bytes"});
  const std::string said = shrink.Rest();
  EXPECT_EQ(shrink.ExitCode(), 1) << said;
  for (const char* name : {"good1", "good2", "good3"}) {
    EXPECT_TRUE(std::filesystem::exists(root_ / name / "1/variants/int8.onnx")) << said;
    EXPECT_TRUE(std::filesystem::exists(root_ / name / "1/report.json")) << said;
  }
  EXPECT_EQ(ReadFile(root_ / "good1/1/model.onnx").value(), original);
  EXPECT_NE(LineWith(said, "corrupt").find("model.onnx"), std::string::npos) << said;
  EXPECT_NE(LineWith(said, "dataless").find("no data"), std::string::npos) << said;
  EXPECT_NE(LineWith(said, "mislabelled").find("first dims must be equal"), std::string::npos)
      << said;
  EXPECT_NE(LineWith(said, "unwritable").find("variants"), std::string::npos) << said;
  for (const char* name : {"corrupt", "dataless", "mislabelled", "unwritable"})
    EXPECT_FALSE(std::filesystem::exists(root_ / name / "1/report.json")) << name;

  Child again({"shrink", "--repository", root_, "--max-loss", "0.2", "--goal", "bytes"});
  const std::string repeated = again.Rest();
  EXPECT_NE(LineWith(repeated, "good2").find("as before"), std::string::npos) << repeated;
}

TEST_F(ShrinkVerbTest, WrongArgumentsAreOneLine) {
  for (const std::vector<std::string>& arguments :
       {std::vector<std::string>{"shrink"},
        {"shrink", "m.onnx"},
        {"shrink", "m.onnx", "--data", "x.npy", "--out", "o", "--goal", "speed"},
        {"shrink", "m.onnx", "--data", "x.npy", "--out", "o", "--recipe", "fold"},
        {"shrink", "m.onnx", "--data", "x.npy", "--out", "o", "--calibrator", "best"},
        {"shrink", "no-such.onnx", "--data", "x.npy", "--out", "o"}}) {
    Child shrink(arguments);
    const std::string said = shrink.Rest();
    EXPECT_EQ(shrink.ExitCode(), 2) << said;
    const size_t at = said.find("minim: ");  // behind a line of progress, maybe
    ASSERT_NE(at, std::string::npos) << said;
    EXPECT_EQ(std::count(said.begin() + static_cast<ptrdiff_t>(at), said.end(), '\n'), 1) << said;
  }
}

}  // namespace
}  // namespace minim
