#include "compress/weight_codes.h"

#include <gtest/gtest.h>

namespace minim {
namespace {

TEST(WeightCodesTest, WeightsAreSymmetricPerChannel) {
  const Tensor w = Tensor::From<float>({2, 3}, {1, -2, 0.5f, 0, 0, 0});
  const QuantizedWeights q = QuantizeWeights(w, 0);
  EXPECT_FLOAT_EQ(q.scales[0], 2.0f / 127);
  EXPECT_EQ(q.values.as<int8_t>()[1], -127);
  EXPECT_EQ(q.scales[1], 1);
  EXPECT_EQ(QuantizeWeights(w, 0, {1, 0}).values.as<int8_t>()[1], -2);
}

TEST(WeightCodesTest, ChannelsOfAnyAxis) {
  const Tensor w = Tensor::From<float>({2, 3}, {1, -2, 0.5f, 4, 8, -0.5f});
  const QuantizedWeights q = QuantizeWeights(w, 1);
  ASSERT_EQ(q.scales.size(), 3u);
  EXPECT_FLOAT_EQ(q.scales[1], 8.0f / 127);
  const auto values = q.values.as<int8_t>();
  EXPECT_EQ(std::vector<int8_t>(values.begin(), values.end()),
            (std::vector<int8_t>{32, -32, 127, 127, 127, -127}));
}

}  // namespace
}  // namespace minim
