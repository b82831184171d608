// Depthwise convolutions whose rows are read in place against those of staged planes.
#include "kernels/cpu/depthwise_rows.h"

#include <gtest/gtest.h>

#include "core/philox.h"
#include "kernels/cpu/test_support.h"

namespace minim {
namespace {

struct Geometry {
  int64_t batch, channels, multiplier, in[2], kernel[2];
  std::vector<int64_t> strides, pads, dilations;

  Dims x() const { return {batch, channels, in[0], in[1]}; }
  Dims w() const { return {channels * multiplier, 1, kernel[0], kernel[1]}; }
  Dims y() const {
    Dims out{batch, channels * multiplier};
    for (int i = 0; i < 2; ++i)
      out.push_back(
          (in[i] + pads[i] + pads[2 + i] - (kernel[i] - 1) * dilations[i] - 1) / strides[i] + 1);
    return out;
  }
  Attributes attributes() const {
    return {{"group", channels}, {"strides", strides}, {"pads", pads}, {"dilations", dilations}};
  }
};

// Calls f with geometries of every kind, of which there are results.
template <typename F>
void ForEachGeometry(F&& f) {
  const Philox rng(11);
  uint64_t drawn = 0;
  const auto draw = [&](int64_t low, int64_t high) {
    return low + static_cast<int64_t>(rng.Below(drawn++, static_cast<uint64_t>(high - low + 1)));
  };
  for (uint64_t seed = 0; seed < 120; ++seed) {
    const int64_t size = draw(1, 6);
    const bool square = draw(0, 1) == 1;
    const Geometry g{.batch = draw(1, 2),
                     .channels = draw(1, 4),
                     .multiplier = draw(1, 3),
                     .in = {draw(1, 12), draw(1, 75)},
                     .kernel = {size, square ? size : draw(1, 6)},
                     .strides = {draw(1, 3), draw(1, 2)},
                     .pads = {draw(0, 3), draw(0, 3), draw(0, 3), draw(0, 3)},
                     .dilations = {draw(1, 2), draw(1, 2)}};
    if (g.channels > 1 && g.y()[2] > 0 && g.y()[3] > 0) f(g, seed);
  }
}

TEST(DepthwiseRowsTest, FloatsAreNear) {
  int in_place = 0;
  ForEachGeometry([&](const Geometry& g, uint64_t seed) {
    KernelCase test{.op = "FusedConv",
                    .attributes = g.attributes(),
                    .inputs = {Uniform(g.x(), seed), Uniform(g.w(), seed + 1)},
                    .outputs = {Tensor(DType::f32, g.y())}};
    if (seed % 3 != 0) test.inputs.push_back(Uniform({g.w()[0]}, seed + 2));
    if (seed % 3 == 2) test.inputs.push_back(Uniform(g.y(), seed + 3));
    if (seed % 2 == 1) test.attributes.Set("activation", std::string("Relu"));
    if (seed % 4 == 2) test.attributes.Set("activation", std::string("Tanh"));
    RunCase(test, Isa::kPortable);
    const auto values = test.outputs[0].as<float>();
    const std::vector<double> expected(values.begin(), values.end());
    test.threads = 1 + static_cast<int>(seed % 3);
    test.outputs = {Tensor(DType::f32, g.y())};
    BoundCase bound(test, DetectIsa());
    bound.Run();
    in_place += bound.kernel().Describe().find("in place") != std::string::npos;
    ExpectNear(test.outputs[0].as<float>(), expected, 1e-5, 1e-5, fmt::format("seed {}", seed));
  });
  EXPECT_TRUE(DetectIsa() < Isa::kAvx512 || in_place > 40) << in_place;
}

TEST(DepthwiseRowsTest, BytesAreTheSame) {
  int in_place = 0;
  ForEachGeometry([&](const Geometry& g, uint64_t seed) {
    const auto byte = [&](int bit) { return seed >> bit & 1 ? DType::i8 : DType::u8; };
    const Dims each{g.w()[0]};
    KernelCase test{
        .op = "QLinearConv",
        .attributes = g.attributes(),
        .inputs = {Bytes(byte(0), g.x(), seed), Tensor::Scalar<float>(0.02f),
                   Bytes(byte(0), {}, seed + 1), Bytes(byte(1), g.w(), seed + 2),
                   Uniform(each, seed + 3, 0.001f, 0.02f), Bytes(byte(1), each, seed + 4),
                   Tensor::Scalar<float>(0.05f), Bytes(byte(2), {}, seed + 5)},
        .outputs = {Tensor(byte(2), g.y())},
        .constants = {3, 5}};
    if (seed % 3 != 0) test.inputs.push_back(Integers<int32_t>(each, seed + 6, -9000, 9000));
    RunCase(test, Isa::kPortable);
    const Tensor expected = test.outputs[0].Clone();
    test.threads = 1 + static_cast<int>(seed % 3);
    test.outputs = {Tensor(byte(2), g.y())};
    BoundCase bound(test, DetectIsa());
    bound.Run();
    in_place += bound.kernel().Describe().find("in place") != std::string::npos;
    EXPECT_TRUE(SameBytes(test.outputs[0], expected)) << "seed " << seed;
  });
  EXPECT_TRUE(DetectIsa() < Isa::kAvx512Vnni || in_place > 40) << in_place;
}

TEST(DepthwiseRowsTest, WhatItDoesNotTakeIsRefused) {
  Window w{.in = {1, 9, 9}, .out = {1, 3, 3}, .kernel = {1, 3, 3}, .stride = {1, 3, 3}};
  EXPECT_FALSE(DepthwiseRowsOf(w, 16).ok());
  w.stride[2] = 2;
  EXPECT_TRUE(DepthwiseRowsOf(w, 16).ok());
  w.kernel[1] = kMostPlaneTaps;
  EXPECT_FALSE(DepthwiseRowsOf(w, 16).ok());
  Window cube{.in = {2, 9, 9}, .out = {2, 9, 9}};
  EXPECT_FALSE(DepthwiseRowsOf(cube, 16).ok());
}

}  // namespace
}  // namespace minim
