#include <gtest/gtest.h>

#include "core/file.h"
#include "minim/train.h"

namespace minim {
namespace {

Result<TrainConfig> Parse(const std::string& text) {
  const Path path = Path(testing::TempDir()) / "minim_config_test.toml";
  EXPECT_TRUE(WriteFileAtomic(path, text).ok());
  auto config = ReadTrainConfig(path);
  std::filesystem::remove(path);
  return config;
}

constexpr const char* kGood = R"(
[data]
train_samples = "x.npy"
train_labels = "/abs/y.npy"
[model]
input = [1, 28, 28]
layers = [{conv = 8, kernel = 3, padding = 1, bias = false}, "relu", {max_pool = 2}, "flatten", {linear = 10}]
[train]
epochs = 3
precision = "fp16"
fp32_ops = ["Gemm"]
[optimizer]
name = "sgd"
learning_rate = 1
groups = [{match = "bias", weight_decay = 0.5}]
[schedule]
name = "one_cycle"
[scaler]
max_scale = 1024
)";

TEST(TrainConfigTest, ReadsEverythingAndResolvesPaths) {
  const auto config = Parse(kGood);
  ASSERT_TRUE(config.ok()) << config.status().message();
  EXPECT_EQ(config->optimizer.kind, OptimizerKind::kSgd);
  EXPECT_EQ(config->optimizer.learning_rate, 1);
  EXPECT_EQ(config->optimizer.groups.at(0).weight_decay, 0.5);
  EXPECT_EQ(config->precision, TrainPrecision::kFp16);
  EXPECT_EQ(config->fp32_ops, std::vector<std::string>{"Gemm"});
  EXPECT_EQ(config->schedule.kind, ScheduleKind::kOneCycle);
  EXPECT_EQ(config->scaler.max_scale, 1024);
  EXPECT_EQ(config->epochs, 3);
  EXPECT_EQ(config->model.layers[0].units, 8);
  EXPECT_FALSE(config->model.layers[0].bias);
  EXPECT_EQ(config->model.layers[2].kernel, 2);
  EXPECT_EQ(config->train_samples, (Path(testing::TempDir()) / "x.npy").string());
  EXPECT_EQ(config->train_labels, "/abs/y.npy");
}

TEST(TrainConfigTest, ErrorsNameTheKey) {
  const auto message = [](const std::string& from, const std::string& to) {
    std::string text = kGood;
    text.replace(text.find(from), from.size(), to);
    return Parse(text).status().message();
  };
  EXPECT_NE(message("epochs = 3", "epochs = \"x\"").find("epochs"), std::string::npos);
  EXPECT_NE(message("epochs = 3", "epoch = 3").find("epoch: unknown key"), std::string::npos);
  EXPECT_NE(message("\"sgd\"", "\"sgdx\"").find("sgd, adam"), std::string::npos);
  EXPECT_NE(message("weight_decay = 0.5", "decay = 0.5").find("'decay'"), std::string::npos);
  EXPECT_NE(message("{max_pool = 2}", "{dropout = true}").find("dropout"), std::string::npos);
  EXPECT_NE(message("[train]", "[trian]").find("trian"), std::string::npos);
  EXPECT_NE(message("conv = 8", "conf = 8").find("conf"), std::string::npos);
  EXPECT_NE(message("[model]", "[model").find("line"), std::string::npos);
  EXPECT_EQ(ReadTrainConfig("/nonexistent.toml").status().code(), StatusCode::kNotFound);
}

}  // namespace
}  // namespace minim
