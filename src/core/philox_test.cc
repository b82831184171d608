#include "core/philox.h"

#include <gtest/gtest.h>

namespace minim {
namespace {

// Known-answer vectors of the Random123 distribution for philox4x32-10.
TEST(PhiloxTest, KnownAnswers) {
  const std::array<uint32_t, 4> zero = {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8};
  EXPECT_EQ(Philox(0, 0).Block(0), zero);
  const std::array<uint32_t, 4> ones = {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd};
  EXPECT_EQ(Philox(~0ull, ~0ull).Block(~0ull), ones);
  const std::array<uint32_t, 4> pi = {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1};
  EXPECT_EQ(Philox(0x299f31d0a4093822, 0x0370734413198a2e).Block(0x85a308d3243f6a88), pi);
}

TEST(PhiloxTest, MomentsAreRight) {
  const Philox rng(1, 2);
  double uniform = 0, normal = 0, squares = 0;
  const int n = 100000;
  for (int i = 0; i < n; ++i) {
    uniform += rng.Uniform(i);
    normal += rng.Normal(i);
    squares += rng.Normal(i) * rng.Normal(i);
    ASSERT_LT(rng.Below(i, 10), 10u);
  }
  EXPECT_NEAR(uniform / n, 0.5, 0.005);
  EXPECT_NEAR(normal / n, 0, 0.02);
  EXPECT_NEAR(squares / n, 1, 0.03);
}

}  // namespace
}  // namespace minim
