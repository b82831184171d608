// Convolutions and pools with the channels last against the same with the channels first.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/philox.h"
#include "core/requantize.h"
#include "kernels/cpu/test_support.h"

namespace minim {
namespace {

// Elements of N, C, H, W in the order N, H, W, C.
Tensor ChannelsLast(const Tensor& x) {
  const Dims& d = x.dims();
  Tensor y(x.dtype(), {d[0], d[2], d[3], d[1]});
  const auto* src = static_cast<const std::byte*>(x.data());
  auto* dst = static_cast<std::byte*>(y.data());
  const int64_t plane = d[2] * d[3];
  const size_t size = SizeOf(x.dtype());
  for (int64_t i = 0; i < x.size(); ++i) {
    const int64_t to = (i / (plane * d[1]) * plane + i % plane) * d[1] + i / plane % d[1];
    std::memcpy(dst + to * size, src + i * size, size);
  }
  return y;
}

// Adds z to what is there and quantizes the sum, as the ops one by one do.
void AddShortcut(const Tensor& z, float y_scale, int32_t y_zero, float z_scale, int32_t z_zero,
                 float scale, int32_t zero, bool rectifies, Tensor* y) {
  const bool is_signed = y->dtype() == DType::i8;
  const auto at = [&](const Tensor& x, int64_t i) -> int32_t {
    return is_signed ? x.as<int8_t>()[i] : int32_t{x.as<uint8_t>()[i]};
  };
  auto* bytes = static_cast<uint8_t*>(y->data());
  for (int64_t i = 0; i < y->size(); ++i) {
    const float sum = static_cast<float>(at(*y, i) - y_zero) * y_scale +
                      static_cast<float>(at(z, i) - z_zero) * z_scale;
    bytes[i] = static_cast<uint8_t>(Requantize((rectifies ? std::max(sum, 0.0f) : sum) / scale,
                                               zero, is_signed ? -128 : 0, is_signed ? 127 : 255));
  }
}

struct Geometry {
  Dims x, w;
  std::vector<int64_t> strides = {1, 1}, pads = {0, 0, 0, 0}, dilations = {1, 1};

