#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/cpu/test_support.h"

namespace minim {
namespace {

using testing::ElementsAre;

Tensor Iota(DType dtype, const Dims& dims) {
  Tensor values(DType::i32, dims);
  for (int64_t i = 0; i < values.size(); ++i) values.as<int32_t>()[i] = static_cast<int32_t>(i);
  return Converted(values.view(), dtype);
}

Tensor Ints(std::initializer_list<int64_t> values) {
  return Tensor::From<int64_t>({static_cast<int64_t>(values.size())}, values);
}

std::vector<int> Moved(std::string op, Attributes attributes, std::vector<Tensor> inputs,
                       const Dims& out, DType dtype) {
  KernelCase test{.op = std::move(op),
                  .attributes = std::move(attributes),
                  .inputs = std::move(inputs),
                  .outputs = {Tensor(dtype, out)},
                  .threads = 2};
  for (size_t i = 1; i < test.inputs.size(); ++i) {
    if (test.inputs[i].defined() && test.inputs[i].dtype() == DType::i64)
      test.constants.push_back(static_cast<int>(i));
  }
  RunCase(test, Isa::kPortable);
  const Tensor wide = Converted(test.outputs[0].view(), DType::i32);
  return {wide.as<int32_t>().begin(), wide.as<int32_t>().end()};
}

TEST(DataMovementTest, TransposeEveryElementSize) {
  for (DType dtype : {DType::u8, DType::f16, DType::f32, DType::f64}) {
    EXPECT_THAT(Moved("Transpose", {}, {Iota(dtype, {2, 3})}, {3, 2}, dtype),
                ElementsAre(0, 3, 1, 4, 2, 5));
  }
  for (DType dtype : {DType::u8, DType::i16, DType::i32}) {
    const int modulus = dtype == DType::u8 ? 251 : 1 << (dtype == DType::i16 ? 15 : 30);
    for (int channels : {2, 3, 4, 20, 39}) {
      Tensor x = Iota(DType::i32, {2, channels, 5, 33});
      for (int32_t& value : x.as<int32_t>()) value %= modulus;
      const auto moved = Moved("Transpose", {{"perm", std::vector<int64_t>{0, 2, 3, 1}}},
                               {Converted(x.view(), dtype)}, {2, 5, 33, channels}, dtype);
      for (int i = 0; i < 330 * channels; ++i) {
        const int c = i % channels, w = i / channels % 33, h = i / channels / 33 % 5,
                  n = i / channels / 165;
        ASSERT_EQ(moved[i], (((n * channels + c) * 5 + h) * 33 + w) % modulus) << channels;
      }
    }
  }
}

TEST(DataMovementTest, ConcatAndSplit) {
  EXPECT_THAT(Moved("Concat", {{"axis", int64_t{-1}}},
                    {Iota(DType::i8, {2, 1}), Iota(DType::i8, {2, 2})}, {2, 3}, DType::i8),
              ElementsAre(0, 0, 1, 1, 2, 3));
  KernelCase split{.op = "Split",
                   .attributes = {{"axis", int64_t{1}}},
                   .inputs = {Iota(DType::i32, {2, 3})},
                   .outputs = {Tensor(DType::i32, {2, 1}), Tensor(DType::i32, {2, 2})}};
  RunCase(split, Isa::kPortable);
  EXPECT_THAT(split.outputs[0].as<int32_t>(), ElementsAre(0, 3));
  EXPECT_THAT(split.outputs[1].as<int32_t>(), ElementsAre(1, 2, 4, 5));
}

TEST(DataMovementTest, SliceForwardAndBackward) {
  EXPECT_THAT(Moved("Slice", {}, {Iota(DType::i32, {3, 4}), Ints({1}), Ints({3}), Ints({0})},
                    {2, 4}, DType::i32),
              ElementsAre(4, 5, 6, 7, 8, 9, 10, 11));
  EXPECT_THAT(
      Moved("Slice", {}, {Iota(DType::i32, {5}), Ints({-1}), Ints({-100}), Ints({0}), Ints({-2})},
            {3}, DType::i32),
      ElementsAre(4, 2, 0));
  EXPECT_THAT(Moved("Slice", {}, {Iota(DType::i32, {5}), Ints({9}), Ints({12})}, {0}, DType::i32),
              ElementsAre());
}

TEST(DataMovementTest, ExpandTileGather) {
  EXPECT_THAT(Moved("Expand", {}, {Iota(DType::i32, {2, 1})}, {2, 3}, DType::i32),
              ElementsAre(0, 0, 0, 1, 1, 1));
  EXPECT_THAT(Moved("Tile", {}, {Iota(DType::i32, {2, 2}), Ints({1, 2})}, {2, 4}, DType::i32),
              ElementsAre(0, 1, 0, 1, 2, 3, 2, 3));
  EXPECT_THAT(Moved("Gather", {{"axis", int64_t{1}}}, {Iota(DType::i32, {2, 3}), Ints({-1, 0, 7})},
                    {2, 3}, DType::i32),
              ElementsAre(2, 0, 0, 5, 3, 0));
}

TEST(DataMovementTest, PadModes) {
  const Tensor x = Iota(DType::i32, {1, 3}), pads = Ints({0, 2, 1, 2});
  const auto pad = [&](const char* mode) {
    return Moved("Pad", {{"mode", mode}}, {x, Ints({0, 2, 0, 2})}, {1, 7}, DType::i32);
  };
  EXPECT_THAT(pad("reflect"), ElementsAre(2, 1, 0, 1, 2, 1, 0));
  EXPECT_THAT(pad("edge"), ElementsAre(0, 0, 0, 1, 2, 2, 2));
  EXPECT_THAT(pad("wrap"), ElementsAre(1, 2, 0, 1, 2, 0, 1));
  EXPECT_THAT(Moved("Pad", {}, {x, pads, Tensor::Scalar<int32_t>(9)}, {2, 7}, DType::i32),
              ElementsAre(9, 9, 0, 1, 2, 9, 9, 9, 9, 9, 9, 9, 9, 9));
  EXPECT_THAT(Moved("Pad", {}, {x, Ints({0, -1, 0, 1})}, {1, 3}, DType::i32), ElementsAre(1, 2, 0));
}

}  // namespace
}  // namespace minim
