#include "core/shape.h"

#include <gtest/gtest.h>

namespace minim {
namespace {

TEST(ShapeTest, BroadcastsLikeNumPy) {
  EXPECT_EQ(BroadcastDims({3, 1, 5}, {4, 5}).value(), Dims({3, 4, 5}));
  EXPECT_EQ(BroadcastDims({}, {2}).value(), Dims({2}));
  EXPECT_EQ(BroadcastDims({0, 1}, {1, 7}).value(), Dims({0, 7}));
  EXPECT_EQ(BroadcastDims({2}, {3}).status().code(), StatusCode::kInvalidArgument);
}

TEST(ShapeTest, SymbolsSurviveBroadcasting) {
  const Dim n = Dim::Symbol("N");
  EXPECT_EQ(ToString(BroadcastShapes({n, 1}, {1, 4}).value()), "[N,4]");
  EXPECT_EQ(ToString(BroadcastShapes({n}, {n}).value()), "[N]");
  EXPECT_EQ(ToString(BroadcastShapes({n}, {Dim::Symbol("M")}).value()), "[?]");
}

TEST(ShapeTest, Strides) {
  EXPECT_EQ(RowMajorStrides({2, 3, 4}), Dims({12, 4, 1}));
  EXPECT_EQ(BroadcastStrides({3, 1}, {2, 3, 4}), Dims({0, 1, 0}));
}

TEST(ShapeTest, TypesPrint) {
  EXPECT_EQ((TensorType{DType::f32, Shape{Dim::Symbol("N"), 3}}.ToString()), "f32[N,3]");
  EXPECT_EQ((TensorType{DType::bool_, std::nullopt}.ToString()), "bool[*]");
  EXPECT_EQ((TensorType{DType::i64, Shape{}}.ToString()), "i64");
}

}  // namespace
}  // namespace minim
