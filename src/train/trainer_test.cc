// Training end to end on small synthetic problems.
#include <gtest/gtest.h>

#include <cmath>

#include "core/file.h"
#include "core/philox.h"
#include "data/dataset.h"
#include "data/npy.h"
#include "graph/text.h"
#include "minim/session.h"
#include "minim/train.h"
#include "ops/infer.h"
#include "train/metrics.h"
#include "train/step.h"

namespace minim {
namespace {

class TrainTest : public testing::Test {
 protected:
  void SetUp() override {
    const testing::TestInfo* info = testing::UnitTest::GetInstance()->current_test_info();
    folder_ = Path(testing::TempDir()) / (std::string("minim_train_") + info->name());
    std::filesystem::create_directories(folder_);
    // Two interleaved half circles: not linearly separable.
    const int64_t n = 512;
    Tensor x(DType::f32, {n, 2}), y(DType::i64, {n});
    const Philox rng(3);
    for (int64_t i = 0; i < n; ++i) {
      const bool upper = i % 2 == 0;
      const float angle = 3.14159f * rng.Uniform(3 * i);
      x.as<float>()[2 * i] =
          std::cos(angle) + (upper ? 0 : 1) + 0.1f * (rng.Uniform(3 * i + 1) - 0.5f);
      x.as<float>()[2 * i + 1] = std::sin(angle) * (upper ? 1 : -1) + (upper ? 0 : 0.5f) +
                                 0.1f * (rng.Uniform(3 * i + 2) - 0.5f);
      y.as<int64_t>()[i] = upper;
    }
    ASSERT_TRUE(WriteNpy(folder_ / "x.npy", x.view()).ok());
    ASSERT_TRUE(WriteNpy(folder_ / "y.npy", y.view()).ok());
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  TrainConfig Config() const {
    TrainConfig config;
    config.train_samples = config.test_samples = (folder_ / "x.npy").string();
    config.train_labels = config.test_labels = (folder_ / "y.npy").string();
    config.model.input = {2};
    config.model.layers = {
        {.kind = "linear", .units = 32}, {.kind = "relu"}, {.kind = "linear", .units = 2}};
    config.learning_rate = 0.01;
    config.epochs = 25;
    config.batch = 32;
    config.threads = 2;
    config.onnx_out = (folder_ / "model.onnx").string();
    return config;
  }

  Path folder_;
};

TEST_F(TrainTest, AdamSolvesTheMoons) {
  const auto report = Train(Config());
  ASSERT_TRUE(report.ok()) << report.status().message();
  EXPECT_GT(report->epoch_accuracy.back(), 0.97);
  EXPECT_LT(report->epoch_loss.back(), report->epoch_loss.front());
  EXPECT_EQ(report->parameters, 2 * 32 + 32 + 32 * 2 + 2);
  const auto session = Session::Load((folder_ / "model.onnx").string());
  ASSERT_TRUE(session.ok()) << session.status().message();
  const Dataset data = ReadDataset(folder_ / "x.npy", folder_ / "y.npy", {}).value();
  EXPECT_EQ(Accuracy(**session, data).value(), report->epoch_accuracy.back());
}

TEST_F(TrainTest, SgdAndMseLearnToo) {
  TrainConfig config = Config();
  config.optimizer = OptimizerKind::kSgd;
  config.schedule = Schedule::kCosine;
  config.learning_rate = 0.1;
  EXPECT_GT(Train(config)->epoch_accuracy.back(), 0.95);
  config.loss = LossKind::kMeanSquaredError;
  config.model.layers.back().units = 1;
  config.test_samples = config.test_labels = "";
  const auto report = Train(config);
  ASSERT_TRUE(report.ok()) << report.status().message();
  EXPECT_LT(report->epoch_loss.back(), 0.05);
}

TEST_F(TrainTest, IsRepeatableAndResumesBitForBit) {
  TrainConfig config = Config();
  config.epochs = 4;
  ASSERT_TRUE(Train(config).ok());
  const std::string whole = ReadFile(config.onnx_out).value();
  ASSERT_TRUE(Train(config).ok());
  EXPECT_EQ(ReadFile(config.onnx_out).value(), whole);
  config.checkpoint = (folder_ / "run.safetensors").string();
  config.resume = true;
  const auto stopped = Train(config, [](const TrainProgress& p) { return p.step != 21; });
  EXPECT_EQ(stopped.status().code(), StatusCode::kCancelled);
  std::filesystem::remove(config.onnx_out);
  ASSERT_TRUE(Train(config).ok());
  EXPECT_EQ(ReadFile(config.onnx_out).value(), whole);
}

TEST_F(TrainTest, ErrorsComeBeforeTheWork) {
  TrainConfig config = Config();
  config.onnx_out = "/nonexistent/model.onnx";
  EXPECT_NE(Train(config).status().message().find("/nonexistent"), std::string::npos);
  config = Config();
  config.batch = 1000;
  EXPECT_NE(Train(config).status().message().find("1000"), std::string::npos);
  config = Config();
  config.model.layers[1].kind = "rleu";
  EXPECT_NE(Train(config).status().message().find("rleu"), std::string::npos);
  config = Config();
  config.learning_rate = 1e30;
  config.optimizer = OptimizerKind::kSgd;
  EXPECT_NE(Train(config).status().message().find("loss became"), std::string::npos);
}

// The causal mask that the expansion brings is no parameter.
TEST(StepTest, TrainsThroughOpsGivenByExpansion) {
  auto graph = ParseText(R"(graph "g"(x: f32[N,2,2]) -> (y) {
    const w: f32[2,2] = [0.5, 0, 1, 0.5]
    const c: f32[2] = [0, 0]
    m = com.microsoft.FusedMatMul(x, w) {alpha=0.5}
    n = com.microsoft.BiasGelu(m, c)
    y = Attention(n, n, n) {q_num_heads=1, kv_num_heads=1, is_causal=1} })");
  ASSERT_TRUE(graph.ok()) << graph.status().message();
  ASSERT_TRUE(InferGraph(*graph).ok());
  TrainConfig config;
  config.loss = LossKind::kMeanSquaredError;
  const auto step = BuildStep(*graph, config, Dims({3, 2, 2}), Tensor(DType::f32, {3, 2, 2}));
  ASSERT_TRUE(step.ok()) << step.status().message();
  EXPECT_EQ(step->parameter_count, 6);
}

}  // namespace
}  // namespace minim
