#include "data/npy.h"

#include <gtest/gtest.h>

namespace minim {
namespace {

TEST(NpyTest, RoundTripsEveryDType) {
  for (DType dtype : {DType::f64, DType::f32, DType::f16, DType::i64, DType::u8, DType::bool_}) {
    const Tensor tensor(dtype, {2, 3});
    const auto back = ParseNpy(SerializeNpy(tensor.view()));
    ASSERT_TRUE(back.ok()) << back.status().message();
    EXPECT_EQ(back->dtype(), dtype);
    EXPECT_EQ(back->dims(), tensor.dims());
  }
  EXPECT_EQ(ParseNpy(SerializeNpy(Tensor::Scalar(2.5f).view()))->as<float>()[0], 2.5f);
  EXPECT_EQ(ParseNpy(SerializeNpy(Tensor(DType::i8, {7}).view()))->dims(), Dims({7}));
}

TEST(NpyTest, AMappedFileHoldsTheSameArray) {
  const Path path = Path(testing::TempDir()) / "minim_mapped.npy";
  for (const Tensor& tensor : {Tensor::From<float>({2, 2}, {1, 2, 3, 4}), Tensor(DType::u8, {0, 3}),
                               Tensor::From<std::string>({1}, {"text"})}) {
    ASSERT_TRUE(WriteNpy(path, tensor.view()).ok());
    const SharedArray mapped = MapNpy(path).value();
    EXPECT_EQ(SerializeNpy(mapped.view), SerializeNpy(tensor.view()));
  }
  std::string bytes = SerializeNpy(Tensor::From<float>({2, 2}, {1, 2, 3, 4}).view());
  bytes.replace(bytes.find("False"), 5, "True ");
  ASSERT_TRUE(WriteFileAtomic(path, bytes).ok());
  EXPECT_EQ(MapNpy(path)->view.as<float>()[1], 3);
  ASSERT_TRUE(WriteFileAtomic(path, bytes.substr(0, bytes.size() - 1)).ok());
  EXPECT_NE(MapNpy(path).status().message().find("minim_mapped.npy"), std::string::npos);
  std::filesystem::remove(path);
}

TEST(NpyTest, FortranOrderIsTransposed) {
  std::string bytes = SerializeNpy(Tensor::From<float>({2, 2}, {1, 2, 3, 4}).view());
  bytes.replace(bytes.find("False"), 5, "True ");
  const Tensor tensor = ParseNpy(bytes).value();
  EXPECT_EQ(tensor.as<float>()[1], 3);
}

TEST(NpyTest, SmallTypesHaveNoName) {
  const Path path = Path(testing::TempDir()) / "minim_small.npy";
  EXPECT_EQ(WriteNpy(path, Tensor(DType::i4, {2}).view()).code(), StatusCode::kUnsupported);
}

TEST(NpyTest, HostileFilesAreErrors) {
  const std::string good = SerializeNpy(Tensor(DType::f32, {4}).view());
  for (size_t n = 0; n < good.size(); ++n) EXPECT_FALSE(ParseNpy(good.substr(0, n)).ok()) << n;
  std::string pickled = good;
  pickled.replace(pickled.find("<f4"), 3, "|O8");
  EXPECT_EQ(ParseNpy(pickled).status().code(), StatusCode::kUnsupported);
  std::string huge = good;
  huge.replace(huge.find("(4,)"), 4, "(-4)");
  EXPECT_FALSE(ParseNpy(huge).ok());
}

TEST(NpyTest, StringsAreUtf8HereAndCodePointsThere) {
  const Tensor texts =
      Tensor::From<std::string>({2, 2}, {"a", "\xC3\xA9t\xC3\xA9", "", "\xF0\x9F\x99\x82"});
  const std::string bytes = SerializeNpy(texts.view());
  EXPECT_NE(bytes.find("'<U3'"), std::string::npos);
  const auto back = ParseNpy(bytes);
  ASSERT_TRUE(back.ok()) << back.status().message();
  EXPECT_EQ(back->dims(), Dims({2, 2}));
  for (int i = 0; i < 4; ++i) EXPECT_EQ(back->as<std::string>()[i], texts.as<std::string>()[i]);
}

TEST(NpyTest, AClaimedSizeIsCheckedBeforeItIsAllocated) {
  std::string bytes = SerializeNpy(Tensor(DType::f64, {1}).view());
  const size_t at = bytes.find("(1,)");
  bytes.replace(at, 14, "(1099511627776");
  bytes[at + 14] = ')';
  EXPECT_EQ(ParseNpy(bytes).status().code(), StatusCode::kDataLoss);
}

}  // namespace
}  // namespace minim
