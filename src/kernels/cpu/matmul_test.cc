#include <gtest/gtest.h>

#include "kernels/cpu/gemm.h"
#include "kernels/cpu/test_support.h"

namespace minim {
namespace {

struct Product {
  int64_t batches, m, n, k;
  bool trans_a = false, trans_b = false;
};

// |error| <= 4 eps sum|a||b|, which for operands in [-1, 1] is at most 4 eps k.
void ExpectProduct(const Product& p, const float* a, const float* b, bool shared_b,
                   const float* y) {
  for (int64_t batch = 0; batch < p.batches; ++batch) {
    for (int64_t i = 0; i < p.m; ++i) {
      for (int64_t j = 0; j < p.n; ++j) {
        double sum = 0, size = 0;
        for (int64_t k = 0; k < p.k; ++k) {
          const double x = a[batch * p.m * p.k + (p.trans_a ? k * p.m + i : i * p.k + k)];
          const double w =
              b[(shared_b ? 0 : batch * p.k * p.n) + (p.trans_b ? j * p.k + k : k * p.n + j)];
          sum += x * w;
          size += std::fabs(x * w);
        }
        ASSERT_NEAR(*y++, sum, 4 * 1.2e-7 * size + 1e-30)
            << p.m << "x" << p.n << "x" << p.k << " at " << i << "," << j;
      }
    }
  }
}

TEST(MatMulTest, ShapesConstantsAndThreads) {
  const Product products[] = {{1, 1, 1, 1},      {1, 1, 130, 70}, {1, 2, 65, 400}, {1, 7, 17, 33},
                              {1, 97, 100, 401}, {3, 5, 16, 8},   {1, 6, 16, 0},   {1, 0, 4, 4},
                              {4, 13, 31, 27},   {1, 200, 64, 50}};
  for (const Product& p : products) {
    for (bool constant : {false, true}) {
      for (bool shared : {false, true}) {
        KernelCase test{.op = "MatMul",
                        .inputs = {Uniform({p.batches, p.m, p.k}, 1),
                                   Uniform({shared ? 1 : p.batches, p.k, p.n}, 2)},
                        .outputs = {Tensor(DType::f32, {p.batches, p.m, p.n})},
                        .threads = 2};
        if (constant) test.constants = {1};
        for (Isa isa : TestLevels()) {
          RunCase(test, isa);
          ExpectProduct(p, test.inputs[0].as<float>().data(), test.inputs[1].as<float>().data(),
                        shared, test.outputs[0].as<float>().data());
        }
      }
    }
  }
}

TEST(MatMulTest, ThreadsDoNotChangeBits) {
  KernelCase test{.op = "MatMul",
                  .inputs = {Uniform({150, 500}, 1), Uniform({500, 70}, 2)},
                  .outputs = {Tensor(DType::f32, {150, 70})}};
  RunCase(test, Isa::kAvx2);
  const Tensor one = test.outputs[0].Clone();
  test.threads = 3;
  RunCase(test, Isa::kAvx2);
  EXPECT_TRUE(SameBytes(one, test.outputs[0]));
}

TEST(MatMulTest, GemmTransposesBiasAndActivation) {
  const int64_t m = 19, n = 35, k = 23;
  for (int mode = 0; mode < 4; ++mode) {
    const bool ta = mode & 1, tb = mode & 2;
    for (const Dims& c : {Dims{}, Dims{n}, Dims{m, 1}, Dims{m, n}, Dims{1, 1}}) {
      KernelCase test{.op = "FusedGemm",
                      .attributes = {{"transA", int64_t{ta}},
                                     {"transB", int64_t{tb}},
                                     {"alpha", 0.5f},
                                     {"beta", 2.0f},
                                     {"activation", "Relu"}},
                      .inputs = {Uniform(ta ? Dims{k, m} : Dims{m, k}, 1),
                                 Uniform(tb ? Dims{n, k} : Dims{k, n}, 2), Uniform(c, 3)},
                      .outputs = {Tensor(DType::f32, {m, n})}};
      std::vector<double> expected;
      const auto a = test.inputs[0].as<float>(), b = test.inputs[1].as<float>(),
                 bias = test.inputs[2].as<float>();
      for (int64_t i = 0; i < m; ++i) {
        for (int64_t j = 0; j < n; ++j) {
          double sum = 0;
          for (int64_t q = 0; q < k; ++q)
            sum += double(a[ta ? q * m + i : i * k + q]) * b[tb ? j * k + q : q * n + j];
          const int64_t rows = c.rank() == 2 ? c[0] : 1, columns = c.rank() ? c[c.rank() - 1] : 1;
          const double z = bias[(rows > 1 ? i * columns : 0) + (columns > 1 ? j : 0)];
          expected.push_back(std::max(0.0, 0.5 * sum + 2 * z));
        }
      }
      for (Isa isa : TestLevels()) {
        RunCase(test, isa);
        ExpectNear(test.outputs[0].as<float>(), expected, 1e-5, 1e-5, c.ToString());
      }
    }
  }
}

TEST(MatMulTest, TwoByteStorage) {
  for (DType dtype : {DType::f16, DType::bf16}) {
    const Tensor a = Converted(Uniform({9, 40}, 1).view(), dtype);
    const Tensor b = Converted(Uniform({40, 33}, 2).view(), dtype);
    KernelCase wide{.op = "MatMul",
                    .inputs = {Converted(a.view(), DType::f32), Converted(b.view(), DType::f32)},
                    .outputs = {Tensor(DType::f32, {9, 33})}};
    KernelCase narrow{.op = "MatMul", .inputs = {a, b}, .outputs = {Tensor(dtype, {9, 33})}};
    for (Isa isa : TestLevels()) {
      RunCase(wide, isa);
      RunCase(narrow, isa);
      if (dtype == DType::f16 || isa < Isa::kAvx512Bf16) {
        EXPECT_TRUE(SameBytes(narrow.outputs[0], Converted(wide.outputs[0].view(), dtype)));
      }
    }
  }
}

// Rows by a constant B, with what a Gemm adds and clamps: sums of products of BF16, rounded once.
TEST(MatMulTest, RowsOfBf16ByConstants) {
  const Product products[] = {{1, 1, 1, 1},     {1, 1, 130, 70},
                              {1, 2, 65, 401},  {1, 9, 64, 3},
                              {1, 97, 100, 64}, {1, 200, 48, 33, false, true},
                              {1, 5, 300, 128}, {1, 31, 17, 256, false, true}};
  for (const Product& p : products) {
    for (const Dims& c : {Dims{p.n}, Dims{p.m, p.n}, Dims{}, Dims{1, p.n}}) {
      KernelCase test{
          .op = "FusedGemm",
          .attributes = {{"transB", int64_t{p.trans_b}}, {"activation", "Relu"}},
          .inputs = {Uniform({p.m, p.k}, 1),
                     Uniform(p.trans_b ? Dims{p.n, p.k} : Dims{p.k, p.n}, 2), Uniform(c, 3)},
          .constants = {1},
          .threads = 2};
      const double beta = c.rank() == 2 && c[0] == p.m ? 1 : 0.5;
      test.attributes.Set("beta", static_cast<float>(beta));
      std::vector<Tensor> wide;
      for (Tensor& input : test.inputs) {
        input = Converted(input.view(), DType::bf16);
        wide.push_back(Converted(input.view(), DType::f32));
      }
      const auto a = wide[0].as<float>(), b = wide[1].as<float>(), bias = wide[2].as<float>();
      std::vector<double> expected;
      for (int64_t i = 0; i < p.m; ++i) {
        for (int64_t j = 0; j < p.n; ++j) {
          double sum = beta * bias[bias.size() == 1 ? 0 : (i * p.n + j) % bias.size()];
          for (int64_t k = 0; k < p.k; ++k)
            sum += double(a[i * p.k + k]) * b[p.trans_b ? j * p.k + k : k * p.n + j];
          expected.push_back(std::max(0.0, sum));
        }
      }
      for (Isa isa : TestLevels()) {
        test.outputs = {Tensor(DType::bf16, {p.m, p.n})};
        RunCase(test, isa);
        ExpectNear(Converted(test.outputs[0].view(), DType::f32).as<float>(), expected, 0x1p-8,
                   1e-4, fmt::format("{}x{}x{} {}", p.m, p.n, p.k, Name(isa)));
      }
    }
  }
}

// Of sums in registers, tiles and parts, and of every kernel that only finds them in memory.
TEST(MatMulTest, GeluOfSums) {
  const int64_t m = 130, n = 201, k = 84;
  for (const DType dtype : {DType::f32, DType::bf16}) {
    for (const Dims& c : {Dims{n}, Dims{m, n}}) {
      KernelCase test{.op = "FusedGemm",
                      .attributes = {{"activation", "Gelu"}},
                      .inputs = {Uniform({m, k}, 1), Uniform({k, n}, 2), Uniform(c, 3)},
                      .constants = {1},
                      .threads = 2};
      std::vector<Tensor> wide;
      for (Tensor& input : test.inputs) {
        input = Converted(input.view(), dtype);
        wide.push_back(Converted(input.view(), DType::f32));
      }
      const auto a = wide[0].as<float>(), b = wide[1].as<float>(), bias = wide[2].as<float>();
      std::vector<double> expected;
      for (int64_t i = 0; i < m; ++i) {
        for (int64_t j = 0; j < n; ++j) {
          double sum = bias[(i * n + j) % bias.size()];
          for (int64_t q = 0; q < k; ++q) sum += double(a[i * k + q]) * b[q * n + j];
          expected.push_back(sum * 0.5 * std::erfc(-sum * std::sqrt(0.5)));
        }
      }
      for (Isa isa : TestLevels()) {
        test.outputs = {Tensor(dtype, {m, n})};
        RunCase(test, isa);
        ExpectNear(Converted(test.outputs[0].view(), DType::f32).as<float>(), expected,
                   dtype == DType::f32 ? 1e-5 : 0x1p-8, 2e-5,
                   fmt::format("{} at {}", c.ToString(), Name(isa)));
      }
    }
  }
}

// Many products of B as it comes, transposed or not, on their own threads or on several each.
TEST(MatMulTest, BatchesOfBf16) {
  const Product products[] = {
      {1, 20, 70, 65},           {5, 33, 48, 40}, {4, 50, 100, 64, false, true},
      {2, 130, 80, 31},          {7, 1, 17, 130}, {3, 64, 128, 96, false, true},
      {1, 9, 33, 1, false, true}};
  for (const Product& p : products) {
    for (const bool constant : {false, true}) {
      KernelCase test{
          .op = "FusedMatMul",
          .attributes = {{"transB", int64_t{p.trans_b}}},
          .inputs = {Uniform({p.batches, p.m, p.k}, 1),
                     Uniform({p.batches, p.trans_b ? p.n : p.k, p.trans_b ? p.k : p.n}, 2)}};
      if (constant) test.constants = {1};
      for (Tensor& input : test.inputs)
        input = Converted(Converted(input.view(), DType::bf16).view(), DType::f32);
      test.outputs = {Tensor(DType::f32, {p.batches, p.m, p.n})};
      RunCase(test, Isa::kPortable);
      const Tensor expected = test.outputs[0].Clone();
      for (Tensor& input : test.inputs) input = Converted(input.view(), DType::bf16);
      for (Isa isa : TestLevels()) {
        for (int threads : {1, 3}) {
          test.threads = threads;
          test.outputs = {Tensor(DType::bf16, {p.batches, p.m, p.n})};
          RunCase(test, isa);
          ExpectNear(Converted(test.outputs[0].view(), DType::f32).as<float>(),
                     {expected.as<float>().begin(), expected.as<float>().end()}, 0x1p-8, 1e-4,
                     fmt::format("{}x{}x{}x{} {} on {} threads", p.batches, p.m, p.n, p.k,
                                 Name(isa), threads));
        }
      }
    }
  }
}

TEST(MatMulTest, IntegersAndVectors) {
  KernelCase test{.op = "MatMul",
                  .inputs = {Tensor::From<int32_t>({3}, {1, 2, 3}),
                             Tensor::From<int32_t>({3, 2}, {1, 2, 3, 4, 5, 6})},
                  .outputs = {Tensor(DType::i32, {2})}};
  RunCase(test, Isa::kAvx2);
  EXPECT_EQ(test.outputs[0].as<int32_t>()[0], 22);
  EXPECT_EQ(test.outputs[0].as<int32_t>()[1], 28);
}

}  // namespace
}  // namespace minim
