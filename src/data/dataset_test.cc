#include "data/dataset.h"

#include <gtest/gtest.h>

#include <set>

namespace minim {
namespace {

Dataset Numbers(int64_t n) {
  Dataset data{Tensor(DType::u8, {n, 2}), Tensor(DType::i64, {n})};
  for (int64_t i = 0; i < n; ++i) {
    data.samples.as<uint8_t>()[2 * i] = static_cast<uint8_t>(i);
    data.labels.as<int64_t>()[i] = i;
  }
  return data;
}

TEST(DatasetTest, ShufflingIsAPermutationAndAFunctionOfSeedAndEpoch) {
  const auto a = ShuffledOrder(1000, 1, 2), b = ShuffledOrder(1000, 1, 2);
  EXPECT_EQ(a, b);
  EXPECT_NE(a, ShuffledOrder(1000, 1, 3));
  EXPECT_NE(a, ShuffledOrder(1000, 2, 2));
  EXPECT_EQ(std::set<int64_t>(a.begin(), a.end()).size(), 1000u);
}

TEST(BatchLoaderTest, SamplesAndLabelsStayTogether) {
  const Dataset data = Numbers(103);
  BatchLoader loader(data, {.batch_size = 10, .seed = 5});
  std::set<int64_t> seen;
  while (const auto batch = loader.Next()) {
    ASSERT_EQ(batch->samples.dtype(), DType::f32);
    for (int64_t i = 0; i < 10; ++i) {
      EXPECT_EQ(batch->samples.as<float>()[2 * i],
                static_cast<float>(batch->labels.as<int64_t>()[i]));
      seen.insert(batch->labels.as<int64_t>()[i]);
    }
  }
  EXPECT_EQ(seen.size(), 100u);
}

TEST(BatchLoaderTest, ResumesInsideAnEpochAndStopsEarly) {
  const Dataset data = Numbers(50);
  BatchLoader whole(data, {.batch_size = 10, .seed = 5}),
      rest(data, {.batch_size = 10, .seed = 5, .first_batch = 3});
  for (int i = 0; i < 3; ++i) (void)whole.Next();
  EXPECT_EQ(whole.Next()->labels.as<int64_t>()[4], rest.Next()->labels.as<int64_t>()[4]);
}

}  // namespace
}  // namespace minim
