#include "minim/mixed_precision.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>

#include "core/dtype.h"
#include "core/file.h"

namespace minim {
namespace {

using Parameter = MixedPrecisionTrainer::Parameter;

std::vector<Parameter> TwoParameters() {
  return {{"w", Tensor::From<float>({3}, {1, -2, 3})}, {"b", Tensor::From<float>({1}, {0.5f})}};
}

// The gradient of the squared distance of every parameter to 1.
Status Pull(std::span<const Tensor> working, float scale, std::span<Tensor> gradients) {
  for (size_t i = 0; i < working.size(); ++i) {
    const Tensor wide = Converted(working[i].view(), DType::f32);
    for (int64_t k = 0; k < wide.size(); ++k)
      gradients[i].as<float>()[k] = scale * 2 * (wide.as<float>()[k] - 1);
  }
  return {};
}

Status Overflow(std::span<const Tensor>, float, std::span<Tensor> gradients) {
  gradients[0].as<float>()[1] = std::numeric_limits<float>::infinity();
  return {};
}

std::vector<float> Values(const MixedPrecisionTrainer& trainer) {
  std::vector<float> values;
  for (const Tensor& master : trainer.masters())
    for (float value : master.as<float>()) values.push_back(value);
  return values;
}

TEST(MixedPrecisionTest, EveryPrecisionAndOptimizerDescends) {
  for (TrainPrecision precision :
       {TrainPrecision::kFp32, TrainPrecision::kBf16, TrainPrecision::kFp16}) {
    for (OptimizerKind kind :
         {OptimizerKind::kSgd, OptimizerKind::kAdam, OptimizerKind::kAdamW, OptimizerKind::kAdagrad,
          OptimizerKind::kRmsprop, OptimizerKind::kLamb}) {
      auto trainer = MixedPrecisionTrainer::Make(
          TwoParameters(), {.precision = precision, .optimizer = {.kind = kind}});
      ASSERT_TRUE(trainer.ok()) << trainer.status().message();
      const double rate = kind == OptimizerKind::kAdagrad ? 0.5 : 0.03;
      for (int i = 0; i < 300; ++i) ASSERT_TRUE((*trainer)->Step(Pull, rate)->stepped);
      for (float value : Values(**trainer))
        EXPECT_NEAR(value, 1, 0.1) << Name(precision) << " " << static_cast<int>(kind);
    }
  }
}

TEST(MixedPrecisionTest, WorkingCopiesFollowTheMasters) {
  auto trainer =
      MixedPrecisionTrainer::Make(TwoParameters(), {.precision = TrainPrecision::kFp16}).value();
  ASSERT_TRUE(trainer->Step(Pull, 0.0123).ok());
  ASSERT_EQ(trainer->working()[0].dtype(), DType::f16);
  for (size_t i = 0; i < 2; ++i) {
    const Tensor expected = Converted(trainer->masters()[i].view(), DType::f16);
    EXPECT_EQ(std::memcmp(expected.data(), trainer->working()[i].data(), expected.bytes()), 0);
  }
}

TEST(MixedPrecisionTest, ASkippedStepChangesNoBit) {
  auto trainer = MixedPrecisionTrainer::Make(TwoParameters(),
                                             {.optimizer = {.clip_norm = 1}, .ema_decay = 0.9})
                     .value();
  ASSERT_TRUE(trainer->Step(Pull, 0.01).ok());
  const Path before = Path(testing::TempDir()) / "before.safetensors";

  ASSERT_TRUE(trainer->Save(before.string()).ok());
  const std::vector<float> values = Values(*trainer);
  const auto skipped = trainer->Step(Overflow, 0.01);
  ASSERT_TRUE(skipped.ok());
  EXPECT_FALSE(skipped->stepped);
  EXPECT_EQ(skipped->scale, 65536);
  EXPECT_EQ(trainer->scaler().scale(), 32768);
  EXPECT_EQ(Values(*trainer), values);
  // Restoring to before the skip and stepping gives what stepping now gives, but for the scale: it
  // is a power of two, so it changes no bit either.
  ASSERT_TRUE(trainer->Step(Pull, 0.01).ok());
  const std::vector<float> expected = Values(*trainer);
  ASSERT_TRUE(trainer->Restore(before.string()).ok());
  EXPECT_EQ(Values(*trainer), values);
  EXPECT_EQ(trainer->scaler().scale(), 65536);
  ASSERT_TRUE(trainer->Step(Pull, 0.01).ok());
  EXPECT_EQ(Values(*trainer), expected);
  std::filesystem::remove(before);
}

TEST(MixedPrecisionTest, ClippingLimitsTheUpdate) {
  auto trainer = MixedPrecisionTrainer::Make(
                     TwoParameters(),
                     {.precision = TrainPrecision::kFp32,
                      .optimizer = {.kind = OptimizerKind::kSgd, .momentum = 0, .clip_norm = 0.5}})
                     .value();
  const std::vector<float> before = Values(*trainer);
  const auto step = trainer->Step(Pull, 1);
  ASSERT_TRUE(step.ok());
  EXPECT_NEAR(step->norm, std::sqrt(36.0 + 16 + 1), 1e-4);
  double moved = 0;
  const std::vector<float> after = Values(*trainer);
  for (size_t i = 0; i < after.size(); ++i) moved += std::pow(after[i] - before[i], 2);
  EXPECT_NEAR(std::sqrt(moved), 0.5, 1e-5);
}

// torch.optim.RMSprop written down from its documentation.
TEST(MixedPrecisionTest, RmspropWithMomentumFollowsItsFormula) {
  const OptimizerSpec spec{
      .kind = OptimizerKind::kRmsprop, .momentum = 0.8, .epsilon = 1e-3, .alpha = 0.7};
  auto trainer = MixedPrecisionTrainer::Make(
                     TwoParameters(), {.precision = TrainPrecision::kFp32, .optimizer = spec})
                     .value();
  std::vector<double> x = {1, -2, 3, 0.5}, squares(4), buffer(4);
  for (int step = 0; step < 20; ++step) {
    ASSERT_TRUE(trainer->Step(Pull, 0.05).ok());
    for (size_t i = 0; i < x.size(); ++i) {
      const double g = 2 * (x[i] - 1);
      squares[i] = 0.7 * squares[i] + 0.3 * g * g;
      buffer[i] = 0.8 * buffer[i] + g / (std::sqrt(squares[i]) + 1e-3);
      x[i] -= 0.05 * buffer[i];
      ASSERT_NEAR(Values(*trainer)[i], x[i], 1e-4) << step;
    }
  }
}

// Masters, gradients and moments are FP32; the working copies come on top unless they are the
// masters.
TEST(MixedPrecisionTest, BytesCountEveryCopy) {
  constexpr size_t kCount = 1000;
  const std::vector<Parameter> parameters = {{"w", Tensor(DType::f32, {kCount})}};
  const auto bytes = [&](TrainPrecision precision, const OptimizerSpec& optimizer, double decay) {
    return MixedPrecisionTrainer::Make(
               parameters, {.precision = precision, .optimizer = optimizer, .ema_decay = decay})
        .value()
        ->bytes();
  };
  const OptimizerSpec adam, sgd{.kind = OptimizerKind::kSgd, .momentum = 0};
  const size_t whole = bytes(TrainPrecision::kFp32, adam, 0);
  EXPECT_GE(whole, 4 * 4 * kCount);
  EXPECT_EQ(bytes(TrainPrecision::kFp16, adam, 0), whole + 2 * kCount);
  EXPECT_EQ(bytes(TrainPrecision::kBf16, adam, 0), whole + 2 * kCount);
  EXPECT_GE(whole, bytes(TrainPrecision::kFp32, sgd, 0) + 2 * 4 * kCount);
  EXPECT_GE(bytes(TrainPrecision::kFp32, adam, 0.9), whole + 4 * kCount);
}

TEST(MixedPrecisionTest, GroupsHaveTheirOwnDecayAndRate) {
  OptimizerSpec spec{.kind = OptimizerKind::kSgd, .weight_decay = 0.1, .momentum = 0};
  spec.groups = {{.match = "b", .weight_decay = 0, .rate_factor = 0.5}};
  auto trainer = MixedPrecisionTrainer::Make(
                     TwoParameters(), {.precision = TrainPrecision::kFp32, .optimizer = spec})
                     .value();
  const auto ones = [](std::span<const Tensor>, float, std::span<Tensor> gradients) {
    for (Tensor& gradient : gradients)
      for (float& value : gradient.as<float>()) value = 1;
    return Status();
  };
  ASSERT_TRUE(trainer->Step(ones, 0.1).ok());
  EXPECT_FLOAT_EQ(Values(*trainer)[0], 1 - 0.1f * (1 + 0.1f));
  EXPECT_FLOAT_EQ(Values(*trainer)[3], 0.5f - 0.05f);
}

TEST(MixedPrecisionTest, AGroupKeepsTheOptimizersDecayUnlessItHasItsOwn) {
  OptimizerSpec spec{.kind = OptimizerKind::kSgd, .weight_decay = 0.1, .momentum = 0};
  spec.groups = {{.match = "b", .rate_factor = 0.5}};
  MixedPrecisionOptions options{.precision = TrainPrecision::kFp32, .optimizer = spec};
  auto trainer = MixedPrecisionTrainer::Make(TwoParameters(), options).value();
  const auto none = [](auto&&...) { return Status(); };
  ASSERT_TRUE(trainer->Step(none, 0.1).ok());
  EXPECT_FLOAT_EQ(Values(*trainer)[3], 0.5f - 0.05f * 0.05f);
  options.optimizer.groups[0].match = "bais";
  const Status status = MixedPrecisionTrainer::Make(TwoParameters(), options).status();
  EXPECT_NE(status.message().find("'bais' matches no parameter"), std::string::npos)
      << status.message();
}

// Gradients of about 2^-12 times the scale.
TEST(MixedPrecisionTest, AnAdaptiveScaleFollowsTheGradients) {
  auto trainer =
      MixedPrecisionTrainer::Make(
          TwoParameters(), {.precision = TrainPrecision::kFp16,
                            .scaler = {.initial_scale = 1, .max_scale = 1e30, .adaptive = true}})
          .value();
  const auto small = [](std::span<const Tensor>, float scale, std::span<Tensor> gradients) {
    for (Tensor& gradient : gradients)
      for (float& value : gradient.as<float>()) value = scale * std::exp2(-12.0f);
    return Status();
  };
  for (int i = 0; i < 32; ++i) ASSERT_TRUE(trainer->Step(small, 1e-6)->stepped);
  EXPECT_GE(trainer->scaler().scale() * std::exp2(-12.0), 2048);
  EXPECT_EQ(trainer->scaler().statistics().elements, 32 * 4);
}

// A model may have a value of the name of any counter.
TEST(MixedPrecisionTest, ParametersMayHaveAnyName) {
  auto trainer = MixedPrecisionTrainer::Make({{"step", Tensor::Scalar<float>(2)}}, {}).value();
  ASSERT_TRUE(trainer->Step(Pull, 0.01)->stepped);
  const std::string file = (Path(testing::TempDir()) / "names.safetensors").string();
  ASSERT_TRUE(trainer->Save(file).ok());
  EXPECT_TRUE(trainer->Restore(file).ok());
  std::filesystem::remove(file);
}

TEST(MixedPrecisionTest, AveragesTrailBehind) {
  auto trainer = MixedPrecisionTrainer::Make(
                     TwoParameters(), {.precision = TrainPrecision::kFp32, .ema_decay = 0.75})
                     .value();
  const float before = trainer->averages()[0].as<float>()[1];
  ASSERT_TRUE(trainer->Step(Pull, 0.1).ok());
  const float master = trainer->masters()[0].as<float>()[1];
  EXPECT_NE(master, before);
  EXPECT_FLOAT_EQ(trainer->averages()[0].as<float>()[1], 0.75f * before + 0.25f * master);
}

TEST(MixedPrecisionTest, ErrorsSayWhatIsWrong) {
  const auto message = [](const std::vector<Parameter>& parameters, MixedPrecisionOptions options) {
    return MixedPrecisionTrainer::Make(parameters, options).status().message();
  };
  EXPECT_NE(message({}, {}).find("no parameters"), std::string::npos);
  EXPECT_NE(message({{"w", Tensor(DType::f16, {1})}}, {}).find("f32"), std::string::npos);
  const Tensor one = Tensor::Scalar<float>(1);
  EXPECT_NE(message({{"w", one}, {"w", one}}, {}).find("two parameters"), std::string::npos);
  EXPECT_NE(message(TwoParameters(), {.precision = TrainPrecision::kAuto}).find("auto"),
            std::string::npos);
  EXPECT_NE(message(TwoParameters(), {.optimizer = {.beta1 = 1}}).find("beta1"), std::string::npos);
  EXPECT_NE(message(TwoParameters(), {.threads = 0}).find("threads is 0"), std::string::npos);
  auto trainer = MixedPrecisionTrainer::Make(TwoParameters(), {}).value();
  EXPECT_EQ(trainer->Restore("/nonexistent").code(), StatusCode::kNotFound);
  const std::vector<float> before = Values(*trainer);
  for (const Tensor& wrong : {Tensor(DType::f16, {1}), Tensor(DType::f32, {2})}) {
    const auto replaced = [&](std::span<const Tensor>, float, std::span<Tensor> gradients) {
      gradients[1] = wrong;
      return Status();
    };
    const std::string found = trainer->Step(replaced, 0.1).status().message();
    EXPECT_NE(found.find(fmt::format("gradient 1 became {}{}, expected f32[1]", Name(wrong.dtype()),
                                     wrong.dims().ToString())),
              std::string::npos)
        << found;
    EXPECT_EQ(Values(*trainer), before);
  }
  const auto failed =
      trainer->Step([](auto&&...) { return Status(StatusCode::kInternal, "no data"); }, 0.1);
  EXPECT_EQ(failed.status().message(), "no data");
}

}  // namespace
}  // namespace minim
