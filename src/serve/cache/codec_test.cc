#include "serve/cache/codec.h"

#include <gtest/gtest.h>

#include <random>

namespace minim::serve {
namespace {

Tensor Noise(int64_t size) {
  std::mt19937 random(1);
  Tensor tensor(DType::u32, {size});
  for (uint32_t& value : tensor.as<uint32_t>()) value = static_cast<uint32_t>(random());
  return tensor;
}

void ExpectSame(const Tensor& a, const Tensor& b) {
  ASSERT_EQ(a.dtype(), b.dtype());
  ASSERT_EQ(a.dims(), b.dims());
  EXPECT_EQ(std::memcmp(a.data(), b.data(), a.bytes()), 0);
}

TEST(AnswerCodecTest, RoundTripsEveryKindOfTensor) {
  const std::vector<Tensor> tensors = {Tensor::From<float>({2, 3}, {1, 2, 3, 4, 5, -6.5f}),
                                       Tensor::Scalar<int64_t>(-7), Tensor(DType::bool_, {4}),
                                       Tensor(DType::f16, {0, 3}), Tensor(DType::f64, {64, 64})};
  AnswerCodec codec;
  const auto decoded = codec.Decode(codec.Encode({tensors, std::chrono::microseconds(1234)}));
  ASSERT_TRUE(decoded.ok()) << decoded.status().message();
  EXPECT_EQ(decoded->compute.count(), 1234);
  ASSERT_EQ(decoded->tensors.size(), tensors.size());
  for (size_t i = 0; i < tensors.size(); ++i) ExpectSame(tensors[i], decoded->tensors[i]);
}

TEST(AnswerCodecTest, CompressesOnlyWhenItPays) {
  AnswerCodec codec;
  EXPECT_LT(codec.Encode({{Tensor(DType::f32, {4096})}}).size(), 1000u);
  const Tensor noise = Noise(4096);
  EXPECT_GT(codec.Encode({{noise}}).size(), noise.bytes());
  // After an attempt in vain the next value is stored as it is, then compression is tried again.
  EXPECT_GT(codec.Encode({{Tensor(DType::f32, {4096})}}).size(), 4096u * 4);
  EXPECT_LT(codec.Encode({{Tensor(DType::f32, {4096})}}).size(), 1000u);
  EXPECT_LT(codec.stored_bytes(), codec.raw_bytes());
}

TEST(AnswerCodecTest, DamagedBytesAreRefused) {
  AnswerCodec codec;
  for (const std::string& good : {codec.Encode({{Tensor::From<float>({2}, {1, 2})}}),
                                  codec.Encode({{Tensor(DType::f32, {999})}})}) {
    for (size_t cut = 0; cut < good.size(); ++cut)
      EXPECT_FALSE(codec.Decode(good.substr(0, cut)).ok()) << cut;
    EXPECT_FALSE(codec.Decode(good + "x").ok() && good[0] == 0);
    for (size_t i = 0; i < std::min<size_t>(good.size(), 64); ++i) {
      std::string bad = good;
      bad[i] = static_cast<char>(bad[i] ^ 0xff);
      (void)codec.Decode(bad).ok();  // must neither crash nor allocate wildly
    }
  }
}

}  // namespace
}  // namespace minim::serve
