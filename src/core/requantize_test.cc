#include "core/requantize.h"

#include <gtest/gtest.h>

namespace minim {
namespace {

TEST(RequantizeTest, RoundsBeforeTheZeroPointAndSaturates) {
  EXPECT_EQ(Requantize(0.5f, 0, -128, 127), 0);
  EXPECT_EQ(Requantize(1.5f, 0, -128, 127), 2);
  EXPECT_EQ(Requantize(2.5f, 3, 0, 255), 5);  // 2 + 3; adding first would give 6
  EXPECT_EQ(Requantize(-0.5f, 1, 0, 255), 1);
  EXPECT_EQ(Requantize(1e30f, 3, 0, 255), 255);
  EXPECT_EQ(Requantize(-INFINITY, 3, -128, 127), -128);
  EXPECT_EQ(Requantize(NAN, 3, -128, 127), -128);
}

}  // namespace
}  // namespace minim
