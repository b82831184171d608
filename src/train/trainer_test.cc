// Training end to end on small synthetic problems.
#include <gtest/gtest.h>

#include "data/dataset.h"
#include "graph/text.h"
#include "minim/session.h"
#include "onnx/onnx.h"
#include "ops/infer.h"
#include "train/metrics.h"
#include "train/model_builder.h"
#include "train/testing/moons.h"

namespace minim {
namespace {

TEST_F(TrainTest, AdamSolvesTheMoons) {
  const auto report = Train(Config());
  ASSERT_TRUE(report.ok()) << report.status().message();
  EXPECT_GT(report->epoch_accuracy.back(), 0.97);
  EXPECT_LT(report->epoch_loss.back(), report->epoch_loss.front());
  EXPECT_EQ(report->parameters, 2 * 32 + 32 + 32 * 2 + 2);
  const auto session = Session::Load((folder_ / "model.onnx").string());
  ASSERT_TRUE(session.ok()) << session.status().message();
  ArraySource data(ReadDataset(folder_ / "x.npy", folder_ / "y.npy", {}).value());
  EXPECT_EQ(Evaluate(**session, data, LossKind::kCrossEntropy)->accuracy,
            report->epoch_accuracy.back());
}

TEST_F(TrainTest, SgdAndMseLearnToo) {
  TrainConfig config = Config();
  config.optimizer.kind = OptimizerKind::kSgd;
  config.schedule.kind = ScheduleKind::kCosine;
  config.optimizer.learning_rate = 0.1;
  EXPECT_GT(Train(config)->epoch_accuracy.back(), 0.95);
  config.loss = LossKind::kMeanSquaredError;
  config.model.layers.back().units = 1;
  config.test_samples = config.test_labels = "";
  const auto report = Train(config);
  ASSERT_TRUE(report.ok()) << report.status().message();
  EXPECT_LT(report->epoch_loss.back(), 0.05);
}

TEST_F(TrainTest, LowPrecisionLearnsAsWell) {
  for (TrainPrecision precision :
       {TrainPrecision::kBf16, TrainPrecision::kFp16, TrainPrecision::kAuto}) {
    TrainConfig config = Config();
    config.precision = precision;
    config.scaler.initial_scale = 1 << 18;
    const auto report = Train(config);
    ASSERT_TRUE(report.ok()) << report.status().message();
    EXPECT_GT(report->epoch_accuracy.back(), 0.97) << Name(precision);
    EXPECT_EQ(report->precision_reason.empty(), precision != TrainPrecision::kAuto);
  }
}

TEST_F(TrainTest, AccumulatedBatchesAreOneLargeBatch) {
  const auto losses = [&](int64_t batch, int64_t accumulate) {
    TrainConfig config = Config();
    config.epochs = 2;
    config.batch = batch;
    config.accumulate = accumulate;
    std::vector<double> result;
    EXPECT_TRUE(Train(config, [&](const TrainProgress& p) {
                  result.push_back(p.step_loss);
                  return true;
                }).ok());
    return result;
  };
  const std::vector<double> large = losses(64, 1), small = losses(16, 4);
  ASSERT_EQ(large.size(), small.size());
  for (size_t i = 0; i < large.size(); ++i) EXPECT_NEAR(small[i], large[i], 1e-5);
}

TEST_F(TrainTest, BadDataIsNamedAndStopsTheRun) {
  Tensor x = ReadNpy(folder_ / "x.npy").value();
  x.as<float>()[100] = std::numeric_limits<float>::quiet_NaN();
  ASSERT_TRUE(WriteNpy(folder_ / "nan.npy", x.view()).ok());
  TrainConfig config = Config();
  config.train_samples = (folder_ / "nan.npy").string();
  config.batch = 512;
  config.bad_steps = 2;
  const auto report = Train(config);
  EXPECT_EQ(report.status().code(), StatusCode::kInternal);
  EXPECT_NE(report.status().message().find("samples of this step hold"), std::string::npos)
      << report.status().message();
}

TEST_F(TrainTest, TheFirstBadOpIsNamed) {
  TrainConfig config = Config();
  config.precision = TrainPrecision::kFp16;
  config.scaler.initial_scale = config.scaler.min_scale = config.scaler.max_scale = 1e9;
  config.optimizer.learning_rate = 0.1;
  config.optimizer.kind = OptimizerKind::kSgd;
  config.bad_steps = 1;
  const std::string message = Train(config).status().message();
  EXPECT_NE(message.find("made the first value that is not finite"), std::string::npos) << message;
  EXPECT_NE(message.find("gradient of"), std::string::npos) << message;
}

TEST_F(TrainTest, AGivenUpRunKeepsItsParameters) {
  TrainConfig config = Config();
  config.optimizer = {.kind = OptimizerKind::kSgd, .learning_rate = 1e30};
  config.checkpoint = (folder_ / "run.safetensors").string();
  const std::string message = Train(config).status().message();
  EXPECT_NE(message.find("run.safetensors.diverged"), std::string::npos) << message;
  EXPECT_TRUE(std::filesystem::exists(config.checkpoint + ".diverged"));
}

TEST_F(TrainTest, BinaryLabelsAreMeasuredByTheSignOfTheLogit) {
  TrainConfig config = Config();
  config.model.layers.back().units = 1;
  config.loss = LossKind::kBinaryCrossEntropy;
  const auto report = Train(config);
  ASSERT_TRUE(report.ok()) << report.status().message();
  EXPECT_GT(report->epoch_accuracy.back(), 0.97);
  Tensor y = ReadNpy(folder_ / "y.npy").value();
  y.as<int64_t>()[7] = 2;
  ASSERT_TRUE(WriteNpy(folder_ / "two.npy", y.view()).ok());
  config.train_labels = (folder_ / "two.npy").string();
  EXPECT_NE(Train(config).status().message().find("label 2"), std::string::npos);
}

TEST_F(TrainTest, SettingsThatMatchNothingAreErrors) {
  TrainConfig config = Config();
  config.optimizer.groups = {{.match = "bias"}, {.match = "conv"}};
  EXPECT_NE(Train(config).status().message().find("'conv' matches no parameter"),
            std::string::npos);
  config = Config();
  config.precision = TrainPrecision::kBf16;
  config.fp32_ops = {"Softmaxx"};
  EXPECT_NE(Train(config).status().message().find("'Softmaxx'"), std::string::npos);
}

// A file exported in training mode.
TEST_F(TrainTest, WhatIsExportedIsForInference) {
  const Philox rng(5);
  uint64_t draw = 0;
  const auto list = [](size_t n, auto&& value) {
    std::string text = "[";
    for (size_t i = 0; i < n; ++i) text += fmt::format("{}{}", i == 0 ? "" : ", ", value());
    return text + "]";
  };
  const auto random = [&] { return rng.Uniform(draw++) - 0.5f; };
  const auto all = [](float value) { return [value] { return value; }; };
  const std::string text = fmt::format(
      R"(graph "g"(x: f32[N,2]) -> (y) {{
    const w: f32[2,32] = {}
    const v: f32[32,2] = {}
    const one: f32[32] = {}
    const zero: f32[32] = {}
    const mean: f32[32] = {}
    const var: f32[32] = {}
    const ratio: f32[] = [0.25]
    const training: bool[] = [1]
    a = MatMul(x, w)
    n, next_mean, next_var = BatchNormalization(a, one, zero, mean, var) {{training_mode=1}}
    r = Relu(n)
    d = Dropout(r, ratio, training)
    y = MatMul(d, v) }})",
      list(64, random), list(64, random), list(32, all(1)), list(32, all(0)), list(32, all(0)),
      list(32, all(1)));
  auto graph = ParseText(text);
  ASSERT_TRUE(graph.ok()) << graph.status().message();
  ASSERT_TRUE(InferGraph(*graph).ok());
  TrainConfig config = Config();
  config.model = {.onnx = (folder_ / "training.onnx").string()};
  ASSERT_TRUE(ExportOnnx(*graph, config.model.onnx).ok());
  const auto report = Train(config);
  ASSERT_TRUE(report.ok()) << report.status().message();
  EXPECT_GT(report->epoch_accuracy.back(), 0.95);
  const Graph trained = ImportOnnx(config.onnx_out).value();
  for (const Node& node : trained.nodes) {
    EXPECT_EQ(node.attributes.Int("training_mode", 0), 0);
    if (node.Is("Dropout")) {
      EXPECT_EQ(node.input(2), kNoValue);
    }
  }
}

