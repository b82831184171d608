#include "compress/fine_tune.h"

#include <limits>

#include "compress/testing/small_problems.h"
#include "graph/text.h"

namespace minim {
namespace {

TEST(FineTuneTest, LearnsAndSaysHowItWent) {
  const Dataset data = Moons(512), held_out = Moons(512, 4);
  const Graph start = MoonsNet(16);
  const auto tuned = FineTune(start, data, {.epochs = 40, .batch = 32, .learning_rate = 1e-2});
  ASSERT_TRUE(tuned.ok()) << tuned.status().message();
  EXPECT_EQ(tuned->steps, 40 * 512 / 32);
  EXPECT_EQ(tuned->skipped_steps, 0);
  EXPECT_FALSE(tuned->timed_out);
  EXPECT_LT(tuned->last_loss, 0.3 * tuned->first_loss);
  EXPECT_LT(Accuracy(start, held_out), 0.9);
  EXPECT_GT(Accuracy(tuned->graph, held_out), 0.97);
}

TEST(FineTuneTest, ARunThatGetsWorseSaysSo) {
  const Dataset data = Moons(256);
  const Graph good = Tuned(MoonsNet(16), data, {.epochs = 40, .learning_rate = 1e-2});
  const auto worse = FineTune(good, data, {.epochs = 8, .batch = 16, .learning_rate = 30});
  ASSERT_TRUE(worse.ok()) << worse.status().message();
  EXPECT_GT(worse->last_loss, worse->first_loss);
}

TEST(FineTuneTest, TheSeedDecidesEveryBit) {
  const Dataset data = Moons(256);
  const Graph start = MoonsNet(8);
  const auto text = [&](uint64_t seed, double epochs) {
    return ToText(Tuned(start, data, {.epochs = epochs, .batch = 32, .seed = seed}));
  };
  EXPECT_EQ(text(1, 2), text(1, 2));
  EXPECT_NE(text(1, 2), text(2, 2));
  EXPECT_NE(text(1, 2), text(1, 1.5));
}

TEST(FineTuneTest, PartsOfAnEpochAreSteps) {
  const Dataset data = Moons(100);
  for (const auto& [epochs, steps] : {std::pair{0.5, 5}, {1.5, 15}, {0.001, 1}}) {
    const auto tuned = FineTune(MoonsNet(8), data, {.epochs = epochs, .batch = 10});
    ASSERT_TRUE(tuned.ok()) << tuned.status().message();
    EXPECT_EQ(tuned->steps, steps);
  }
  // A batch larger than the data is all of it.
  EXPECT_EQ(FineTune(MoonsNet(8), data, {.epochs = 3, .batch = 1000})->steps, 3);
}

TEST(FineTuneTest, WhatTheHookWritesIsTrainedOn) {
  const Dataset data = Moons(128);
  const Graph start = MoonsNet(8);
  const std::string name = "layer2_linear_weight";
  ASSERT_NE(start.FindValue(name), kNoValue);
  int calls = 0;
  const auto tuned = FineTune(start, data, {.epochs = 2, .batch = 32},
                              {.after_step = [&](const TunedParameters& parameters) {
                                ++calls;
                                EXPECT_EQ(parameters.Find("input"), nullptr);
                                Tensor* weights = parameters.Find(name);
                                ASSERT_NE(weights, nullptr);
                                for (int64_t i = 0; i < 8; ++i) weights->as<float>()[i] = 0;
                              }});
  ASSERT_TRUE(tuned.ok()) << tuned.status().message();
  EXPECT_EQ(calls, 1 + tuned->steps);
  const Tensor& before = *start.constant(start.FindValue(name));
  const Tensor& after = *tuned->graph.constant(tuned->graph.FindValue(name));
  for (int64_t i = 0; i < 8; ++i) EXPECT_EQ(after.as<float>()[i], 0);
  EXPECT_NE(before.as<float>()[0], 0);  // what it was given stays as it was
  EXPECT_NE(after.as<float>()[20], before.as<float>()[20]);
}

TEST(FineTuneTest, AnotherLossStandsForTheOwn) {
  const Dataset data = Moons(128);
  // The square of the outputs: everything goes to zero.
  const LossBuilder loss = [](Builder& b, ValueId y, ValueId) -> Result<ValueId> {
    const ValueId mean = b.Emit("ReduceMean", {b.Mul(y, y)}, {{"keepdims", int64_t{0}}});
    MINIM_TRY(b.status());
    return mean;
  };
  const auto tuned = FineTune(MoonsNet(8), data, {.epochs = 60, .batch = 32, .learning_rate = 1e-2},
                              {.loss = loss});
  ASSERT_TRUE(tuned.ok()) << tuned.status().message();
  EXPECT_LT(tuned->last_loss, 0.02 * tuned->first_loss);
}

TEST(FineTuneTest, ScalesAndZeroPointsStay) {
  Graph graph = ParseText(R"(graph "g"(x: f32[N,4]) -> (y) {
    const w: f32[4,2] = [0.5, 0.1, -0.25, 0.5, 1, -1, 0.3, 0.2]
    const s: f32[2] = [0.01, 0.01]
    const z: i8[2] = [0, 0]
    const t: f32 = [0.05]
    const u: u8 = [128]
    a = QuantizeLinear(x, t, u)
    b = DequantizeLinear(a, t, u)
    q = QuantizeLinear(w, s, z) {axis=1}
    d = DequantizeLinear(q, s, z) {axis=1}
    y: f32[N,2] = MatMul(b, d) })")
                    .value();
  const Graph tuned = Tuned(graph, Moons(128), {.epochs = 5, .batch = 32, .learning_rate = 1e-2});
  const auto first = [](const Graph& g, const char* name) {
    return g.constant(g.FindValue(name))->as<float>()[0];
  };
  EXPECT_EQ(first(tuned, "s"), 0.01f);
  EXPECT_NE(first(tuned, "w"), 0.5f);
}

TEST(FineTuneTest, StopsWhenToldTo) {
  const Dataset data = Moons(256);
  const auto limited =
      FineTune(MoonsNet(8), data, {.epochs = 1e7, .time_limit = std::chrono::milliseconds(20)});
  ASSERT_TRUE(limited.ok()) << limited.status().message();
  EXPECT_TRUE(limited->timed_out);
  EXPECT_GE(limited->steps, 1);
  double seen = 0;
  const auto cancelled =
      FineTune(MoonsNet(8), data, {.epochs = 2, .batch = 32, .progress = [&](double share, double) {
                                     seen = share;
                                     return share < 0.5;
                                   }});
  EXPECT_EQ(cancelled.status().code(), StatusCode::kCancelled);
  EXPECT_EQ(seen, 0.5);
}

TEST(FineTuneTest, SaysWhatIsWrong) {
  Dataset data = Moons(64);
  for (const FineTuneOptions& options :
       {FineTuneOptions{.epochs = 0}, FineTuneOptions{.batch = 0}, FineTuneOptions{.threads = 0}})
    EXPECT_EQ(FineTune(MoonsNet(8), data, options).status().code(), StatusCode::kInvalidArgument);
  data.labels.as<int64_t>()[5] = 2;  // of two classes
  EXPECT_EQ(FineTune(MoonsNet(8), data, {}).status().code(), StatusCode::kInvalidArgument);
  data = Moons(64);
  for (float& x : data.samples.as<float>()) x = std::numeric_limits<float>::quiet_NaN();
  const auto bad = FineTune(MoonsNet(8), data, {.epochs = 20, .batch = 16});
  EXPECT_EQ(bad.status().code(), StatusCode::kUnsupported);
  EXPECT_NE(bad.status().message().find("samples"), std::string::npos) << bad.status().message();
}

}  // namespace
}  // namespace minim
