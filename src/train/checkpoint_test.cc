#include "train/checkpoint.h"

#include <gtest/gtest.h>

#include "train/testing/moons.h"

namespace minim {
namespace {

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

// Dropout, normalisation, accumulation, averages, a loss scale that moves, a schedule with a
// memory.
TEST_F(TrainTest, EverythingAtOnceResumesBitForBit) {
  TrainConfig config = Config();
  config.model.layers = {{.kind = "linear", .units = 32},
                         {.kind = "batch_norm"},
                         {.kind = "relu"},
                         {.kind = "dropout", .ratio = 0.1},
                         {.kind = "linear", .units = 2}};
  config.precision = TrainPrecision::kFp16;
  config.scaler.growth_interval = 5;
  config.scaler.initial_scale = 1 << 26;
  config.scaler.max_scale = 1e9;  // overflows now and then
  config.accumulate = 3;
  config.ema_decay = 0.9;
  config.optimizer.clip_norm = 1;
  config.schedule = {.kind = ScheduleKind::kPlateau, .warmup_steps = 4, .patience = 0};
  config.epochs = 6;
  const auto whole = Train(config);
  ASSERT_TRUE(whole.ok()) << whole.status().message();
  EXPECT_GT(whole->skipped_steps, 0);
  EXPECT_EQ(whole->skipped_steps, whole->scaler.overflows);
  EXPECT_GT(whole->scaler.growths, 0);
  const std::string expected = ReadFile(config.onnx_out).value();
  config.checkpoint = (folder_ / "run.safetensors").string();
  config.resume = true;
  for (int64_t stop : {3, 11, 12, 21}) {
    const auto stopped = Train(config, [&](const TrainProgress& p) { return p.step != stop; });
    EXPECT_EQ(stopped.status().code(), StatusCode::kCancelled) << stop;
  }
  ASSERT_TRUE(Train(config).ok());
  EXPECT_EQ(ReadFile(config.onnx_out).value(), expected);
}

TEST_F(TrainTest, CheckpointsWithinEpochsAndOlderOnes) {
  TrainConfig config = Config();
  config.epochs = 3;
  ASSERT_TRUE(Train(config).ok());
  const std::string whole = ReadFile(config.onnx_out).value();
  config.checkpoint = (folder_ / "run.safetensors").string();
  config.checkpoint_steps = 5;
  config.keep_checkpoints = 3;
  ASSERT_TRUE(Train(config).ok());
  EXPECT_FALSE(std::filesystem::exists(config.checkpoint + ".3"));
  config.resume = true;
  for (const char* older : {".1", ".2"}) {  // of steps 45 and 40, of 48
    std::filesystem::rename(config.checkpoint + older, config.checkpoint);
    int64_t first = 0;
    ASSERT_TRUE(Train(config, [&](const TrainProgress& p) {
                  first = first == 0 ? p.step : first;
                  return true;
                }).ok());
    EXPECT_EQ(first, older == std::string(".1") ? 46 : 41);
    EXPECT_EQ(ReadFile(config.onnx_out).value(), whole);
  }
}

// Nothing is continued with the numbers of another run, and the run that is refused leaves the
// file.
TEST_F(TrainTest, ACheckpointOfAnotherRunIsRefused) {
  TrainConfig config = Config();
  config.epochs = 1;
  config.checkpoint = (folder_ / "run.safetensors").string();
  config.resume = true;
  ASSERT_TRUE(Train(config).ok());
  const std::string saved = ReadFile(config.checkpoint).value();
  const auto expect = [&](auto&& change, const std::string& part) {
    TrainConfig other = config;
    other.epochs = 2;
    change(other);
    const Status status = Train(other).status();
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
    EXPECT_NE(status.message().find("run.safetensors: " + part), std::string::npos)
        << status.message();
    EXPECT_EQ(ReadFile(config.checkpoint).value(), saved);
  };
  expect([](TrainConfig& c) { c.seed = 5; }, "was made with seed 1, the config has 5");
  expect([](TrainConfig& c) { c.batch = 16; }, "was made with batch 32, the config has 16");
  expect([](TrainConfig& c) { c.model.layers[0].units = 33; },
         "has no 'layer0_linear_weight' of type f32[33,2]; it belongs to another model");
  expect([](TrainConfig& c) { c.optimizer.kind = OptimizerKind::kAdagrad; }, "has no '");
  ASSERT_TRUE(WriteFileAtomic(config.checkpoint, saved.substr(0, saved.size() / 2)).ok());
  EXPECT_EQ(Train(config).status().code(), StatusCode::kDataLoss);
}

}  // namespace
}  // namespace minim