TEST_F(TrainTest, StopsEarly) {
  TrainConfig config = Config();
  config.optimizer.learning_rate = 1e-9;
  config.stop_after = 2;
  const auto report = Train(config);
  ASSERT_TRUE(report.ok());
  EXPECT_TRUE(report->stopped_early);
  EXPECT_LT(report->epoch_loss.size(), 25u);
}

TEST_F(TrainTest, TheBestEpochIsExportedWhereStoppingIsAsked) {
  TrainConfig config = Config();
  config.stop_after = 2;
  const auto report = Train(config);
  ASSERT_TRUE(report.ok()) << report.status().message();
  ASSERT_TRUE(report->stopped_early);
  const auto& accuracies = report->epoch_accuracy;
  const auto best = std::max_element(accuracies.begin(), accuracies.end()) - accuracies.begin();
  EXPECT_EQ(report->exported_epoch, best + 1);
  EXPECT_EQ(report->exported_epoch, static_cast<int64_t>(accuracies.size()) - 2);
  ArraySource data(ReadDataset(folder_ / "x.npy", folder_ / "y.npy", {}).value());
  const auto session = Session::Load(config.onnx_out);
  EXPECT_EQ(Evaluate(**session, data, LossKind::kCrossEntropy)->loss,
            report->epoch_test_loss[best]);
  EXPECT_NE(report->epoch_test_loss[best], report->epoch_test_loss.back());
}

