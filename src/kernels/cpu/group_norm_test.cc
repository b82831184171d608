#include <gtest/gtest.h>

#include <limits>

#include "kernels/cpu/elementwise_functions.h"
#include "kernels/cpu/test_support.h"

namespace minim {
namespace {

struct Case {
  int64_t images, height, width, channels, groups;
  bool last = true, silu = false;
  float offset = 0;
};

KernelCase KernelOf(const Case& c, DType dtype) {
  const Dims dims = c.last ? Dims{c.images, c.height, c.width, c.channels}
                           : Dims{c.images, c.channels, c.height, c.width};
  KernelCase test{.op = "GroupNorm",
                  .attributes = {{"groups", c.groups},
                                 {"activation", int64_t{c.silu}},
                                 {"channels_last", int64_t{c.last}},
                                 {"epsilon", 1e-3f}},
                  .inputs = {Uniform(dims, 1, c.offset - 2, c.offset + 3),
                             Uniform({c.channels}, 2, -2, 2), Uniform({c.channels}, 3)},
                  .outputs = {Tensor(dtype, dims)}};
  test.inputs[0] = Converted(test.inputs[0].view(), dtype);
  return test;
}

std::vector<double> Expected(const Case& c, const KernelCase& test) {
  const Tensor wide = Converted(test.inputs[0].view(), DType::f32);
  const auto x = wide.as<float>(), gamma = test.inputs[1].as<float>(),
             beta = test.inputs[2].as<float>();
  const int64_t pixels = c.height * c.width, width = c.channels / c.groups;
  std::vector<double> y(x.size());
  for (int64_t group = 0; group < c.images * c.groups; ++group) {
    const auto at = [&](int64_t i) {  // the i-th of its elements, channel by channel
      const int64_t image = group / c.groups, pixel = i % pixels;
      const int64_t channel = group % c.groups * width + i / pixels;
      return c.last ? (image * pixels + pixel) * c.channels + channel
                    : (image * c.channels + channel) * pixels + pixel;
    };
    const auto n = static_cast<double>(pixels * width);
    double mean = 0, variance = 0;
    for (int64_t i = 0; i < pixels * width; ++i) mean += x[at(i)] / n;
    for (int64_t i = 0; i < pixels * width; ++i)
      variance += (x[at(i)] - mean) * (x[at(i)] - mean) / n;
    for (int64_t i = 0; i < pixels * width; ++i) {
      const int64_t channel = group % c.groups * width + i / pixels;
      const double z =
          (x[at(i)] - mean) / std::sqrt(variance + 1e-3) * gamma[channel] + beta[channel];
      y[at(i)] = c.silu ? z / (1 + std::exp(-z)) : z;
    }
  }
  return y;
}

// Channels of whole vectors and not, pixels of whole blocks and not, groups of one channel and of
// all; values far from zero, whose squares would drown their deviations.
TEST(GroupNormTest, IsWhatItsDefinitionSays) {
  const Case cases[] = {
      {2, 16, 16, 32, 8, true, true},
      {3, 33, 21, 24, 3},
      {1, 64, 48, 40, 8, true, true},
      {2, 7, 5, 6, 6, true, false, 1000},
      {1, 9, 300, 320, 32, true, true},
      {2, 1, 1, 16, 1, true, true},
      {2, 16, 16, 32, 8, false, true},
      {3, 33, 21, 24, 3, false},
      {1, 140, 130, 4, 2, false, false, 1000},
      {2, 7, 5, 6, 1, false, true},
      {1, 1, 1, 4, 4, false},
  };
  for (const Case& c : cases) {
    for (const DType dtype : {DType::f32, DType::bf16}) {
      KernelCase test = KernelOf(c, dtype);
      const std::vector<double> expected = Expected(c, test);
      for (const Isa isa : TestLevels()) {
        Tensor first;
        for (const int threads : {1, 3}) {
          test.threads = threads;
          RunCase(test, isa);
          // Far from zero x - mean loses what the offset has above it; BF16 rounds the result.
          const double error = dtype == DType::bf16 ? 0x1p-8 : c.offset > 0 ? 1e-3 : 1e-5;
          ExpectNear(Converted(test.outputs[0].view(), DType::f32).as<float>(), expected, error,
                     error, fmt::format("{} channels, {} {}", c.channels, Name(dtype), Name(isa)));
          if (first.defined()) {
            EXPECT_TRUE(SameBytes(first, test.outputs[0]));
          }
          first = test.outputs[0].Clone();
        }
      }
    }
  }
}

TEST(GroupNormTest, SiluIsExactToAFewUlp) {
  for (int i = -80000; i < 100000; ++i) {
    const float x = static_cast<float>(i) * 1e-3f;
    const double expected = x / (1 + std::exp(-static_cast<double>(x)));
    const double bound = x > -10 ? 6e-7 : 4e-6;
    ASSERT_NEAR(SiluF(x), expected, bound * std::fabs(expected)) << x;
  }
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(SiluF(infinity), infinity);
  EXPECT_TRUE(std::isnan(SiluF(std::numeric_limits<float>::quiet_NaN())));
  EXPECT_NEAR(SiluF(-1e30f), 0, 1e-4);
}

}  // namespace
}  // namespace minim
