#include "data/idx.h"

#include <gtest/gtest.h>

namespace minim {
namespace {

using namespace std::string_literals;

TEST(IdxTest, ReadsBytesAndBigEndianInts) {
  const Tensor bytes = ParseIdx("\0\0\x08\x02\0\0\0\x02\0\0\0\x01\x05\x06"s).value();
  EXPECT_EQ(bytes.dims(), Dims({2, 1}));
  EXPECT_EQ(bytes.as<uint8_t>()[1], 6);
  const Tensor ints = ParseIdx("\0\0\x0C\x01\0\0\0\x01\0\0\x01\x02"s).value();
  EXPECT_EQ(ints.as<int32_t>()[0], 258);
}

TEST(IdxTest, HostileFilesAreErrors) {
  EXPECT_FALSE(ParseIdx("").ok());
  EXPECT_FALSE(ParseIdx("\0\0\x08\x03\0\0"s).ok());
  EXPECT_FALSE(ParseIdx("\0\0\x08\x01\0\0\0\x09x"s).ok());
  EXPECT_FALSE(
      ParseIdx("\0\0\x08\x04\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"s)
          .ok());
  EXPECT_FALSE(ParseIdx("\0\0\x77\x00"s).ok());
  EXPECT_EQ(ReadIdx("/nonexistent.gz").status().code(), StatusCode::kNotFound);
}

TEST(IdxTest, FashionMnist) {
  const Path path = "/usr/share/datasets/fashion-mnist/t10k-images-idx3-ubyte.gz";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << "dataset-fashion-mnist is not installed";
  EXPECT_EQ(ReadIdx(path)->dims(), Dims({10000, 28, 28}));
}

}  // namespace
}  // namespace minim
