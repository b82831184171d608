#include "data/batch_loader.h"

#include <gtest/gtest.h>

#include <set>

#include "core/error.h"

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

TEST(BatchLoaderTest, SamplesAndLabelsStayTogether) {
  ArraySource data(Numbers(103));
  BatchLoader loader(data, {.batch_size = 10, .seed = 5});
  std::set<int64_t> seen;
  while (const auto batch = loader.Next().value()) {
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
  ArraySource data(Numbers(50));
  BatchLoader whole(data, {.batch_size = 10, .seed = 5}),
      rest(data, {.batch_size = 10, .seed = 5, .first_batch = 3});
  for (int i = 0; i < 3; ++i) (void)whole.Next();
  EXPECT_EQ(whole.Next().value()->labels.as<int64_t>()[4],
            rest.Next().value()->labels.as<int64_t>()[4]);
}

class Failing final : public DataSource {
 public:
  int64_t size() const override { return 30; }
  Result<Batch> Gather(std::span<const int64_t>) override {
    if (++calls_ == 3) return Unavailable("the database is away");
    return Batch{Tensor(DType::f32, {10}), Tensor(DType::i64, {10})};
  }

 private:
  int calls_ = 0;
};

TEST(BatchLoaderTest, WhatTheSourceSaysComesAfterTheGoodBatches) {
  Failing data;
  BatchLoader loader(data, {.batch_size = 10});
  for (int i = 0; i < 2; ++i) EXPECT_TRUE(loader.Next().ok());
  for (int i = 0; i < 2; ++i) EXPECT_EQ(loader.Next().status().code(), StatusCode::kUnavailable);
}

}  // namespace
}  // namespace minim
