#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <cmath>

#include "kernels/cpu/test_support.h"

namespace minim {
namespace {

using testing::ElementsAre;

Attributes Pool(std::vector<int64_t> kernel, std::vector<int64_t> strides,
                std::vector<int64_t> pads) {
  return {{"kernel_shape", kernel}, {"strides", strides}, {"pads", pads}};
}

const Tensor kImage = Tensor::From<float>({1, 1, 3, 3}, {1, 2, 3, 4, 5, 6, 7, 8, 9});

TEST(PoolTest, MaxWithIndicesAndNan) {
  KernelCase test{.op = "MaxPool",
                  .attributes = Pool({2, 2}, {1, 1}, {0, 0, 1, 1}),
                  .inputs = {kImage},
                  .outputs = {Tensor(DType::f32, {1, 1, 3, 3}), Tensor(DType::i64, {1, 1, 3, 3})}};
  RunCase(test, Isa::kPortable);
  EXPECT_THAT(test.outputs[0].as<float>(), ElementsAre(5, 6, 6, 8, 9, 9, 8, 9, 9));
  EXPECT_THAT(test.outputs[1].as<int64_t>(), ElementsAre(4, 5, 5, 7, 8, 8, 7, 8, 8));
  test.attributes.Set("storage_order", int64_t{1});
  RunCase(test, Isa::kPortable);
  EXPECT_EQ(test.outputs[1].as<int64_t>()[0], 4);
  EXPECT_EQ(test.outputs[1].as<int64_t>()[1], 7);
  KernelCase nan{.op = "MaxPool",
                 .attributes = Pool({2}, {2}, {0, 0}),
                 .inputs = {Tensor::From<float>({1, 1, 4}, {NAN, 1, 2, -5})},
                 .outputs = {Tensor(DType::f32, {1, 1, 2})}};
  RunCase(nan, Isa::kPortable);
  EXPECT_TRUE(std::isnan(nan.outputs[0].as<float>()[0]));
  EXPECT_EQ(nan.outputs[0].as<float>()[1], 2);
}

TEST(PoolTest, DilatedIntegersAndCeil) {
  KernelCase test{.op = "MaxPool",
                  .attributes = Pool({2}, {2}, {0, 0}),
                  .inputs = {Tensor::From<int8_t>({1, 1, 5}, {-9, -8, -7, -6, -5})},
                  .outputs = {Tensor(DType::i8, {1, 1, 3})}};
  RunCase(test, Isa::kPortable);  // ceil mode: the last window has one element
  EXPECT_THAT(test.outputs[0].as<int8_t>(), ElementsAre(-8, -6, -5));
  test.attributes = {{"kernel_shape", std::vector<int64_t>{2}},
                     {"dilations", std::vector<int64_t>{2}}};
  RunCase(test, Isa::kPortable);
  EXPECT_THAT(test.outputs[0].as<int8_t>(), ElementsAre(-7, -6, -5));
}

TEST(PoolTest, AverageCountsPaddingWhenAsked) {
  KernelCase test{.op = "AveragePool",
                  .attributes = Pool({2, 2}, {2, 2}, {1, 1, 0, 0}),
                  .inputs = {kImage},
                  .outputs = {Tensor(DType::f32, {1, 1, 2, 2})}};
  RunCase(test, Isa::kPortable);
  EXPECT_THAT(test.outputs[0].as<float>(), ElementsAre(1, 2.5, 5.5, 7));
  test.attributes.Set("count_include_pad", int64_t{1});
  RunCase(test, Isa::kPortable);
  EXPECT_THAT(test.outputs[0].as<float>(), ElementsAre(0.25, 1.25, 2.75, 7));
}

// Every level gives the portable row's values, and the same NaN, whatever the window.
TEST(PoolTest, LevelsAgreeOnRandomWindows) {
  for (uint64_t seed = 0; seed < 60; ++seed) {
    const Philox random(seed);
    const auto draw = [&](uint64_t i, int64_t low, int64_t high) {
      return low + random.Below(i, static_cast<uint32_t>(high - low + 1));
    };
    const int64_t kh = draw(0, 1, 4), kw = draw(1, 1, 4), sh = draw(2, 1, 3), sw = draw(3, 1, 3);
    const int64_t ph = draw(4, 0, kh - 1), pw = draw(5, 0, kw - 1);
    const int64_t h = kh + draw(6, 0, 20), w = kw + draw(7, 0, 40);
    Tensor x = Uniform({2, 3, h, w}, seed);
    x.as<float>()[draw(8, 0, x.size() - 1)] = NAN;
    const Dims out{2, 3, (h + ph - kh) / sh + 1, (w + pw - kw) / sw + 1};
    for (const char* op : {"MaxPool", "AveragePool"}) {
      KernelCase test{.op = op,
                      .attributes = Pool({kh, kw}, {sh, sw}, {ph, pw, 0, 0}),
                      .inputs = {x},
                      .outputs = {Tensor(DType::f32, out)},
                      .threads = 2};
      if (op == std::string("AveragePool")) test.attributes.Set("count_include_pad", draw(9, 0, 1));
      RunCase(test, Isa::kPortable);
      const auto values = test.outputs[0].as<float>();
      const std::vector<double> expected(values.begin(), values.end());
      for (Isa isa : TestLevels()) {
        RunCase(test, isa);
        ExpectNear(test.outputs[0].as<float>(), expected, 1e-6, 1e-6,
                   fmt::format("{} {}", op, seed));
      }
    }
    for (const Tensor& bytes : {Integers<uint8_t>({2, 3, h, w}, seed, 0, 255),
                                Integers<int8_t>({2, 3, h, w}, seed, -128, 127)}) {
      KernelCase test{.op = "MaxPool",
                      .attributes = Pool({kh, kw}, {sh, sw}, {ph, pw, 0, 0}),
                      .inputs = {bytes},
                      .outputs = {Tensor(bytes.dtype(), out)},
                      .threads = 2};
      RunCase(test, Isa::kPortable);
      const std::vector<uint8_t> expected(
          static_cast<const uint8_t*>(test.outputs[0].data()),
          static_cast<const uint8_t*>(test.outputs[0].data()) + test.outputs[0].bytes());
      RunCase(test, TestLevels().back());
      EXPECT_EQ(std::memcmp(test.outputs[0].data(), expected.data(), expected.size()), 0) << seed;
    }
  }
}

// Every width around the vectors', with windows two apart that a vector makes sixteen of.
TEST(PoolTest, BytesTwoApartAtEveryWidth) {
  for (int64_t w = 2; w < 72; ++w) {
    for (int64_t taps : {2, 3}) {
      const int64_t h = 7, pad = taps - 2, rows = (h + pad - taps) / 2 + 1,
                    columns = (w + pad - taps) / 2 + 1;
      for (const Tensor& bytes : {Integers<uint8_t>({1, 2, h, w}, w, 0, 255),
                                  Integers<int8_t>({1, 2, h, w}, w, -128, 127)}) {
        KernelCase test{.op = "MaxPool",
                        .attributes = Pool({taps, taps}, {2, 2}, {pad, pad, 0, 0}),
                        .inputs = {bytes},
                        .outputs = {Tensor(bytes.dtype(), {1, 2, rows, columns})}};
        RunCase(test, Isa::kPortable);
        const Tensor expected = Converted(test.outputs[0].view(), DType::f32);
        RunCase(test, TestLevels().back());
        const Tensor found = Converted(test.outputs[0].view(), DType::f32);
        for (int64_t i = 0; i < found.size(); ++i)
          ASSERT_EQ(found.as<float>()[i], expected.as<float>()[i]) << w << " " << taps << " " << i;
      }
    }
  }
}

TEST(PoolTest, Global) {
  KernelCase mean{
      .op = "GlobalAveragePool", .inputs = {kImage}, .outputs = {Tensor(DType::f32, {1, 1, 1, 1})}};
  RunCase(mean, Isa::kPortable);
  EXPECT_EQ(mean.outputs[0].as<float>()[0], 5);
  mean.op = "GlobalMaxPool";
  RunCase(mean, Isa::kPortable);
  EXPECT_EQ(mean.outputs[0].as<float>()[0], 9);
}

TEST(PoolTest, Gradients) {
  const Tensor dy = Tensor::From<float>({1, 1, 2, 2}, {1, 2, 3, 4});
  KernelCase max{.op = "MaxPoolGrad",
                 .attributes = Pool({2, 2}, {1, 1}, {0, 0, 0, 0}),
                 .inputs = {dy, kImage},
                 .outputs = {Tensor(DType::f32, {1, 1, 3, 3})},
                 .threads = 2};
  RunCase(max, Isa::kPortable);
  EXPECT_THAT(max.outputs[0].as<float>(), ElementsAre(0, 0, 0, 0, 1, 2, 0, 3, 4));
  max.inputs.push_back(Tensor::From<int64_t>({1, 1, 2, 2}, {0, 0, 7, 8}));
  RunCase(max, Isa::kPortable);
  EXPECT_THAT(max.outputs[0].as<float>(), ElementsAre(3, 0, 0, 0, 0, 0, 0, 3, 4));
  KernelCase mean{.op = "AveragePoolGrad",
                  .attributes = Pool({2, 2}, {1, 1}, {0, 0, 0, 0}),
                  .inputs = {dy},
                  .outputs = {Tensor(DType::f32, {1, 1, 3, 3})}};
  RunCase(mean, Isa::kPortable);
  EXPECT_THAT(mean.outputs[0].as<float>(),
              ElementsAre(0.25, 0.75, 0.5, 1, 2.5, 1.5, 0.75, 1.75, 1));
}

// Ties, signed zeros, NaN, padding, and rows and columns that no window covers.
TEST(PoolTest, WindowsTwoApartAreTheSameAtEveryLevel) {
  for (int64_t taps : {2, 3}) {
    for (int64_t pad : {0, 1}) {
      for (int64_t height : {3, 7, 8}) {
        for (int64_t width : {3, 7, 9, 14, 28, 39}) {
          const Dims image{2, 3, height, width};
          const Dims pooled{2, 3, (height + 2 * pad - taps) / 2 + 1,
                            (width + 2 * pad - taps) / 2 + 1};
          KernelCase test{.op = "MaxPool",
                          .attributes = Pool({taps, taps}, {2, 2}, {pad, pad, pad, pad}),
                          .inputs = {Uniform(image, 2)},
                          .outputs = {Tensor(DType::f32, pooled)}};
          for (float& x : test.inputs[0].as<float>())
            x = x > 0.9f ? std::numeric_limits<float>::quiet_NaN() : std::max(-0.0f, x);
          RunCase(test, Isa::kPortable);
          const Tensor expected = test.outputs[0].Clone();
          RunCase(test, TestLevels().back());
          for (int64_t i = 0; i < expected.size(); ++i) {
            const float a = test.outputs[0].as<float>()[i], b = expected.as<float>()[i];
            EXPECT_TRUE(a == b || (std::isnan(a) && std::isnan(b)))
                << taps << " taps, " << pad << " around " << height << "x" << width;
          }
        }
      }
    }
  }
}

// Ties, NaN, and rows and columns that no window covers.
TEST(PoolTest, GradientOfHalvesIsTheSameAtEveryLevel) {
  for (int64_t height : {2, 7, 8}) {
    for (int64_t width : {2, 9, 28, 39}) {
      const Dims image{2, 3, height, width}, pooled{2, 3, height / 2, width / 2};
      KernelCase test{.op = "MaxPoolGrad",
                      .attributes = Pool({2, 2}, {2, 2}, {0, 0, 0, 0}),
                      .inputs = {Uniform(pooled, 1), Uniform(image, 2)},
                      .outputs = {Tensor(DType::f32, image)}};
      for (float& x : test.inputs[1].as<float>())
        x = x > 0.9f ? std::numeric_limits<float>::quiet_NaN() : std::max(0.0f, x);
      RunCase(test, Isa::kPortable);
      const Tensor expected = test.outputs[0].Clone();
      RunCase(test, TestLevels().back());
      EXPECT_TRUE(SameBytes(test.outputs[0], expected)) << height << "x" << width;
    }
  }
}

}  // namespace
}  // namespace minim
