// Two classes that no line separates, and a config that learns them in a second.
#pragma once

#include <gtest/gtest.h>

#include <cmath>

#include "core/file.h"
#include "core/philox.h"
#include "data/npy.h"
#include "minim/train.h"

namespace minim {

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
    config.optimizer.learning_rate = 0.01;
    config.epochs = 25;
    config.batch = 32;
    config.threads = 2;
    config.onnx_out = (folder_ / "model.onnx").string();
    return config;
  }

  Path folder_;
};

}  // namespace minim
