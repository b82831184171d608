#include "compress/prune.h"

#include "compress/testing/small_problems.h"
#include "graph/text.h"
#include "onnx/onnx.h"

namespace minim {
namespace {

const Tensor& ConstantNamed(const Graph& graph, const std::string& name) {
  const Tensor* tensor = graph.constant(graph.FindValue(name));
  MINIM_CHECK(tensor != nullptr);
  return *tensor;
}

TEST(PruneTest, TheScheduleIsCubic) {
  EXPECT_EQ(CubicSparsity(0, 0.8, 0), 0);
  EXPECT_EQ(CubicSparsity(0, 0.8, 1), 0.8);
  EXPECT_DOUBLE_EQ(CubicSparsity(0, 0.8, 0.5), 0.8 - 0.8 / 8);
  EXPECT_DOUBLE_EQ(CubicSparsity(0.2, 0.8, 0.5), 0.8 - 0.6 / 8);
  EXPECT_EQ(CubicSparsity(0, 0.8, 7), 0.8);
}

TEST(PruneTest, LayersKeepMultiplesAndALeast) {
  const Graph net = MoonsNet(64);
  const int64_t all = 4 * 64 + 64 + 64 * 64 + 64 + 64 * 2 + 2;
  ASSERT_EQ(ParameterCount(net), all);
  for (double fraction : {0.1, 0.5, 0.9}) {
    const auto pruned = PruneChannels(net, fraction);
    ASSERT_TRUE(pruned.ok()) << pruned.status().message();
    EXPECT_EQ(pruned->parameters_before, all);
    EXPECT_EQ(pruned->parameters_after, ParameterCount(pruned->graph));
    EXPECT_LE(pruned->parameters_after, (1 - fraction) * all);
    EXPECT_GT(pruned->parameters_after, (1 - fraction) * all - 8 * 70);  // not much below
    const Dims dims = ConstantNamed(pruned->graph, "layer2_linear_weight").dims();
    for (int axis : {0, 1}) {
      EXPECT_EQ(dims[axis] % 8, 0);
      EXPECT_GE(dims[axis], 8);
    }
  }
  // As far as it may go, which is reported.
  const auto most = PruneChannels(net, 0.999);
  ASSERT_TRUE(most.ok());
  EXPECT_EQ(ConstantNamed(most->graph, "layer2_linear_weight").dims(), Dims({8, 8}));
  EXPECT_EQ(PruneChannels(net, 0.999, {.multiple = 1, .least = 3})->parameters_after,
            4 * 3 + 3 + 3 * 3 + 3 + 3 * 2 + 2);
}

TEST(PruneTest, WhatDoesNothingGoesFirst) {
  Graph net = MoonsNet(32);
  // Of the first layer 16 units in places all over make nothing of note.
  Tensor& weights = net.constants.at(net.FindValue("layer0_linear_weight"));
  Tensor& next = net.constants.at(net.FindValue("layer2_linear_weight"));
  for (int64_t unit = 0; unit < 32; unit += 2) {
    for (int64_t i = 0; i < 4; ++i) weights.as<float>()[unit * 4 + i] *= 1e-7f;
    for (int64_t i = 0; i < 32; ++i) next.as<float>()[i * 32 + unit] *= 1e-7f;
  }
  const auto pruned = PruneChannels(net, 0.4);
  ASSERT_TRUE(pruned.ok()) << pruned.status().message();
  const Tensor& kept = ConstantNamed(pruned->graph, "layer0_linear_weight");
  ASSERT_EQ(kept.dims(), Dims({16, 4}));
  for (int64_t unit = 0; unit < 16; ++unit)
    EXPECT_EQ(kept.as<float>()[unit * 4], weights.as<float>()[(2 * unit + 1) * 4]);
  const Tensor x = Moons(64).samples;
  EXPECT_LT(Distance(RunGraph(pruned->graph, x), RunGraph(net, x)), 1e-5);
}

TEST(PruneTest, AHeadCountsAsItsWidth) {
  // Two layers' products by head; four heads of eight.
  Graph graph = ParseText(R"(graph "g"(x: f32[N,4,16], q: f32[16,32], v: f32[16,32], o: f32[32,2])
      -> (y) {
    const heads: i64[4] = [0, 0, 4, 8]
    const whole: i64[3] = [0, 0, 32]
    q0 = MatMul(x, q)
    q1 = Reshape(q0, heads)
    q2 = Transpose(q1) {perm=[0,2,1,3]}
    v0 = MatMul(x, v)
    v1 = Reshape(v0, heads)
    v2 = Transpose(v1) {perm=[0,2,3,1]}
    s = MatMul(q2, v2)
    a = MatMul(s, q2)
    b = Transpose(a) {perm=[0,2,1,3]}
    c = Reshape(b, whole)
    y = MatMul(c, o) })")
                    .value();
  const Philox rng(1);
  for (size_t i = 1; i < graph.inputs.size(); ++i) {
    Tensor weights(DType::f32, graph.type(graph.inputs[i]).dims());
    for (int64_t k = 0; k < weights.size(); ++k)
      weights.as<float>()[k] = rng.Normal(static_cast<uint64_t>(k));
    graph.constants.emplace(graph.inputs[i], std::move(weights));
  }
  graph.inputs.resize(1);
  const auto pruned = PruneChannels(graph, 0.3);
  ASSERT_TRUE(pruned.ok()) << pruned.status().message();
  EXPECT_EQ(ConstantNamed(pruned->graph, "q").dims(), Dims({16, 16}));
  EXPECT_EQ(ConstantNamed(pruned->graph, "v").dims(), Dims({16, 16}));
  const auto most = PruneChannels(graph, 0.99);
  EXPECT_EQ(ConstantNamed(most->graph, "o").dims(), Dims({8, 2}));
}

TEST(PruneTest, SaysWhatIsInTheWay) {
  for (double fraction : {0.0, 1.0, -1.0, std::nan("")})
    EXPECT_EQ(PruneChannels(MoonsNet(32), fraction).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(PruneChannels(MoonsNet(32), 0.5, {.multiple = 0}).status().code(),
            StatusCode::kInvalidArgument);
  const auto few = PruneChannels(MoonsNet(8), 0.5);
  EXPECT_EQ(few.status().code(), StatusCode::kUnsupported);
  EXPECT_NE(few.status().message().find("more than 8"), std::string::npos);
  Graph blocked = MoonsNet(32);
  for (Node& node : blocked.nodes)
    if (node.Is("Relu")) node.op = "Softmax";
  const auto none = PruneChannels(blocked, 0.5);
  EXPECT_EQ(none.status().code(), StatusCode::kUnsupported);
  EXPECT_NE(none.status().message().find("Softmax"), std::string::npos);
  Dataset data = Moons(64);
  ArraySource source(data);
  EXPECT_EQ(PruneChannelsGradually(MoonsNet(32), source, {.rounds = 0}).status().code(),
            StatusCode::kInvalidArgument);
  EXPECT_EQ(PruneMagnitude(MoonsNet(32), source, {.fraction = 1}).status().code(),
            StatusCode::kInvalidArgument);
}

TEST(PruneTest, HalfOfAnImageModelIsNotMissed) {
  const Fashion data = SomeFashion();
  if (data.train.size() == 0) GTEST_SKIP() << "dataset-fashion-mnist is not installed";
  const Graph& net = TrainedFashionNet(data);
  const double before = Accuracy(net, data.test);
  ASSERT_GT(before, 0.8);
  ArraySource source(data.train);
  const GradualOptions options{
      .fraction = 0.5, .rounds = 3, .tune = {.epochs = 2, .batch = 50, .learning_rate = 2e-3}};
  const auto pruned = PruneChannelsGradually(net, source, options);
  ASSERT_TRUE(pruned.ok()) << pruned.status().message();
  const double after = Accuracy(pruned->graph, data.test);
  RecordProperty("accuracy_before", std::to_string(before));
  RecordProperty("accuracy_after", std::to_string(after));
  EXPECT_GT(after, 0.98 * before) << before << " -> " << after;
  const double bytes = static_cast<double>(SerializeOnnx(pruned->graph)->size()) /
                       static_cast<double>(SerializeOnnx(net)->size());
  EXPECT_LT(bytes, 0.55);
  EXPECT_LE(pruned->parameters_after, pruned->parameters_before / 2);
  // Without rounds and tuning it is missed, or the test above would say nothing.
  EXPECT_LT(Accuracy(PruneChannels(net, 0.5)->graph, data.test), 0.98 * before);
}

TEST(PruneTest, ZerosStayWhileTheOthersLearn) {
  const Dataset data = Moons(256), held_out = Moons(256, 4);
  const Graph net = Tuned(MoonsNet(32), data, {.epochs = 40, .learning_rate = 1e-2});
  ArraySource source(data);
  int calls = 0;
  const auto pruned = PruneMagnitude(
      net, source,
      {.fraction = 0.75, .rounds = 4, .tune = {.epochs = 30, .batch = 32, .learning_rate = 5e-3}},
      {.after_step = [&](const TunedParameters&) { ++calls; }});
  ASSERT_TRUE(pruned.ok()) << pruned.status().message();
  EXPECT_GT(calls, 30 * 8);
  int64_t zeros = 0;
  for (const char* name :
       {"layer0_linear_weight", "layer2_linear_weight", "layer4_linear_weight"}) {
    const Tensor& weights = ConstantNamed(pruned->graph, name);
    int64_t here = 0;
    for (float value : weights.as<float>()) here += value == 0;
    EXPECT_EQ(here, static_cast<int64_t>(0.75 * static_cast<double>(weights.size()))) << name;
    zeros += here;
  }
  EXPECT_LE(pruned->parameters_after, ParameterCount(net) - zeros);
  EXPECT_GT(Accuracy(pruned->graph, held_out), 0.95);
  // The weights that are left did learn.
  Graph cut = net;
  for (auto& [id, tensor] : cut.constants) {
    const Tensor& mask = pruned->graph.constants.at(id);
    tensor = tensor.Clone();
    for (int64_t i = 0; tensor.dims().rank() == 2 && i < tensor.size(); ++i)
      if (mask.as<float>()[i] == 0) tensor.as<float>()[i] = 0;
  }
  EXPECT_LT(Accuracy(cut, held_out), Accuracy(pruned->graph, held_out));
  EXPECT_GT(Accuracy(net, held_out), 0.95);  // what it was given stays as it was
}

TEST(PruneTest, TheTimeLimitIsThatOfTheWhole) {
  const Dataset data = Moons(256);
  ArraySource source(data);
  double last = 0;
  bool rises = true;
  const auto pruned = PruneChannelsGradually(MoonsNet(32), source,
                                             {.rounds = 3,
                                              .tune = {.epochs = 1e7,
                                                       .time_limit = std::chrono::milliseconds(60),
                                                       .progress = [&](double share, double) {
                                                         rises = rises && share >= last;
                                                         last = share;
                                                         return true;
                                                       }}});
  ASSERT_TRUE(pruned.ok()) << pruned.status().message();
  EXPECT_TRUE(pruned->timed_out);
  EXPECT_TRUE(rises);
  EXPECT_LE(pruned->parameters_after, pruned->parameters_before / 2);
}

}  // namespace
}  // namespace minim