TEST_F(TrainTest, TheMetricNamedDecidesWhenToStop) {
  TrainConfig config = Config();
  config.metric = MetricKind::kAuc;
  config.log_out = (folder_ / "log.jsonl").string();
  const auto report = Train(config);
  ASSERT_TRUE(report.ok()) << report.status().message();
  EXPECT_GT(report->epoch_auc.back(), 0.98);
  EXPECT_LT(report->epoch_test_loss.back(), report->epoch_test_loss.front());
  EXPECT_NE(ReadFile(config.log_out)->find("\"test_auc\""), std::string::npos);
  config.test_samples = config.test_labels = "";
  EXPECT_NE(Train(config).status().message().find("metric needs test data"), std::string::npos);
  config = Config();
  config.metric = MetricKind::kAuc;
  config.model.layers.back().units = 3;
  bool stepped = false;
  const auto three = Train(config, [&](const TrainProgress&) { return stepped = true; });
  EXPECT_NE(three.status().message().find("two classes"), std::string::npos);
  EXPECT_FALSE(stepped);
}

// Accuracy is what classes go by anyway.
TEST_F(TrainTest, AccuracyIsTheMetricOfClasses) {
  TrainConfig config = Config();
  config.stop_after = 2;
  const auto usual = Train(config);
  ASSERT_TRUE(usual.ok()) << usual.status().message();
  EXPECT_TRUE(usual->stopped_early);
  config.metric = MetricKind::kAccuracy;
  const auto named = Train(config);
  ASSERT_TRUE(named.ok()) << named.status().message();
  EXPECT_EQ(named->epoch_accuracy, usual->epoch_accuracy);
  config.loss = LossKind::kMeanSquaredError;
  config.model.layers.back().units = 1;
  const std::string message = Train(config).status().message();
  EXPECT_NE(message.find("no accuracy, which takes classes"), std::string::npos) << message;
}

TEST_F(TrainTest, ALogThatCannotBeWrittenEndsTheRun) {
  TrainConfig config = Config();
  config.log_out = folder_.string();
  const std::string message = Train(config).status().message();
  EXPECT_NE(message.find(config.log_out + ": cannot be written"), std::string::npos) << message;
  if (!std::filesystem::exists("/dev/full")) GTEST_SKIP() << "there is no /dev/full";
  config.log_out = (folder_ / "log.jsonl").string();
  std::filesystem::create_symlink("/dev/full", config.log_out);
  const Status full = Train(config).status();
  EXPECT_EQ(full.code(), StatusCode::kResourceExhausted);
  EXPECT_NE(full.message().find("is the disk full?"), std::string::npos) << full.message();
}

// A file whose weights were never finite.
TEST_F(TrainTest, AWeightThatIsNotFiniteIsNamed) {
  TrainConfig config = Config();
  Graph graph = BuildModel(config.model, config.seed).value();
  graph.constants.at(graph.FindValue("layer2_linear_weight")).as<float>()[5] = NAN;
  config.model = {.onnx = (folder_ / "bad.onnx").string()};
  ASSERT_TRUE(ExportOnnx(graph, config.model.onnx).ok());
  config.bad_steps = 3;
  const std::string message = Train(config).status().message();
  EXPECT_NE(message.find("state 'layer2_linear_weight' is not finite: 1 NaN and 0 infinite of 64"),
            std::string::npos)
      << message;
}

