#include "serve/repository/background.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <stdexcept>

namespace minim::serve {
namespace {

int Priority() { return getpriority(PRIO_PROCESS, 0); }

TEST(InBackgroundTest, RunsAtLowPriorityAndLeavesTheCallersAlone) {
  const int before = Priority();
  EXPECT_EQ(InBackground(Priority), std::min(before + 10, 19));
  EXPECT_EQ(Priority(), before);
}

TEST(InBackgroundTest, ThrowsWhatWasThrown) {
  EXPECT_THROW(InBackground([]() -> int { throw std::runtime_error("no"); }), std::runtime_error);
}

}  // namespace
}  // namespace minim::serve
