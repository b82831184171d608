#include "train/model_builder.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/philox.h"
#include "minim/session.h"
#include "onnx/onnx.h"

namespace minim {
namespace {

const std::vector<int64_t> kImage = {3, 9, 7};

std::string OutputOf(const ModelSpec& spec) {
  const auto graph = BuildModel(spec, 1);
  return graph.ok() ? graph->type(graph->outputs[0]).ToString() : graph.status().message();
}

const Tensor& ConstantOf(const Graph& graph, const std::string& name) {
  return graph.constants.at(graph.FindValue(name));
}

// Random samples and what the model makes of them.
struct Ran {
  Graph graph;
  Tensor x, y;
};

Ran RunOn(const std::vector<int64_t>& sample, const LayerSpec& layer) {
  Ran ran{BuildModel({.input = sample, .layers = {layer}}, 7).value()};
  Dims dims = {2};
  for (int64_t size : sample) dims.push_back(size);
  ran.x = Tensor(DType::f32, dims);
  const Philox rng(5);
  for (int64_t i = 0; i < ran.x.size(); ++i) ran.x.as<float>()[i] = rng.Normal(i);
  const auto session = Session::FromBytes(SerializeOnnx(ran.graph).value()).value();
  const ConstView views[] = {ran.x.view()};
  ran.y = session->Run(views).value()[0];
  return ran;
}

TEST(ModelBuilderTest, RoundsUpTheUnitsOfAllLayersButTheLast) {
  ModelSpec spec{.input = kImage,
                 .layers = {{.kind = "conv", .units = 13, .kernel = 3},
                            {.kind = "relu"},
                            {.kind = "flatten"},
                            {.kind = "linear", .units = 16},
                            {.kind = "linear", .units = 10},
                            {.kind = "sigmoid"}},
                 .round_up_channels = 8};
  const auto sizes = [&] {
    const Graph graph = BuildModel(spec, 1).value();
    return std::vector<int64_t>{ConstantOf(graph, "layer0_conv_weight").dims()[0],
                                ConstantOf(graph, "layer3_linear_weight").dims()[0],
                                ConstantOf(graph, "layer4_linear_weight").dims()[0]};
  };
  EXPECT_EQ(sizes(), (std::vector<int64_t>{16, 16, 10}));
  spec.round_up_channels = 1;
  EXPECT_EQ(sizes(), (std::vector<int64_t>{13, 16, 10}));
}

// (size + 2 padding - kernel) / stride + 1; where no stride is given, 1 of conv, the kernel of
// pools.
TEST(BuildModelTest, WindowsHaveTheSizesOfTheirFormula) {
  for (const std::string kind : {"conv", "max_pool", "average_pool"}) {
    for (int64_t kernel : {1, 2, 3, 4}) {
      for (int64_t stride : {0, 1, 2, 3}) {
        for (int64_t padding : {int64_t{0}, kernel / 2}) {
          const int64_t step = stride > 0 ? stride : kind == "conv" ? 1 : kernel;
          const auto size = [&](int64_t in) { return (in + 2 * padding - kernel) / step + 1; };
          const LayerSpec layer{
              .kind = kind, .units = 5, .kernel = kernel, .stride = stride, .padding = padding};
          EXPECT_EQ(OutputOf({.input = kImage, .layers = {layer}}),
                    fmt::format("f32[N,{},{},{}]", kind == "conv" ? 5 : 3, size(9), size(7)))
              << kind << " " << kernel << " " << stride << " " << padding;
        }
      }
    }
  }
  EXPECT_EQ(OutputOf({.input = kImage, .layers = {{.kind = "global_average_pool"}}}),
            "f32[N,3,1,1]");
  EXPECT_EQ(OutputOf({.input = kImage, .layers = {{.kind = "flatten"}}}), "f32[N,189]");
}

TEST(BuildModelTest, AConvolutionIsTheSumOverItsWindow) {
  for (bool bias : {true, false}) {
    const Ran ran = RunOn(
        kImage, {.kind = "conv", .units = 2, .kernel = 3, .stride = 2, .padding = 1, .bias = bias});
    const Tensor& w = ConstantOf(ran.graph, "layer0_conv_weight");
    ASSERT_EQ(w.dims(), Dims({2, 3, 3, 3}));
    ASSERT_EQ(ran.y.dims(), Dims({2, 2, 5, 4}));
    EXPECT_EQ(ran.graph.constants.size(), bias ? 2u : 1u);
    for (int64_t i = 0; i < ran.y.size(); ++i) {
      const int64_t n = i / 40, unit = i / 20 % 2, row = i / 4 % 5, column = i % 4;
      double sum = 0;
      for (int64_t k = 0; k < 27; ++k) {
        const int64_t channel = k / 9, r = 2 * row + k / 3 % 3 - 1, c = 2 * column + k % 3 - 1;
        if (r >= 0 && r < 9 && c >= 0 && c < 7)
          sum += double{w.as<float>()[unit * 27 + k]} *
                 ran.x.as<float>()[((n * 3 + channel) * 9 + r) * 7 + c];
      }
      ASSERT_NEAR(ran.y.as<float>()[i], sum, 1e-5) << i;
    }
  }
}

TEST(BuildModelTest, PoolsAndActivationsAreWhatTheirNamesSay) {
  const auto pooled = [](const LayerSpec& layer, auto&& fold, double first, double share) {
    const Ran ran = RunOn({1, 4, 6}, layer);
    ASSERT_EQ(ran.y.dims(), Dims({2, 1, 2, 3}));
    for (int64_t i = 0; i < ran.y.size(); ++i) {
      double value = first;
      for (int64_t k = 0; k < 4; ++k)
        value = fold(value, double{ran.x.as<float>()[(i / 3 * 2 + k / 2) * 6 + i % 3 * 2 + k % 2]});
      EXPECT_NEAR(ran.y.as<float>()[i], value * share, 1e-6) << layer.kind;
    }
  };
  pooled(
      {.kind = "max_pool", .kernel = 2}, [](double a, double b) { return std::max(a, b); },
      -INFINITY, 1);
  pooled({.kind = "average_pool", .kernel = 2}, [](double a, double b) { return a + b; }, 0, 0.25);
  const std::pair<std::string, double (*)(double)> activations[] = {
      {"relu", [](double x) { return std::max(x, 0.0); }},
      {"sigmoid", [](double x) { return 1 / (1 + std::exp(-x)); }},
      {"tanh", [](double x) { return std::tanh(x); }}};
  for (const auto& [kind, f] : activations) {
    const Ran ran = RunOn({50}, {.kind = kind});
    for (int64_t i = 0; i < ran.y.size(); ++i)
      EXPECT_NEAR(ran.y.as<float>()[i], f(ran.x.as<float>()[i]), 1e-6) << kind;
  }
}

// He et al. 2015: a variance of 2 over the inputs of a unit keeps that of activations.
TEST(BuildModelTest, WeightsSpreadByTheirFanInAndTheSeed) {
  const auto build = [](uint64_t seed) {
    return BuildModel({.input = {8, 6, 6},
                       .layers = {{.kind = "conv", .units = 64, .kernel = 5},
                                  {.kind = "flatten"},
                                  {.kind = "linear", .units = 100},
                                  {.kind = "linear", .units = 100}}},
                      seed)
        .value();
  };
  const Graph graph = build(1), same = build(1), other = build(2);
  for (const auto& [name, fan_in] : {std::pair<std::string, double>{"layer0_conv_weight", 200},
                                     {"layer2_linear_weight", 256},
                                     {"layer3_linear_weight", 100}}) {
    const auto w = ConstantOf(graph, name).as<float>();
    const auto count = static_cast<double>(w.size());
    double sum = 0, squares = 0;
    for (float value : w) {
      sum += value;
      squares += double{value} * value;
    }
    const double variance = 2 / fan_in;  // five standard errors of its estimate and of the mean's
    EXPECT_NEAR(squares / count, variance, 5 * variance * std::sqrt(2 / count)) << name;
    EXPECT_NEAR(sum / count, 0, 5 * std::sqrt(variance / count)) << name;
    const auto again = ConstantOf(same, name).as<float>(),
               new_ = ConstantOf(other, name).as<float>();
    EXPECT_TRUE(std::equal(w.begin(), w.end(), again.begin())) << name;
    EXPECT_FALSE(std::equal(w.begin(), w.end(), new_.begin())) << name;
  }
  EXPECT_NE(ConstantOf(graph, "layer2_linear_weight").as<float>()[0],
            ConstantOf(graph, "layer3_linear_weight").as<float>()[0] * std::sqrt(100.0f / 256));
}

TEST(BuildModelTest, MistakesNameTheLayer) {
  const auto expect = [](const std::vector<int64_t>& input, const LayerSpec& layer,
                         const std::string& part) {
    const std::string found =
        BuildModel({.input = input, .layers = {{.kind = "relu"}, layer}}, 1).status().message();
    EXPECT_NE(found.find("layer1_" + layer.kind + ": " + part), std::string::npos) << found;
  };
  expect({8}, {.kind = "conv", .units = 1, .kernel = 1},
         "needs an input of rank 4, found f32[N,8]");
  expect(kImage, {.kind = "linear", .units = 1}, "needs an input of rank 2, found f32[N,3,9,7]");
  expect(kImage, {.kind = "conv", .kernel = 3}, "needs channels and kernel of at least 1");
  expect(kImage, {.kind = "conv", .units = 3}, "needs channels and kernel of at least 1");
  expect({8}, {.kind = "linear"}, "needs at least 1 output");
  expect(kImage, {.kind = "max_pool"}, "needs a kernel of at least 1");
  expect(kImage, {.kind = "average_pool"}, "needs a kernel of at least 1");
  expect({8}, {.kind = "dropout", .ratio = 1}, "the ratio is 1, expected at least 0 and below 1");
  expect({8}, {.kind = "dropout", .ratio = NAN}, "the ratio is nan");
  expect({8}, {.kind = "softmax"}, "unknown layer 'softmax'; expected conv, linear");
  for (const char* kind : {"conv", "max_pool", "average_pool"})
    expect(kImage, {.kind = kind, .units = 1, .kernel = 8},
           "a kernel of 8 does not fit into f32[N,3,9,7]");
  expect({8}, {.kind = "max_pool", .kernel = 2}, "");
  EXPECT_NE(OutputOf({.input = {8}}).find("at least one layer"), std::string::npos);
  EXPECT_NE(OutputOf({.layers = {{.kind = "relu"}}}).find("an input shape"), std::string::npos);
}

}  // namespace
}  // namespace minim
