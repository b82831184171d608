#include <gtest/gtest.h>

#include "core/group_codes.h"
#include "kernels/cpu/test_support.h"

namespace minim {
namespace {

struct Codes {
  Tensor codes, ranges;
};

Codes Encode(const Tensor& x, int bits, int64_t number, Isa isa) {
  const int64_t groups = CodeGroups(x.size());
  KernelCase test{
      .op = "EncodeActivation",
      .attributes = {{"bits", int64_t{bits}}, {"seed", int64_t{3}}},
      .inputs = {x, Tensor::Scalar<int64_t>(number)},
      .outputs = {Tensor(DType::u8, {groups, CodeBytes(bits)}), Tensor(DType::f32, {groups, 2})},
      .threads = 2};
  RunCase(test, isa);
  return {test.outputs[0], test.outputs[1]};
}

Tensor Decode(const Codes& codes, int bits, const Dims& dims, Isa isa) {
  const std::vector<int64_t> shape(dims.begin(), dims.end());
  KernelCase test{.op = "DecodeActivation",
                  .attributes = {{"bits", int64_t{bits}}, {"shape", shape}},
                  .inputs = {codes.codes, codes.ranges},
                  .outputs = {Tensor(DType::f32, dims)},
                  .threads = 2};
  RunCase(test, isa);
  return test.outputs[0];
}

TEST(ActivationCodesTest, EveryLevelGivesTheSameBits) {
  for (int bits : {8, 4}) {
    for (int64_t n : {1, 127, 129, 256, 5000}) {
      const Tensor x = Uniform({n}, 1, -3, 5);
      const Codes portable = Encode(x, bits, 9, Isa::kPortable);
      for (Isa isa : TestLevels()) {
        const Codes codes = Encode(x, bits, 9, isa);
        EXPECT_TRUE(SameBytes(codes.codes, portable.codes)) << n;
        EXPECT_TRUE(SameBytes(codes.ranges, portable.ranges)) << n;
        EXPECT_TRUE(
            SameBytes(Decode(codes, bits, {n}, isa), Decode(codes, bits, {n}, Isa::kPortable)));
      }
    }
  }
}

// Over many draws the mean of a decoded value is the value, to five standard errors; no draw is off
// by more than a step.
TEST(ActivationCodesTest, RoundingIsUnbiased) {
  constexpr int kDraws = 2000;
  constexpr int64_t kElements = 300;
  const Isa isa = TestLevels().back();
  const Tensor x = Uniform({kElements}, 2, -1, 2);
  for (int bits : {8, 4}) {
    std::vector<double> mean(kElements, 0);
    const double step = 3.0 / ((1 << bits) - 1);
    for (int draw = 0; draw < kDraws; ++draw) {
      const Tensor y = Decode(Encode(x, bits, draw, isa), bits, {kElements}, isa);
      for (int64_t i = 0; i < kElements; ++i) {
        EXPECT_LE(std::abs(y.as<float>()[i] - x.as<float>()[i]), step);
        mean[i] += y.as<float>()[i] / static_cast<double>(kDraws);
      }
    }
    for (int64_t i = 0; i < kElements; ++i)
      EXPECT_NEAR(mean[i], x.as<float>()[i], 5 * step / 2 / std::sqrt(kDraws)) << i;
  }
}

TEST(ActivationCodesTest, WhatIsNotFiniteStaysSoInItsGroup) {
  Tensor x = Uniform({512}, 3);
  x.as<float>()[300] = std::numeric_limits<float>::infinity();
  for (Isa isa : TestLevels()) {
    const Tensor y = Decode(Encode(x, 8, 0, isa), 8, {512}, isa);
    EXPECT_TRUE(std::isfinite(y.as<float>()[255]));
    EXPECT_TRUE(std::isnan(y.as<float>()[256]));
  }
  const Tensor same(DType::f32, {256});
  EXPECT_TRUE(
      SameBytes(Decode(Encode(same, 4, 0, Isa::kPortable), 4, {256}, Isa::kPortable), same));
}

}  // namespace
}  // namespace minim