// A bright spot, left or right, on noise: what windows and their means can find anywhere.
TEST_F(TrainTest, ConvolutionsLearnImages) {
  const int64_t n = 256;
  Tensor x(DType::f32, {n, 1, 8, 8}), y(DType::i64, {n});
  const Philox rng(4);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t k = 0; k < 64; ++k) x.as<float>()[64 * i + k] = 0.2f * rng.Normal(100 * i + k);
    const int64_t right = rng.Below(100 * i + 90, 2), row = rng.Below(100 * i + 91, 8),
                  column = rng.Below(100 * i + 92, 4);
    x.as<float>()[64 * i + 8 * row + 4 * right + column] += 3;
    y.as<int64_t>()[i] = right;
  }
  ASSERT_TRUE(WriteNpy(folder_ / "images.npy", x.view()).ok());
  ASSERT_TRUE(WriteNpy(folder_ / "sides.npy", y.view()).ok());
  TrainConfig config = Config();
  config.train_samples = config.test_samples = (folder_ / "images.npy").string();
  config.train_labels = config.test_labels = (folder_ / "sides.npy").string();
  config.model.input = {};
  config.model.layers = {{.kind = "conv", .units = 8, .kernel = 3, .padding = 1},
                         {.kind = "tanh"},
                         {.kind = "average_pool", .kernel = 2},
                         {.kind = "conv", .units = 8, .kernel = 3, .padding = 1},
                         {.kind = "relu"},
                         {.kind = "max_pool", .kernel = 2},
                         {.kind = "flatten"},
                         {.kind = "linear", .units = 2}};
  const auto report = Train(config);
  ASSERT_TRUE(report.ok()) << report.status().message();
  EXPECT_GT(report->epoch_accuracy.back(), 0.95);
  EXPECT_EQ(report->parameters, 8 * 9 + 8 + 8 * 8 * 9 + 8 + 2 * 32 + 2);
}

// The moons as a table, with columns of widely different sizes: learned only once standardised.
TEST_F(TrainTest, ATableTrainsAModelThatTakesRawFeatures) {
  const Dataset moons = ReadDataset(folder_ / "x.npy", folder_ / "y.npy", {}).value();
  std::string csv = "u,v,side,moon\n";
  for (int64_t i = 0; i < moons.size(); ++i)
    csv += fmt::format("{},{},{},{}\n", 1e4 + 1e3 * moons.samples.as<float>()[2 * i],
                       1e-3 * moons.samples.as<float>()[2 * i + 1], i % 3 == 0 ? "a" : "b",
                       moons.labels.as<int64_t>()[i] == 1 ? "upper" : "lower");
  ASSERT_TRUE(WriteFileAtomic(folder_ / "moons.csv", csv).ok());
  TrainConfig config = Config();
  config.train_samples = config.train_labels = config.test_samples = config.test_labels = "";
  config.csv = {.file = (folder_ / "moons.csv").string(), .target = "moon", .drop = {"side"}};
  config.split.test_fraction = 0.25;
  config.model.input = {};
  config.model.standardize = true;
  const auto report = Train(config);
  ASSERT_TRUE(report.ok()) << report.status().message();
  EXPECT_GT(report->epoch_accuracy.back(), 0.95);
  EXPECT_EQ(report->parameters, 2 * 32 + 32 + 32 * 2 + 2);
  const Graph trained = ImportOnnx(config.onnx_out).value();
  EXPECT_NE(trained.metadata.at("minim.columns").find("\"upper\""), std::string::npos);
  EXPECT_TRUE(trained.nodes[0].Is("Sub") && trained.nodes[1].Is("Div"));
  config.precision = TrainPrecision::kFp16;  // raw features stay out of it
  EXPECT_GT(Train(config)->epoch_accuracy.back(), 0.95);
  config.model.standardize = false;
  EXPECT_LT(Train(config)->epoch_accuracy.back(), 0.9);
  config.model.standardize = true;
  config.model.input_scale = 2;
  EXPECT_NE(Train(config).status().message().find("input_scale"), std::string::npos);
}

