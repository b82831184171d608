#include "compress/reshape_channels.h"

#include <gtest/gtest.h>

namespace minim {
namespace {

const Dim kN = Dim::Symbol("N");

struct Case {
  const char* what;
  Shape from, to;
  int axis;
  std::vector<int> channels;
  int expected_axis;  // -1: nowhere
  std::vector<int> expected;
};

TEST(ReshapeChannelsTest, FollowsThemOrSaysThatItCannot) {
  const Case cases[] = {
      {"flatten", {kN, 2, 1, 3}, {kN, 6}, 1, {7, 8}, 1, {7, 7, 7, 8, 8, 8}},
      {"unflatten", {kN, 4}, {kN, 2, 2}, 1, {7, 7, 8, 8}, 1, {7, 8}},
      {"split off the inner axis", {kN, 4}, {kN, 2, 2}, 1, {7, 8, 7, 8}, 2, {7, 8}},
      {"an axis of ones", {kN, 3}, {kN, 1, 3, 1}, 1, {1, 2, 3}, 2, {1, 2, 3}},
      {"ones go", {kN, 3, 1, 1}, {kN, 3}, 1, {1, 2, 3}, 1, {1, 2, 3}},
      {"tokens", {2, 3, 2, 2}, {2, 3, 4}, 1, {1, 2, 3}, 1, {1, 2, 3}},
      {"merged with the axis before", {kN, 2, 2, 5}, {kN, 4, 5}, 2, {1, 2}, 1, {1, 2, 1, 2}},
      {"heads of channels of their own", {kN, 4}, {kN, 2, 2}, 1, {1, 2, 3, 4}, -1, {}},
      {"an open axis", {kN, 3, Dim::Symbol("H")}, {kN, Dim()}, 1, {1, 2, 3}, -1, {}},
      {"the batch moves", {kN, 3}, {3, kN}, 1, {1, 2, 3}, -1, {}},
  };
  for (const Case& c : cases) {
    const auto moved = ReshapeChannels(c.from, c.to, {c.axis, c.channels});
    ASSERT_EQ(moved.has_value(), c.expected_axis >= 0) << c.what;
    if (!moved) continue;
    EXPECT_EQ(moved->axis, c.expected_axis) << c.what;
    EXPECT_EQ(moved->channels, c.expected) << c.what;
  }
}

TEST(ReshapeChannelsTest, MergesWhatAnIndexHolds) {
  const auto heads = MergeChannels({kN, 5, 4}, {kN, 5, 2, 2}, {2, {1, 2, 3, 4}});
  ASSERT_TRUE(heads.has_value());
  EXPECT_EQ(heads->tracked.axis, 2);
  EXPECT_EQ(heads->tracked.channels, (std::vector<int>{1, 3}));
  EXPECT_EQ(heads->flat, (std::vector<int>{1, 2, 3, 4}));
  EXPECT_EQ(heads->merged, (std::vector<int>{1, 1, 3, 3}));
  EXPECT_FALSE(MergeChannels({kN, 4}, {4, kN}, {1, {1, 2, 3, 4}}).has_value());
}

}  // namespace
}  // namespace minim
