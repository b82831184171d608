#include "train/prepare.h"

#include <gtest/gtest.h>

#include <cmath>

#include "data/dataset.h"

namespace minim {
namespace {

TEST(CheckConfigTest, MistakesNameTheKeyAndWhatItHolds) {
  EXPECT_EQ(CheckConfig({}).message(), "");
  const auto expect = [](auto&& change, const std::string& part) {
    TrainConfig config;
    change(config);
    const Status status = CheckConfig(config);
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << part;
    EXPECT_NE(status.message().find(part), std::string::npos) << status.message();
  };
  expect([](TrainConfig& c) { c.epochs = 0; }, "epochs (0)");
  expect([](TrainConfig& c) { c.batch = -1; }, "batch (-1)");
  expect([](TrainConfig& c) { c.threads = 0; }, "threads (0)");
  expect([](TrainConfig& c) { c.accumulate = 0; }, "accumulate (0)");
  expect([](TrainConfig& c) { c.ema_decay = 1; }, "ema_decay is 1");
  expect([](TrainConfig& c) { c.ema_decay = NAN; }, "ema_decay is nan");
  expect([](TrainConfig& c) { c.bad_steps = 0; }, "bad_steps is 0");
  expect([](TrainConfig& c) { c.stop_after = -2; }, "stop_after -2");
  expect([](TrainConfig& c) { c.checkpoint_steps = -3; }, "checkpoint_steps is -3");
  expect([](TrainConfig& c) { c.keep_checkpoints = 0; }, "keep 0");
  expect([](TrainConfig& c) { c.checkpoint_steps = 5; }, "checkpoint_steps needs checkpoint");
  expect([](TrainConfig& c) { c.optimizer.momentum = 1; }, "momentum is 1");
  expect([](TrainConfig& c) { c.schedule.factor = 2; }, "factor is 2");
  expect([](TrainConfig& c) { c.class_weights = {1, -0.5}; }, "-0.5 is not at least 0");
  expect([](TrainConfig& c) { c.class_weights = {1, NAN}; }, "nan is not at least 0");
  expect(
      [](TrainConfig& c) {
        c.class_weights = {1, 2};
        c.balance_classes = true;
      },
      "either weights or balanced");
  expect(
      [](TrainConfig& c) {
        c.balance_classes = true;
        c.loss = LossKind::kMeanSquaredError;
      },
      "mse has no classes");
}

TrainData TwoFeatures() {
  return {.train = std::make_shared<ArraySource>(Dataset{
              Tensor::From<float>({4, 2}, {10, 0, 20, 1, 30, 1, 40, 1}), Tensor(DType::i64, {4})})};
}

TEST(BuildForwardTest, TheSampleShapeIsTheDatasUnlessTheyDisagree) {
  TrainConfig config;
  config.model.layers = {{.kind = "linear", .units = 3}};
  ASSERT_TRUE(BuildForward(config, TwoFeatures(), {4, 2}).ok());
  EXPECT_EQ(config.model.input, std::vector<int64_t>{2});
  config.model.input = {1, 2};
  const std::string message = BuildForward(config, TwoFeatures(), {4, 2}).status().message();
  EXPECT_NE(message.find("input is [1, 2], but the data's samples are [2]"), std::string::npos)
      << message;
}

TEST(BuildForwardTest, OneHotColumnsAreNotStandardized) {
  for (bool one_hot : {true, false}) {
    TrainData data = TwoFeatures();
    if (one_hot) data.one_hot = {false, true};
    TrainConfig config;
    config.model.layers = {{.kind = "linear", .units = 3}};
    config.model.standardize = true;
    const auto forward = BuildForward(config, data, {4, 2});
    ASSERT_TRUE(forward.ok()) << forward.status().message();
    const auto constant = [&](const char* name) {
      return forward->constants.at(forward->FindValue(name)).as<float>();
    };
    EXPECT_FLOAT_EQ(constant("feature_mean")[0], 25);
    EXPECT_FLOAT_EQ(constant("feature_deviation")[0], std::sqrt(125.0f));
    EXPECT_FLOAT_EQ(constant("feature_mean")[1], one_hot ? 0 : 0.75f);
    EXPECT_FLOAT_EQ(constant("feature_deviation")[1], one_hot ? 1 : std::sqrt(0.1875f));
  }
}

}  // namespace
}  // namespace minim
