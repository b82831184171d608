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
[memory]
budget_mib = 1.5
storage = "int8"
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
  EXPECT_EQ(config->memory.budget_bytes, 3u << 19);
  EXPECT_EQ(config->memory.storage, ActivationStorage::kInt8);
  EXPECT_FALSE(config->memory.sqrt_checkpoints);
  EXPECT_EQ(config->epochs, 3);
  EXPECT_EQ(config->model.layers[0].units, 8);
  EXPECT_FALSE(config->model.layers[0].bias);
  EXPECT_EQ(config->model.layers[2].kernel, 2);
  EXPECT_EQ(config->train_samples, (Path(testing::TempDir()) / "x.npy").string());
  EXPECT_EQ(config->train_labels, "/abs/y.npy");
}

TEST(TrainConfigTest, TablesSplitsAndMetrics) {
  const std::string text = R"(
[data]
csv = "t.csv"
test_csv = "more.csv"
target = "y"
drop = ["id"]
categorical = ["zip", "year"]
test_fraction = 0.25
split = "chronological"
split_gap = 3
split_seed = 9
[model]
standardize = true
layers = [{linear = 2}]
[train]
metric = "auc"
class_weights = [1, 2.5]
[output]
checkpoint_steps = 100
keep = 3
)";
  const auto config = Parse(text);
  ASSERT_TRUE(config.ok()) << config.status().message();
  EXPECT_EQ(config->csv.file, (Path(testing::TempDir()) / "t.csv").string());
  EXPECT_EQ(config->csv.test_file, (Path(testing::TempDir()) / "more.csv").string());
  EXPECT_EQ(config->csv.target, "y");
  EXPECT_EQ(config->csv.categorical, (std::vector<std::string>{"zip", "year"}));
  EXPECT_EQ(config->split.kind, SplitKind::kChronological);
  EXPECT_EQ(config->split.test_fraction, 0.25);
  EXPECT_EQ(config->split.gap, 3);
  EXPECT_EQ(config->split.seed, 9u);
  EXPECT_TRUE(config->model.standardize);
  EXPECT_EQ(config->metric, MetricKind::kAuc);
  EXPECT_EQ(config->class_weights, (std::vector<double>{1, 2.5}));
  EXPECT_EQ(config->checkpoint_steps, 100);
  EXPECT_EQ(config->keep_checkpoints, 3);
  const auto with = [&](const std::string& weights) {
    std::string changed = text;
    changed.replace(changed.find("[1, 2.5]"), 8, weights);
    return Parse(changed);
  };
  EXPECT_TRUE(with("\"balanced\"")->balance_classes);
  for (const char* bad : {"\"equal\"", "2", "[\"a\"]"})
    EXPECT_NE(with(bad).status().message().find("class_weights"), std::string::npos) << bad;
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
