// Products of FP32 in three BF16 parts against FP64.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <limits>

#include "kernels/cpu/dot_rows.h"
#include "kernels/cpu/test_support.h"

namespace minim {
namespace {

// Of sizes from 2^-20 to 2^20.
Tensor Wide(Dims dims, uint64_t seed) {
  Tensor x = Uniform(dims, seed);
  const Tensor powers = Uniform(dims, seed + 100, -20, 20);
  for (int64_t i = 0; i < x.size(); ++i)
    x.as<float>()[i] = std::ldexp(x.as<float>()[i], static_cast<int>(powers.as<float>()[i]));
  return x;
}

struct Case {
  int64_t m, n, k;
  Dims c;
  bool trans_b = false;
};

constexpr float kLow = -2, kHigh = 2.5f;

KernelCase GemmOf(const Case& g) {
  KernelCase test{.op = "FusedGemm",
                  .attributes = {{"transB", int64_t{g.trans_b}},
                                 {"activation", "Clip"},
                                 {"activation_alpha", kLow},
                                 {"activation_beta", kHigh}},
                  .inputs = {Wide({g.m, g.k}, 1),
                             Wide(g.trans_b ? Dims{g.n, g.k} : Dims{g.k, g.n}, 2), Uniform(g.c, 3)},
                  .outputs = {Tensor(DType::f32, {g.m, g.n})},
                  .constants = {1}};
  return test;
}

// |error| <= 2 eps sum|a||b|, as of the FP32 kernels.
void ExpectGemm(const Case& g, const KernelCase& test) {
  const auto a = test.inputs[0].as<float>(), b = test.inputs[1].as<float>(),
             c = test.inputs[2].as<float>(), y = test.outputs[0].as<float>();
  for (int64_t i = 0; i < g.m; ++i) {
    for (int64_t j = 0; j < g.n; ++j) {
      double sum = c[c.size() == 1 ? 0 : (i * g.n + j) % c.size()], size = std::fabs(sum);
      for (int64_t k = 0; k < g.k; ++k) {
        const double term = double(a[i * g.k + k]) * b[g.trans_b ? j * g.k + k : k * g.n + j];
        sum += term;
        size += std::fabs(term);
      }
      ASSERT_NEAR(y[i * g.n + j], std::clamp<double>(sum, kLow, kHigh), 2 * 1.2e-7 * size)
          << g.m << "x" << g.n << "x" << g.k << " at " << i << "," << j;
    }
  }
}

TEST(PartedMatMulTest, IsAsExactAsFp32OnAnyThreads) {
  const Case cases[] = {{64, 96, 70, {96}},           {65, 130, 33, {65, 130}},
                        {97, 112, 401, {}, true},     {700, 100, 64, {1, 100}},
                        {70, 300, 1100, {300}, true}, {330, 128, 1, {128}},
                        {512, 256, 32, {512, 256}}};
  for (const Case& g : cases) {
    KernelCase test = GemmOf(g);
    std::vector<Tensor> results;
    for (const int threads : {1, 3}) {
      test.threads = threads;
      RunCase(test, DetectIsa());
      ExpectGemm(g, test);
      results.push_back(test.outputs[0].Clone());
    }
    EXPECT_TRUE(SameBytes(results[0], results[1])) << g.m << "x" << g.n << "x" << g.k;
  }
}

TEST(PartedMatMulTest, IsWhatTilesAreUsedFor) {
  if (DetectIsa() < Isa::kAmx) GTEST_SKIP() << "no tiles";
  KernelCase test = GemmOf({128, 128, 128, {128}});
  EXPECT_THAT(BoundCase(test, Isa::kAmx).kernel().Describe(), testing::HasSubstr("three parts"));
}

float Joined(float x) {
  uint16_t parts[kDotParts];
  SplitInParts(x, 1, parts);
  const auto part = [&](int i) { return static_cast<uint32_t>(parts[i]) << 16; };
  return JoinParts(part(0), part(1), part(2));
}

// Any bits but those of NaN, infinities and the smallest.
TEST(PartedMatMulTest, PartsMakeTheirValueAgain) {
  int exact = 0;
  for (uint64_t i = 0; i < 1 << 20; ++i) {
    const auto bits = static_cast<uint32_t>(i * 0x9E3779B97F4A7C15u >> 32);
    const auto x = std::bit_cast<float>(bits);
    if (!ExactInParts({&x, 1})) continue;
    ASSERT_EQ(std::bit_cast<uint32_t>(Joined(x)), bits) << x;
    ++exact;
  }
  EXPECT_GT(exact, 900000);
  EXPECT_TRUE(std::signbit(Joined(-0.0f)));
  const auto lost = [](float x) {
    const float values[] = {1, x, 0, -2};
    return !ExactInParts(values);
  };
  EXPECT_FALSE(lost(-0.0f));
  EXPECT_FALSE(lost(-kMostInParts));
  for (const float x : {0x1p-120f, -0x1p-149f, 0x1.FFp127f, -std::numeric_limits<float>::infinity(),
                        std::numeric_limits<float>::quiet_NaN()})
    EXPECT_TRUE(lost(x)) << x;
}

TEST(PartedMatMulTest, NanStaysInItsRowAndInfinitiesAreHuge) {
  constexpr int64_t kSize = 128;
  KernelCase test{.op = "MatMul",
                  .inputs = {Uniform({kSize, kSize}, 1), Uniform({kSize, kSize}, 2, 0.5f, 1)},
                  .outputs = {Tensor(DType::f32, {kSize, kSize})},
                  .constants = {1}};
  float* a = test.inputs[0].as<float>().data();
  a[3 * kSize + 5] = std::numeric_limits<float>::quiet_NaN();
  a[7 * kSize + 9] = -std::numeric_limits<float>::infinity();
  for (const Isa isa : TestLevels()) {
    RunCase(test, isa);
    const auto y = test.outputs[0].as<float>();
    for (int64_t i = 0; i < kSize * kSize; ++i) {
      if (i / kSize == 3)
        EXPECT_TRUE(std::isnan(y[i])) << Name(isa);
      else if (i / kSize == 7)
        EXPECT_LT(y[i], -1e38f) << Name(isa);
      else
        EXPECT_LT(std::fabs(y[i]), kSize) << Name(isa);
    }
  }
}

}  // namespace
}  // namespace minim