  Dims y() const {
    Dims out{x[0], w[0]};
    for (int i = 0; i < 2; ++i)
      out.push_back(
          (x[2 + i] + pads[i] + pads[2 + i] - (w[2 + i] - 1) * dilations[i] - 1) / strides[i] + 1);
    return out;
  }
  std::string Text() const {
    return fmt::format("x {} w {} strides {},{} pads {},{},{},{} dilations {},{}", x.ToString(),
                       w.ToString(), strides[0], strides[1], pads[0], pads[1], pads[2], pads[3],
                       dilations[0], dilations[1]);
  }
  Attributes attributes() const {
    return {{"strides", strides},
            {"pads", pads},
            {"dilations", dilations},
            {"group", x[1] / std::max<int64_t>(1, w[1])}};
  }
};

// The same bits as a convolution and then what lies around a shortcut.
void ExpectSameWithShortcut(KernelCase test, Tensor expected, const Geometry& g, uint64_t seed) {
  const DType dtype = expected.dtype();
  const auto scalar = [&](int value) {
    return dtype == DType::i8 ? Tensor::Scalar<int8_t>(static_cast<int8_t>(value))
                              : Tensor::Scalar<uint8_t>(static_cast<uint8_t>(value));
  };
  const bool rectifies = seed % 2 == 0;
  const int z_zero = static_cast<int>(seed * 31 % 100), zero = static_cast<int>(seed * 17 % 90);
  const float scale = seed % 3 == 0 ? 0.37f : 0.0041f;  // the second saturates
  const Tensor z = Bytes(dtype, expected.dims(), seed + 6), y_zero = test.inputs[7];
  const int32_t y_zero_point =
      dtype == DType::i8 ? y_zero.as<int8_t>()[0] : int32_t{y_zero.as<uint8_t>()[0]};
  AddShortcut(z, 0.3f, y_zero_point, 0.07f, z_zero, scale, zero, rectifies, &expected);
  test.inputs.resize(9);
  for (const Tensor& input : {z, Tensor::Scalar<float>(0.07f), scalar(z_zero),
                              Tensor::Scalar<float>(scale), scalar(zero)})
    test.inputs.push_back(input);
  test.constants = {3, 5, 6, 7, 10, 11, 12, 13};
  if (rectifies) test.attributes.Set("activation", std::string("Relu"));
  for (const Isa isa : TestLevels()) {
    test.outputs = {Tensor(dtype, expected.dims())};
    RunCase(test, isa);
    ASSERT_TRUE(SameBytes(test.outputs[0], expected))
        << g.Text() << ", seed " << seed << ", " << test.threads << " threads, " << Name(isa);
  }
}

// The same bits as the portable convolution, with results of both types.
void ExpectSame(const Geometry& g, uint64_t seed) {
  for (const DType dtype : {DType::u8, DType::i8}) {
    const bool per_filter = dtype == DType::u8;
    const Dims filters = per_filter ? Dims{g.w[0]} : Dims{};
    KernelCase test{
        .op = "QLinearConv",
        .attributes = g.attributes(),
        .inputs = {Bytes(DType::u8, g.x, seed), Tensor::Scalar<float>(0.02f),
                   Bytes(DType::u8, {}, seed + 1), Bytes(DType::i8, g.w, seed + 2),
                   Uniform(filters, seed + 3, 0.001f, 0.01f), Tensor(DType::i8, filters),
                   Tensor::Scalar<float>(0.3f), Bytes(dtype, {}, seed + 4)},
        .outputs = {Tensor(dtype, g.y())},
        .constants = {3, 5}};
    if (per_filter) test.inputs.push_back(Integers<int32_t>({g.w[0]}, seed + 5, -5000, 5000));
    RunCase(test, Isa::kPortable);
    const Tensor expected = ChannelsLast(test.outputs[0]);
    test.op = "NhwcQLinearConv";
    test.inputs[0] = ChannelsLast(test.inputs[0]);
    for (const Isa isa : {Isa::kPortable, DetectIsa()}) {
      test.threads = 1 + static_cast<int>(seed + static_cast<uint64_t>(isa)) % 3;
      test.outputs = {Tensor(dtype, expected.dims())};
      RunCase(test, isa);
      ASSERT_TRUE(SameBytes(test.outputs[0], expected))
          << g.Text() << ", seed " << seed << ", " << test.threads << " threads, " << Name(isa);
    }
    ExpectSameWithShortcut(test, expected, g, seed);
  }
}

// As the portable convolution in FP32 of the same values, with and without bias, residual and
// activation. BF16 is rounded once.
void ExpectNearConv(const Geometry& g, uint64_t seed, DType dtype) {
  const Dims out = g.y();
  const auto as = [](const Tensor& x, DType to) { return Converted(x.view(), to); };
  KernelCase test{.op = "FusedConv",
                  .attributes = g.attributes(),
                  .inputs = {Uniform(g.x, seed), Uniform(g.w, seed + 1)},
                  .outputs = {Tensor(DType::f32, out)},
                  .constants = {1}};
  if (seed % 3 != 0) test.inputs.push_back(Uniform({g.w[0]}, seed + 2));
  if (seed % 3 == 2) test.inputs.push_back(Uniform(out, seed + 3));
  if (seed % 2 == 1) test.attributes.Set("activation", std::string("Relu"));
  for (Tensor& input : test.inputs)
    if (input.defined()) input = as(as(input, dtype), DType::f32);
  RunCase(test, Isa::kPortable);
  const Tensor last = ChannelsLast(test.outputs[0]);
  const std::vector<double> expected(last.as<float>().begin(), last.as<float>().end());
  test.op = "NhwcFusedConv";
  test.inputs[0] = ChannelsLast(test.inputs[0]);
  if (seed % 3 == 2) test.inputs[3] = ChannelsLast(test.inputs[3]);
  for (Tensor& input : test.inputs)
    if (input.defined()) input = as(input, dtype);
  const double relative = dtype == DType::bf16 ? 0x1p-8 : 1e-4;
  for (const Isa isa : TestLevels()) {
    test.threads = 1 + static_cast<int>(seed + static_cast<uint64_t>(isa)) % 3;
    test.outputs = {Tensor(dtype, last.dims())};
    RunCase(test, isa);
    ExpectNear(as(test.outputs[0], DType::f32).as<float>(), expected, relative, 1e-4,
               fmt::format("{}, seed {}, {} threads, {}", g.Text(), seed, test.threads, Name(isa)));
    if (testing::Test::HasFailure()) return;
  }
}

TEST(NhwcConvTest, AnyGeometry) {
  const Philox rng(7);
  uint64_t drawn = 0;
  const auto draw = [&](int64_t low, int64_t high) {
    return low + static_cast<int64_t>(rng.Below(drawn++, static_cast<uint64_t>(high - low + 1)));
  };
  for (uint64_t seed = 0; seed < 150; ++seed) {
    Geometry g{.x = {draw(1, 3), draw(1, 40), draw(4, 14), draw(4, 14)}};
    g.w = {draw(1, 140), g.x[1], draw(1, 3), draw(1, 3)};
    g.strides = {draw(1, 2), draw(1, 2)};
    g.pads = {draw(0, 2), draw(0, 2), draw(0, 2), draw(0, 2)};
    g.dilations = {draw(1, 4) == 1 ? 2 : 1, draw(1, 4) == 1 ? 2 : 1};
    if (g.y()[2] < 1 || g.y()[3] < 1) continue;
    ExpectSame(g, seed * 10);
    ExpectNearConv(g, seed, DType::f32);
    ExpectNearConv(g, seed, DType::bf16);
  }
}

// Images cut by lines, several images together, filters shared among threads, pixels in one line.
TEST(NhwcConvTest, EveryWayToCutTheWork) {
  const Geometry cases[] = {
      {{1, 64, 60, 62}, {70, 64, 3, 3}, {1, 1}, {1, 1, 1, 1}},
      {{2, 64, 61, 60}, {33, 64, 3, 3}, {2, 2}, {0, 1, 1, 0}},
      {{2, 64, 60, 62}, {20, 64, 1, 1}, {2, 2}},
      {{7, 128, 7, 7}, {200, 128, 3, 3}, {1, 1}, {1, 1, 1, 1}},
      {{1, 512, 3, 3}, {300, 512, 3, 3}, {1, 1}, {1, 1, 1, 1}},
      {{3, 60, 29, 31}, {100, 60, 1, 1}},
      {{1, 8, 1, 1}, {5, 8, 1, 1}},
  };
  for (uint64_t i = 0; i < std::size(cases); ++i) {
    ExpectSame(cases[i], i + 1);
    ExpectNearConv(cases[i], i + 1, DType::f32);
    ExpectNearConv(cases[i], i + 1, DType::bf16);
  }
}

// Tiles that reach past the image, of parts of an image, of several, and more filters than tiles.
TEST(NhwcConvTest, InTiles) {
  const Geometry cases[] = {
      {{1, 40, 33, 30}, {72, 40, 3, 3}, {1, 1}, {1, 1, 1, 1}},
      {{1, 64, 62, 57}, {64, 64, 3, 3}, {1, 1}, {0, 0, 0, 0}},
      {{9, 70, 14, 15}, {130, 70, 3, 3}, {1, 1}, {2, 0, 1, 1}},
      {{2, 96, 16, 12}, {260, 96, 3, 3}, {1, 1}, {1, 1, 1, 1}},
  };
  for (uint64_t i = 0; i < std::size(cases); ++i) {
    for (uint64_t seed = 0; seed < 6; ++seed) ExpectNearConv(cases[i], seed, DType::f32);
    KernelCase test{.op = "NhwcFusedConv",
                    .attributes = cases[i].attributes(),
                    .inputs = {ChannelsLast(Uniform(cases[i].x, 1)), Uniform(cases[i].w, 2)},
                    .outputs = {ChannelsLast(Tensor(DType::f32, cases[i].y()))},
                    .constants = {1}};
    BoundCase bound(test, DetectIsa());
    EXPECT_THAT(bound.kernel().Describe(), testing::HasSubstr("winograd")) << cases[i].Text();
  }
}

// One plane for each channel: parts of vectors, taps at the edges, more taps than are summed at
// once.
TEST(NhwcConvTest, DepthwiseFilters) {
  const Geometry cases[] = {
      {{2, 136, 9, 8}, {136, 1, 3, 3}, {1, 1}, {1, 1, 1, 1}},
      {{1, 70, 8, 9}, {70, 1, 3, 3}, {2, 2}, {1, 1, 1, 1}},
      {{3, 16, 7, 5}, {16, 1, 5, 7}, {1, 2}, {2, 3, 2, 3}},
      {{1, 3, 12, 9}, {3, 1, 2, 4}, {1, 1}, {0, 0, 3, 2}, {2, 1}},
      {{1, 33, 1, 1}, {33, 1, 1, 1}},
  };
  for (const Geometry& g : cases)
    for (uint64_t seed = 0; seed < 6; ++seed)
      for (const DType dtype : {DType::f32, DType::bf16}) ExpectNearConv(g, seed, dtype);
  KernelCase test{
      .op = "NhwcFusedConv",
      .attributes = cases[0].attributes(),
      .inputs = {Tensor(DType::bf16, {2, 9, 8, 136}), Tensor(DType::bf16, {136, 1, 3, 3})},
      .outputs = {Tensor(DType::bf16, {2, 9, 8, 136})},
      .constants = {1}};
  for (const Isa isa : TestLevels())
    EXPECT_THAT(BoundCase(test, isa).kernel().Describe(), testing::HasSubstr("depthwise"));
}

TEST(NhwcConvTest, DepthwiseNaNStays) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const Tensor x = Tensor::From<float>({1, 1, 2, 2}, {kNan, 1, 2, -3});
    const Tensor w = Tensor::From<float>({2, 1, 1, 1}, {1, 1});
    KernelCase test{.op = "NhwcFusedConv",
                    .attributes = {{"group", int64_t{2}}, {"activation", std::string("Relu")}},
                    .inputs = {Converted(x.view(), dtype), Converted(w.view(), dtype)},
                    .constants = {1}};
    for (const Isa isa : TestLevels()) {
      test.outputs = {Tensor(dtype, {1, 1, 2, 2})};
      RunCase(test, isa);
      const Tensor y = Converted(test.outputs[0].view(), DType::f32);
      EXPECT_TRUE(std::isnan(y.as<float>()[0])) << Name(isa);
      EXPECT_EQ(y.as<float>()[1], 1) << Name(isa);
      EXPECT_EQ(y.as<float>()[2], 2) << Name(isa);
      EXPECT_EQ(y.as<float>()[3], 0) << Name(isa);
    }
  }
}

