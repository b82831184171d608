#include "kernels/cpu/widened.h"

#include <gtest/gtest.h>

#include "kernels/cpu/test_support.h"

namespace minim {
namespace {

// The FP32 kernel's answer on the same values, rounded once.
void ExpectAsFp32(DType dtype, std::vector<int> constants, int threads) {
  const Tensor x = Converted(Uniform({2, 8, 20, 20}, 1).view(), dtype),
               w = Converted(Uniform({16, 8, 3, 3}, 2).view(), dtype),
               b = Converted(Uniform({16}, 3).view(), dtype);
  const Attributes attributes = {{"pads", std::vector<int64_t>{1, 1, 1, 1}}};
  const Dims out{2, 16, 20, 20};
  KernelCase narrow{.op = "Conv",
                    .attributes = attributes,
                    .inputs = {x, w, b},
                    .outputs = {Tensor(dtype, out)},
                    .constants = constants,
                    .threads = threads};
  KernelCase wide{.op = "Conv",
                  .attributes = attributes,
                  .inputs = {Converted(x.view(), DType::f32), Converted(w.view(), DType::f32),
                             Converted(b.view(), DType::f32)},
                  .outputs = {Tensor(DType::f32, out)},
                  .constants = constants,
                  .threads = threads};
  for (Isa isa : TestLevels()) {
    RunCase(narrow, isa);
    RunCase(wide, isa);
    EXPECT_TRUE(SameBytes(narrow.outputs[0], Converted(wide.outputs[0].view(), dtype)))
        << Name(dtype) << " " << Name(isa);
  }
}

TEST(WidenedTest, GivesTheFp32AnswerRoundedOnce) {
  for (DType dtype : {DType::f16, DType::bf16}) {
    ExpectAsFp32(dtype, {}, 1);
    ExpectAsFp32(dtype, {1, 2}, 2);
  }
}

TEST(WidenedTest, RefusesWhatHasNoFp32Row) {
  KernelCase test{.op = "MaxPoolGrad",
                  .inputs = {Tensor(DType::i32, {4})},
                  .outputs = {Tensor(DType::i32, {4})}};
  EXPECT_EQ(BoundCase(test, Isa::kPortable).status().code(), StatusCode::kUnsupported);
  test.inputs = test.outputs = {Tensor(DType::f64, {4})};
  EXPECT_EQ(BoundCase(test, Isa::kPortable).status().code(), StatusCode::kUnsupported);
}

}  // namespace
}  // namespace minim
