// `minim tune` as a process, and who goes by what it wrote.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "apps/testing/child.h"
#include "core/file.h"
#include "graph/text.h"
#include "onnx/onnx.h"
#include "ops/infer.h"

namespace minim {
namespace {

class TuneVerbTest : public testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::remove_all(root_);
    std::filesystem::create_directories(root_);
    ::setenv("MINIM_TUNING", (root_ / "cache/tuning.json").c_str(), 1);
    auto graph = ParseText(R"(graph "g"(x: f32[N,8,24,24]) -> (y) {
      const d: i64[4] = [8, 8, 3, 3]
      w = ConstantOfShape(d)
      c = Conv(x, w) {pads=[1,1,1,1]}
      y = GlobalMaxPool(c) })");
    ASSERT_TRUE(graph.ok()) << graph.status().message();
    ASSERT_TRUE(InferGraph(*graph).ok());
    ASSERT_TRUE(WriteFileAtomic(model_, SerializeOnnx(*graph).value()).ok());
  }
  void TearDown() override { ::setenv("MINIM_TUNING", "off", 1); }

  static std::string Output(std::vector<std::string> arguments, int code = 0) {
    Child child(std::move(arguments));
    std::string text = child.Rest();
    EXPECT_EQ(child.ExitCode(), code) << text;
    return text;
  }

  const Path root_ = Path(testing::TempDir()) / "tune_verb";
  const Path model_ = root_ / "model.onnx";
};

TEST_F(TuneVerbTest, WhatIsMeasuredIsKeptAndUsed) {
  EXPECT_NE(Output({"doctor"}).find("tuning   none"), std::string::npos);
  const std::string said = Output({"tune", model_, "--batch", "1", "4", "--seconds", "0.2"});
  EXPECT_NE(said.find("batch 4, 1 thread, fp32:\n"), std::string::npos) << said;
  EXPECT_NE(said.find("kept in " + (root_ / "cache/tuning.json").string()), std::string::npos);
  EXPECT_NE(Output({"doctor"}).find(" steps, 1 batches"), std::string::npos);

  // As if a batch of 4 were fastest in pairs: every verb that loads the model goes by it.
  nlohmann::json json = nlohmann::json::parse(ReadFile(root_ / "cache/tuning.json").value());
  for (auto& level : json["levels"])
    for (auto& together : level["batches"]) together = 2;
  ASSERT_TRUE(WriteFileAtomic(root_ / "cache/tuning.json", json.dump()).ok());
  EXPECT_NE(Output({"explain", model_, "--batch", "4"}).find("2 slices of the batch"),
            std::string::npos);
  EXPECT_EQ(Output({"explain", model_, "--batch", "6"}).find("slices of the batch"),
            std::string::npos);
}

TEST_F(TuneVerbTest, WhatCannotBeDoneIsOneLine) {
  EXPECT_NE(Output({"tune", model_, "--batch", "0"}, 2).find("--batch is 0"), std::string::npos);
  EXPECT_NE(Output({"tune", model_, "--seconds", "-1"}, 2).find("--seconds is -1"),
            std::string::npos);
  std::filesystem::create_directories(root_ / "cache");
  ASSERT_TRUE(WriteFileAtomic(root_ / "cache/tuning.json", "{}").ok());
  for (const char* verb : {"tune", "explain"})
    EXPECT_NE(Output({verb, model_}, 2).find("is no file of measurements"), std::string::npos);
  ::setenv("MINIM_TUNING", "off", 1);
  EXPECT_NE(Output({"tune", model_}, 2).find("MINIM_TUNING is off"), std::string::npos);
}

}  // namespace
}  // namespace minim