TEST_F(TrainTest, ClassWeightsMoveTheDecision) {
  const auto ones = [&](LossKind loss, std::vector<double> weights, bool balance) {
    TrainConfig config = Config();
    config.loss = loss;
    config.model.layers = {{.kind = "linear", .units = loss == LossKind::kCrossEntropy ? 2 : 1}};
    config.class_weights = std::move(weights);
    config.balance_classes = balance;
    config.epochs = 5;
    const auto report = Train(config);
    EXPECT_TRUE(report.ok()) << report.status().message();
    const auto session = Session::Load(config.onnx_out).value();
    ArraySource data(ReadDataset(folder_ / "x.npy", folder_ / "y.npy", {}).value());
    const Tensor scores = Predict(*session, data).value();
    const int64_t width = scores.dims()[1];
    int64_t count = 0;  // of samples whose class is 1
    for (int64_t i = 0; i < scores.dims()[0]; ++i) {
      const float* row = scores.as<float>().data() + i * width;
      count += width == 1 ? row[0] > 0 : row[1] > row[0];
    }
    return count;
  };
  for (LossKind loss : {LossKind::kCrossEntropy, LossKind::kBinaryCrossEntropy}) {
    const auto plain = ones(loss, {}, false);
    EXPECT_EQ(ones(loss, {1, 1}, false), plain);
    EXPECT_EQ(ones(loss, {}, true), plain);  // both occur equally often
    EXPECT_GT(ones(loss, {1, 20}, false), plain + 20);
    EXPECT_LT(ones(loss, {20, 1}, false), plain - 20);
  }
  TrainConfig config = Config();
  config.class_weights = {1, 2, 3};
  EXPECT_NE(Train(config).status().message().find("3 entries, the model 2"), std::string::npos);
  config.class_weights = {1, -2};
  EXPECT_FALSE(Train(config).ok());
}

// x and label are functions of the index: nothing is stored.
class Computed final : public DataSource {
 public:
  int64_t size() const override { return int64_t{1} << 12; }
  Result<Batch> Gather(std::span<const int64_t> indices) override {
    const auto count = static_cast<int64_t>(indices.size());
    Batch batch{Tensor(DType::f32, {count, 2}), Tensor(DType::i64, {count})};
    const Philox rng(9);
    for (size_t i = 0; i < indices.size(); ++i) {
      const auto at = static_cast<uint64_t>(2 * indices[i]);
      const float x = rng.Normal(at), y = rng.Normal(at + 1);
      batch.samples.as<float>()[2 * i] = x;
      batch.samples.as<float>()[2 * i + 1] = y;
      batch.labels.as<int64_t>()[i] = x > y;
    }
    return batch;
  }
};

TEST_F(TrainTest, ASourceOfOnesOwnIsSplitAndLearned) {
  TrainConfig config = Config();
  config.train_samples = config.train_labels = config.test_samples = config.test_labels = "";
  config.train_source = std::make_shared<Computed>();
  config.split.test_fraction = 0.1;
  config.accumulate = 2;
  config.epochs = 3;
  const auto report = Train(config);
  ASSERT_TRUE(report.ok()) << report.status().message();
  EXPECT_GT(report->epoch_accuracy.back(), 0.97);
  config.split.test_fraction = 0;
  config.model.layers.back().units = 1;
  EXPECT_NE(Train(config).status().message().find("up to 1, but the model scores 1"),
            std::string::npos);
}

TEST_F(TrainTest, ErrorsComeBeforeTheWork) {
  TrainConfig config = Config();
  config.onnx_out = "/nonexistent/model.onnx";
  EXPECT_NE(Train(config).status().message().find("/nonexistent"), std::string::npos);
  config = Config();
  config.batch = 1000;
  EXPECT_NE(Train(config).status().message().find("1000"), std::string::npos);
  config = Config();
  config.model.layers.back().units = 1;
  EXPECT_NE(Train(config).status().message().find("up to 1, but the model scores 1"),
            std::string::npos);
  config = Config();
  config.checkpoint_steps = 5;
  EXPECT_NE(Train(config).status().message().find("checkpoint_steps"), std::string::npos);
  config = Config();
  config.model.layers[1].kind = "rleu";
  EXPECT_NE(Train(config).status().message().find("rleu"), std::string::npos);
  config = Config();
  config.optimizer.learning_rate = 1e30;
  config.optimizer.kind = OptimizerKind::kSgd;
  EXPECT_NE(Train(config).status().message().find("loss became"), std::string::npos);
}

}  // namespace
}  // namespace minim
