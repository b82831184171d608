#include "core/isa.h"

#include <gtest/gtest.h>

#include <cstdlib>

namespace minim {
namespace {

TEST(IsaTest, NamesAreInverse) {
  for (Isa isa : kIsas) EXPECT_EQ(IsaFromName(Name(isa)).value(), isa);
  EXPECT_FALSE(IsaFromName("sse9").ok());
}

TEST(IsaTest, TilesGainByBf16AndLevelsWithoutItDoNot) {
  EXPECT_TRUE(GainsByBf16(Isa::kAmx));
  EXPECT_FALSE(GainsByBf16(Isa::kAvx512Vnni));
}

TEST(IsaTest, EnvironmentForcesALevel) {
  const char* before = std::getenv("MINIM_ISA");
  const std::string saved = before ? before : "";
  ::setenv("MINIM_ISA", "portable", 1);
  EXPECT_EQ(IsaFromEnvironment().value(), Isa::kPortable);
  ::setenv("MINIM_ISA", "nonsense", 1);
  EXPECT_EQ(IsaFromEnvironment().status().code(), StatusCode::kInvalidArgument);
  ::setenv("MINIM_ISA", saved.c_str(), 1);
}

}  // namespace
}  // namespace minim