TEST(NhwcConvTest, WhatItDoesNotTakeIsRefused) {
  const auto refused = [](DType image, bool constant, int64_t groups, int8_t zero) {
    KernelCase test{
        .op = "NhwcQLinearConv",
        .attributes = {{"group", groups}},
        .inputs = {Tensor(image, {1, 5, 5, 8}), Tensor::Scalar<float>(1), Tensor(image, {}),
                   Tensor(DType::i8, {4, 8 / groups, 1, 1}), Tensor::Scalar<float>(1),
                   Tensor::Scalar<int8_t>(zero), Tensor::Scalar<float>(1), Tensor(DType::u8, {})},
        .outputs = {Tensor(DType::u8, {1, 5, 5, 4})}};
    if (constant) test.constants = {3, 5};
    return !BoundCase(test, Isa::kPortable).ok();
  };
  EXPECT_FALSE(refused(DType::u8, true, 1, 0));
  EXPECT_TRUE(refused(DType::i8, true, 1, 0));
  EXPECT_TRUE(refused(DType::u8, false, 1, 0));
  EXPECT_TRUE(refused(DType::u8, true, 2, 0));
  EXPECT_TRUE(refused(DType::u8, true, 1, 3));
}

TEST(NhwcConvTest, FloatsItDoesNotTakeAreRefused) {
  const auto refused = [](bool constant, int64_t groups, const char* activation) {
    KernelCase test{
        .op = "NhwcFusedConv",
        .attributes = {{"group", groups}, {"activation", std::string(activation)}},
        .inputs = {Tensor(DType::f32, {1, 5, 5, 8}), Tensor(DType::f32, {4, 8 / groups, 3, 3})},
        .outputs = {Tensor(DType::f32, {1, 3, 3, 4})}};
    if (constant) test.constants = {1};
    return !BoundCase(test, Isa::kPortable).ok();
  };
  EXPECT_FALSE(refused(true, 1, "Relu"));
  EXPECT_TRUE(refused(false, 1, "Relu"));
  EXPECT_TRUE(refused(true, 2, "Relu"));
  EXPECT_TRUE(refused(true, 1, "Tanh"));
}

