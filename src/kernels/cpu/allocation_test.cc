// Run must not allocate: operator new counts while a kernel of every family runs.
#include <gtest/gtest.h>

#include "core/testing/counting_allocator.h"
#include "kernels/cpu/test_support.h"

namespace minim {
namespace {

Tensor Output(const Dims& dims, DType dtype = DType::f32) { return Tensor(dtype, dims); }

std::vector<KernelCase> Cases() {
  const Tensor x = Uniform({2, 4, 8, 8}, 1), w = Uniform({4, 4, 3, 3}, 2), m = Uniform({20, 20}, 3);
  const Tensor u = Integers<uint8_t>({20, 20}, 4, 0, 255),
               s = Integers<int8_t>({20, 20}, 5, -128, 127);
  const Tensor one = Tensor::Scalar<float>(1), zu = Tensor::Scalar<uint8_t>(3),
               zs = Tensor::Scalar<int8_t>(0);
  const Attributes pads{{"pads", std::vector<int64_t>{1, 1, 1, 1}}};
  const Attributes pool{{"kernel_shape", std::vector<int64_t>{2, 2}},
                        {"strides", std::vector<int64_t>{2, 2}}};
  const Tensor half = Uniform({2, 4, 4, 4}, 6), axes = Tensor::From<int64_t>({1}, {1});
  const Tensor labels = Integers<int64_t>({20}, 7, 0, 19), count = Tensor::Scalar<int64_t>(1);
  return {
      {.op = "Gelu", .inputs = {x}, .outputs = {Output({2, 4, 8, 8})}},
      {.op = "FusedAttention", .inputs = {x, x, x}, .outputs = {Output({2, 4, 8, 8})}},
      {.op = "Add", .inputs = {x, Uniform({4, 1, 1}, 1)}, .outputs = {Output({2, 4, 8, 8})}},
      {.op = "Cast", .inputs = {x}, .outputs = {Output({2, 4, 8, 8}, DType::f16)}},
      {.op = "MatMul", .inputs = {m, m}, .outputs = {Output({20, 20})}},
      {.op = "Gemm", .inputs = {m, m, one}, .outputs = {Output({20, 20})}, .constants = {1}},
      {.op = "Conv",
       .attributes = pads,
       .inputs = {x, w},
       .outputs = {Output({2, 4, 8, 8})},
       .constants = {1}},
      {.op = "ConvInputGrad",
       .attributes = pads,
       .inputs = {x, w},
       .outputs = {Output({2, 4, 8, 8})}},
      {.op = "ConvWeightGrad",
       .attributes = pads,
       .inputs = {x, x},
       .outputs = {Output({4, 4, 3, 3})}},
      {.op = "MaxPool", .attributes = pool, .inputs = {x}, .outputs = {Output({2, 4, 4, 4})}},
      {.op = "MaxPoolGrad",
       .attributes = pool,
       .inputs = {half, x},
       .outputs = {Output({2, 4, 8, 8})}},
      {.op = "AveragePool", .attributes = pool, .inputs = {x}, .outputs = {Output({2, 4, 4, 4})}},
      {.op = "Softmax", .inputs = {m}, .outputs = {Output({20, 20})}},
      {.op = "LayerNormalization", .inputs = {m, Uniform({20}, 1)}, .outputs = {Output({20, 20})}},
      {.op = "GroupNorm",
       .attributes = {{"groups", int64_t{4}}, {"activation", int64_t{1}}},
       .inputs = {x, Uniform({8}, 1), Uniform({8}, 2)},
       .outputs = {Output({2, 4, 8, 8})}},
      {.op = "LRN",
       .attributes = {{"size", int64_t{3}}},
       .inputs = {x},
       .outputs = {Output({2, 4, 8, 8})}},
      {.op = "ReduceMean", .inputs = {m, axes}, .outputs = {Output({20})}, .constants = {1}},
      {.op = "Transpose", .inputs = {m}, .outputs = {Output({20, 20})}},
      {.op = "Gather", .inputs = {m, labels}, .outputs = {Output({20, 20})}},
      {.op = "SoftmaxCrossEntropyLoss", .inputs = {m, labels}, .outputs = {Output({})}},
      {.op = "SoftmaxCrossEntropyGrad", .inputs = {one, m, labels}, .outputs = {Output({20, 20})}},
      {.op = "Momentum",
       .inputs = {one, count, m, m, m},
       .outputs = {Output({20, 20}), Output({20, 20})}},
      {.op = "MatMulInteger", .inputs = {u, s}, .outputs = {Output({20, 20}, DType::i32)}},
      {.op = "QLinearMatMul",
       .inputs = {u, one, zu, s, one, zs, one, zu},
       .outputs = {Output({20, 20}, DType::u8)}},
      {.op = "NhwcQLinearConv",
       .attributes = pads,
       .inputs = {Bytes(DType::u8, {2, 8, 8, 6}, 1), one, zu, Bytes(DType::i8, {70, 6, 3, 3}, 2),
                  one, zs, one, zu},
       .outputs = {Output({2, 8, 8, 70}, DType::u8)},
       .constants = {3, 5}},
      {.op = "NhwcMaxPool",
       .attributes = pool,
       .inputs = {Bytes(DType::u8, {2, 8, 8, 6}, 1)},
       .outputs = {Output({2, 4, 4, 6}, DType::u8)}},
      {.op = "RowQuantizedMatMul", .inputs = {m, s, one}, .outputs = {Output({20, 20})}},
      {.op = "QuantizeLinear", .inputs = {m, one, zu}, .outputs = {Output({20, 20}, DType::u8)}},
      {.op = "LSTM",
       .inputs = {Uniform({3, 2, 4}, 1), Uniform({1, 20, 4}, 2), Uniform({1, 20, 5}, 3)},
       .outputs = {Output({3, 1, 2, 5}), Output({1, 2, 5}), Output({1, 2, 5})}},
      {.op = "GRU",
       .inputs = {Uniform({3, 2, 4}, 1), Uniform({1, 15, 4}, 2), Uniform({1, 15, 5}, 3)},
       .outputs = {Output({3, 1, 2, 5}), Output({1, 2, 5})},
       .constants = {1, 2}},
      {.op = "DynamicQuantizeLSTM",
       .inputs = {Uniform({3, 2, 4}, 1), Integers<int8_t>({1, 4, 256}, 2, -9, 9),
                  Integers<int8_t>({1, 64, 256}, 3, -9, 9), Tensor(), Tensor(), Tensor(), Tensor(),
                  Tensor(), one, zs, one, zs},
       .outputs = {Output({3, 1, 2, 64})},
       .constants = {1, 2, 8, 9, 10, 11}},
  };
}

TEST(AllocationTest, RunAllocatesNothing) {
  for (int threads : {1, 2}) {
    for (KernelCase& test : Cases()) {
      test.threads = threads;
      for (Isa isa : TestLevels()) {
        BoundCase bound(test, isa);
        ASSERT_TRUE(bound.ok()) << bound.status().message();
        bound.Run();
        const int64_t before = AllocationCount();
        bound.RunPrepared();
        EXPECT_EQ(AllocationCount(), before) << test.op << " at " << Name(isa);
      }
    }
  }
}

}  // namespace
}  // namespace minim
