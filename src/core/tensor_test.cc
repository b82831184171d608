#include "minim/tensor.h"

#include <gtest/gtest.h>

namespace minim {
namespace {

TEST(TensorTest, IsAlignedZeroedAndShared) {
  Tensor tensor(DType::f32, {2, 3});
  EXPECT_EQ(reinterpret_cast<uintptr_t>(tensor.data()) % kAlignment, 0u);
  for (float value : tensor.as<float>()) EXPECT_EQ(value, 0);
  Tensor shared = tensor.Reshaped({6});
  shared.as<float>()[4] = 7;
  EXPECT_EQ(tensor.as<float>()[4], 7);
  Tensor clone = tensor.Clone();
  clone.as<float>()[4] = 8;
  EXPECT_EQ(tensor.as<float>()[4], 7);
}

TEST(TensorTest, EmptyAndScalar) {
  EXPECT_EQ(Tensor(DType::i64, {0, 4}).bytes(), 0u);
  const Tensor scalar = Tensor::Scalar(3.5f);
  EXPECT_EQ(scalar.dims().rank(), 0);
  EXPECT_EQ(scalar.as<float>()[0], 3.5f);
}

TEST(DimsTest, Products) {
  const Dims dims = {2, 3, 4};
  EXPECT_EQ(dims.Elements(), 24);
  EXPECT_EQ(dims.Elements(1, 3), 12);
  EXPECT_EQ(dims.Elements(1, 1), 1);
  EXPECT_EQ(dims.ToString(), "[2,3,4]");
}

}  // namespace
}  // namespace minim
