#include <fmt/format.h>
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

TEST(TrainConfigTest, LayersTakeTheirKeys) {
  const auto config = Parse(R"(
[data]
train_samples = "x.npy"
train_labels = "y.npy"
[model]
layers = [{average_pool = 3, stride = 1, padding = 1}, {dropout = 0.25}, {dropout = 0}]
)");
  ASSERT_TRUE(config.ok()) << config.status().message();
  const std::vector<LayerSpec>& layers = config->model.layers;
  EXPECT_EQ(layers[0].kernel, 3);
  EXPECT_EQ(layers[0].stride, 1);
  EXPECT_EQ(layers[0].padding, 1);
  EXPECT_EQ(layers[1].kind, "dropout");
  EXPECT_EQ(layers[1].ratio, 0.25);
  EXPECT_EQ(layers[2].ratio, 0);
}

// What a report prints may be written into a recipe.
TEST(TrainConfigTest, NamesReadBack) {
  const auto with = [](const std::string& key, std::string_view name) {
    std::string text = kGood;
    const size_t at = text.find(key + " = ");
    text.replace(at, text.find('\n', at) - at, fmt::format("{} = \"{}\"", key, name));
    auto config = Parse(text);
    EXPECT_TRUE(config.ok()) << config.status().message();
    return config.ok() ? *std::move(config) : TrainConfig();
  };
  for (TrainPrecision precision :
       {TrainPrecision::kFp32, TrainPrecision::kBf16, TrainPrecision::kFp16, TrainPrecision::kAuto})
    EXPECT_EQ(with("precision", Name(precision)).precision, precision);
  for (ActivationStorage storage : {ActivationStorage::kWhole, ActivationStorage::kHalf,
                                    ActivationStorage::kInt8, ActivationStorage::kInt4})
    EXPECT_EQ(with("storage", Name(storage)).memory.storage, storage);
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
  const auto expect = [&](const std::string& from, const std::string& to, const std::string& part) {
    const std::string found = message(from, to);
    EXPECT_NE(found.find(part), std::string::npos) << to << ": " << found;
  };
  expect("kernel = 3", "kernel = -3", "'kernel' needs a whole number of at least 0");
  expect("kernel = 3", "kernel = 1.5", "'kernel' needs a whole number of at least 0");
  expect("{max_pool = 2}", "{stride = 2}", "a table needs one of average_pool, conv");
  expect("{max_pool = 2}", "{dropout = 0.1, bias = true}", "dropout takes a number");
  expect("{max_pool = 2}", "3", "a layer is a name or a table");
  expect("[1, 28, 28]", "[1, 0, 28]", "sizes are whole numbers of at least 1");
  expect("[1, 28, 28]", "28", "input: expected a list of sizes");
  expect("[{conv = 8", "\"relu\" #", "layers: expected a list");
  expect("input =", "onnx = \"m.onnx\"\ninput =", "give either onnx or layers");
  expect("input =", "round_up_channels = -1\ninput =", "round_up_channels is -1");
  expect("[\"Gemm\"]", "\"Gemm\"", "fp32_ops: expected a list of strings");
  expect("[\"Gemm\"]", "[1]", "fp32_ops: expected a list of strings");
  expect("[{match = \"bias\", weight_decay = 0.5}]", "3", "groups: expected a list");
  expect("match = \"bias\"", "match = 3", "a group is a table with a string 'match'");
  expect("budget_mib = 1.5", "budget_mib = -1", "budget_mib: -1 is no size");
  expect("budget_mib = 1.5", "budget_mib = nan", "budget_mib: nan is no size");
  EXPECT_EQ(ReadTrainConfig("/nonexistent.toml").status().code(), StatusCode::kNotFound);
}

}  // namespace
}  // namespace minim
