#include "train/tune.h"

#include <gtest/gtest.h>

#include <thread>

#include "data/dataset.h"
#include "train/model_builder.h"
#include "train/step_runner.h"
#include "train/testing/moons.h"

namespace minim {
namespace {

// The least budget that a refusal names.
size_t LeastOf(const Status& refused) {
  const std::string mark = "the least found is ";
  const size_t at = refused.message().find(mark);
  EXPECT_NE(at, std::string::npos) << refused.message();
  return at == std::string::npos ? 0 : std::stoul(refused.message().substr(at + mark.size()));
}

// Normalisation, dropout, accumulation and 16 bits, in half the memory.
TEST_F(TrainTest, RecomputationChangesNoBit) {
  TrainConfig config = Config();
  config.model.layers.clear();
  for (int i = 0; i < 8; ++i)
    config.model.layers.insert(config.model.layers.end(), {{.kind = "linear", .units = 32},
                                                           {.kind = "batch_norm"},
                                                           {.kind = "sigmoid"},
                                                           {.kind = "dropout", .ratio = 0.1}});
  config.model.layers.push_back({.kind = "linear", .units = 2});
  config.epochs = 2;
  config.batch = 64;
  config.accumulate = 2;
  for (TrainPrecision precision : {TrainPrecision::kFp32, TrainPrecision::kFp16}) {
    config.precision = precision;
    config.memory = {};
    const auto all = Train(config);
    ASSERT_TRUE(all.ok()) << all.status().message();
    const std::string expected = ReadFile(config.onnx_out).value();
    EXPECT_EQ(all->repeated_ops, 0);
    EXPECT_EQ(all->kept_arena_bytes, all->arena_bytes);
    config.memory.sqrt_checkpoints = true;
    const auto segments = Train(config);
    ASSERT_TRUE(segments.ok()) << segments.status().message();
    EXPECT_EQ(ReadFile(config.onnx_out).value(), expected);
    EXPECT_LT(segments->arena_bytes, all->arena_bytes);
    config.memory = {.budget_bytes = all->state_bytes + all->arena_bytes * 3 / 4};
    const auto within = Train(config);
    ASSERT_TRUE(within.ok()) << within.status().message();
    EXPECT_EQ(ReadFile(config.onnx_out).value(), expected);
    EXPECT_LE(within->arena_bytes, all->arena_bytes * 3 / 4);
    EXPECT_GT(within->repeated_ops, 0);
    EXPECT_LE(within->added_work, segments->added_work);
  }
  config.memory = {.budget_bytes = 1000};
  config.memory.budget_bytes = LeastOf(Train(config).status());
  const auto least = Train(config);
  ASSERT_TRUE(least.ok()) << least.status().message();
  EXPECT_LE(least->arena_bytes + least->state_bytes, config.memory.budget_bytes);
}

TEST_F(TrainTest, TuningChoosesWhatItMeasuredFastest) {
  TrainConfig config = Config();
  config.batch = 8;
  std::vector<TuneTrial> trials;
  const auto tuned = Tune(config, [&](const TuneTrial& trial) {
    trials.push_back(trial);
    return true;
  });
  ASSERT_TRUE(tuned.ok()) << tuned.status().message();
  const auto chosen = std::find_if(trials.begin(), trials.end(), [&](const TuneTrial& t) {
    return t.precision == tuned->precision && t.threads == tuned->threads &&
           t.batch == tuned->batch;
  });
  ASSERT_NE(chosen, trials.end());
  // Each choice was taken for being faster, but for fewer threads, which may be 3 % slower each.
  for (const TuneTrial& trial : trials)
    if (trial.threads >= chosen->threads && trial.batch <= chosen->batch) {
      EXPECT_GE(chosen->samples_per_second, trial.samples_per_second * 0.9);
    }
  EXPECT_LE(tuned->batch, 512 / 10);
  EXPECT_EQ(tuned->epochs, config.epochs);
  EXPECT_TRUE(Train(*tuned).ok());
  EXPECT_EQ(Tune(config, [](const TuneTrial&) { return false; }).status().code(),
            StatusCode::kCancelled);
}

TEST_F(TrainTest, CodesTakeFewerBytesAndLearnAsWell) {
  TrainConfig config = Config();
  config.model.layers.clear();
  for (int i = 0; i < 4; ++i) {
    config.model.layers.push_back({.kind = "linear", .units = 64});
    config.model.layers.push_back({.kind = i == 1 ? "sigmoid" : "relu"});
  }
  config.model.layers.push_back({.kind = "linear", .units = 2});
  config.batch = 256;
  config.epochs = 60;
  const auto whole = Train(config);
  ASSERT_TRUE(whole.ok()) << whole.status().message();
  for (TrainPrecision precision : {TrainPrecision::kFp32, TrainPrecision::kBf16}) {
    for (ActivationStorage storage :
         {ActivationStorage::kHalf, ActivationStorage::kInt8, ActivationStorage::kInt4}) {
      config.precision = precision;
      config.memory = {.budget_bytes = 1, .storage = storage};
      config.memory.budget_bytes = LeastOf(Train(config).status());
      const auto report = Train(config);
      ASSERT_TRUE(report.ok()) << report.status().message();
      EXPECT_LT(report->arena_bytes + report->state_bytes, whole->arena_bytes + whole->state_bytes);
      EXPECT_LE(report->storage, storage);
      EXPECT_GT(report->epoch_accuracy.back(), 0.95) << Name(storage);
    }
  }
}

// What does not fit main memory is measured within a budget, not left to the swap.
TEST_F(TrainTest, TuningGivesAStepThatIsTooLargeABudget) {
  TrainConfig config = Config();
  config.model.layers.clear();
  for (int i = 0; i < 8; ++i)
    config.model.layers.insert(
        config.model.layers.end(),
        {{.kind = "linear", .units = 32}, {.kind = "batch_norm"}, {.kind = "sigmoid"}});
  config.model.layers.push_back({.kind = "linear", .units = 2});
  config.batch = 64;
  config.threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  const Graph forward = BuildModel(config.model, config.seed).value();
  ArraySource data(ReadDataset(folder_ / "x.npy", folder_ / "y.npy", {}).value());
  const Batch like = data.Gather(InOrder(config.batch)).value();
  const auto make = [&] { return StepRunner::Make(forward, config, TrainPrecision::kFp32, like); };
  const auto whole = make().value();
  config.memory.budget_bytes = 1;
  const size_t most = LeastOf(make().status());
  ASSERT_LT(most, whole->state_bytes() + whole->arena_bytes());
  config.memory.budget_bytes = 0;
  const auto tune = [&](size_t most_bytes) {
    std::vector<size_t> bytes;
    const auto tuned = TuneSteps(forward, config, data, most_bytes, [&](const TuneTrial& trial) {
      bytes.push_back(trial.bytes);
      return true;
    });
    EXPECT_TRUE(tuned.ok()) << tuned.status().message();
    return std::pair(tuned->memory.budget_bytes, bytes);
  };
  const auto [budget, within] = tune(most);
  EXPECT_EQ(budget, most);
  for (size_t bytes : within) EXPECT_LE(bytes, most);
  EXPECT_EQ(tune(size_t{1} << 40).first, 0u);
  config.memory.budget_bytes = size_t{1} << 30;  // one's own stays
  EXPECT_EQ(tune(most).first, size_t{1} << 30);
}

TEST_F(TrainTest, AProfileNamesEachOpOfAStepAndWritesNothing) {
  const TrainConfig config = Config();
  const auto table = ProfileStep(config, 3);
  ASSERT_TRUE(table.ok()) << table.status().message();
  for (const char* op : {"SoftmaxCrossEntropyLoss(", "AdamUpdate(", "GradientNorm("})
    EXPECT_NE(table->find(op), std::string::npos) << *table;
  EXPECT_FALSE(std::filesystem::exists(config.onnx_out));
}

}  // namespace
}  // namespace minim
