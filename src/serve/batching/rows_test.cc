#include "serve/batching/rows.h"

#include <gtest/gtest.h>

namespace minim::serve {
namespace {

TEST(RowsTest, JoinsAndCuts) {
  const Tensor a = Tensor::From<int16_t>({1, 2}, {1, 2});
  const Tensor b = Tensor::From<int16_t>({2, 2}, {3, 4, 5, 6});
  const Tensor none(DType::i16, {0, 2});
  const Tensor* parts[] = {&a, &none, &b};
  const Tensor joined = ConcatRows(parts);
  EXPECT_EQ(joined.dims(), (Dims{3, 2}));
  const Tensor back = SliceRows(joined.view(), 1, 2);
  EXPECT_EQ(back.dims(), b.dims());
  EXPECT_EQ(std::memcmp(back.data(), b.data(), b.bytes()), 0);
  EXPECT_EQ(SliceRows(joined.view(), 3, 0).size(), 0);
}

TEST(RowsTest, StringsAreCopiedOneByOne) {
  const std::string long_text(100, 'l');  // its bytes lie elsewhere
  const Tensor a = Tensor::From<std::string>({1, 2}, {"", long_text});
  const Tensor b = Tensor::From<std::string>({1, 2}, {"c", "d"});
  const Tensor* parts[] = {&a, &b};
  Tensor joined = ConcatRows(parts);
  joined.as<std::string>()[3] = "e";
  const Tensor first = SliceRows(joined.view(), 0, 1), last = SliceRows(joined.view(), 1, 1);
  EXPECT_EQ(first.as<std::string>()[1], long_text);
  EXPECT_EQ(last.as<std::string>()[1], "e");
  EXPECT_EQ(b.as<std::string>()[1], "d");
}

TEST(RowsTest, OnlyEqualRowsMerge) {
  const Tensor a(DType::f32, {1, 2});
  EXPECT_TRUE(SameRowType(a.view(), Tensor(DType::f32, {9, 2}).view()));
  EXPECT_FALSE(SameRowType(a.view(), Tensor(DType::f32, {1, 3}).view()));
  EXPECT_FALSE(SameRowType(a.view(), Tensor(DType::f64, {1, 2}).view()));
  EXPECT_FALSE(SameRowType(a.view(), Tensor(DType::f32, {1, 2, 1}).view()));
  EXPECT_FALSE(SameRowType(Tensor(DType::f32, {}).view(), Tensor(DType::f32, {}).view()));
}

}  // namespace
}  // namespace minim::serve