TEST(NhwcPoolTest, IsMaxPool) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN(),
                  kInfinity = std::numeric_limits<float>::infinity();
  for (const DType dtype : {DType::u8, DType::i8, DType::f32, DType::bf16}) {
    for (const int64_t size : {2, 3, 4}) {
      const Geometry g{.x = {2, 150, 9, 8},
                       .w = {150, 150, size, 3},
                       .strides = {2, 1},
                       .pads = {1, 0, 0, 1},
                       .dilations = {1, 2}};
      Attributes attributes = g.attributes();
      attributes.Set("kernel_shape", std::vector<int64_t>{size, 3});
      KernelCase test{.op = "MaxPool",
                      .attributes = attributes,
                      .inputs = {IsFloat(dtype) ? Uniform(g.x, 1) : Bytes(dtype, g.x, 1)},
                      .outputs = {Tensor(dtype, g.y())}};
      if (IsFloat(dtype)) {
        float* x = test.inputs[0].as<float>().data();
        for (int64_t i = 0; i < g.x.Elements(); i += 97) x[i] = i % 2 ? kNan : -kInfinity;
        test.inputs[0] = Converted(test.inputs[0].view(), dtype);
      }
      RunCase(test, Isa::kPortable);
      const Tensor expected = ChannelsLast(test.outputs[0]);
      test.op = "NhwcMaxPool";
      test.inputs[0] = ChannelsLast(test.inputs[0]);
      for (const Isa isa : TestLevels()) {
        test.threads = isa == Isa::kPortable ? 1 : 3;
        test.outputs = {Tensor(dtype, expected.dims())};
        RunCase(test, isa);
        EXPECT_TRUE(SameBytes(test.outputs[0], expected)) << size << ", " << Name(isa);
      }
    }
  }
}

TEST(NhwcPoolTest, OfOneAndThreeAxes) {
  KernelCase line{.op = "NhwcMaxPool",
                  .attributes = {{"kernel_shape", std::vector<int64_t>{2}}},
                  .inputs = {Tensor::From<uint8_t>({1, 3, 2}, {1, 9, 4, 2, 3, 7})},
                  .outputs = {Tensor(DType::u8, {1, 2, 2})}};
  RunCase(line, Isa::kPortable);
  EXPECT_TRUE(SameBytes(line.outputs[0], Tensor::From<uint8_t>({1, 2, 2}, {4, 9, 4, 7})));
  KernelCase cube{
      .op = "NhwcMaxPool",
      .attributes = {{"kernel_shape", std::vector<int64_t>{2, 1, 2}}},
      .inputs = {Tensor::From<int8_t>({1, 2, 2, 2, 1}, {-8, -7, -6, -5, -4, -9, -2, -3})},
      .outputs = {Tensor(DType::i8, {1, 1, 2, 1, 1})}};
  RunCase(cube, Isa::kPortable);
  EXPECT_TRUE(SameBytes(cube.outputs[0], Tensor::From<int8_t>({1, 1, 2, 1, 1}, {-4, -2})));
}

}  // namespace
}  // namespace minim
