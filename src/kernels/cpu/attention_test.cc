#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "kernels/cpu/test_support.h"

namespace minim {
namespace {

struct Case {
  int64_t batch, heads, t, s, d, e;
  bool heads_first = true;  // in memory; else [B, T, H, D], as projections write them
  Dims mask = {};
  float scale = 0.3f;
};

int64_t At(const Case& c, int64_t rows, int64_t width, int64_t b, int64_t h, int64_t i, int64_t j) {
  return c.heads_first ? ((b * c.heads + h) * rows + i) * width + j
                       : ((b * rows + i) * c.heads + h) * width + j;
}

KernelCase KernelOf(const Case& c, DType dtype) {
  const auto dims = [&](int64_t rows, int64_t width) {
    return c.heads_first ? Dims{c.batch, c.heads, rows, width}
                         : Dims{c.batch, rows, c.heads, width};
  };
  KernelCase test{.op = "FusedAttention",
                  .attributes = {{"scale", c.scale}},
                  .inputs = {Uniform(dims(c.t, c.d), 1, -3, 3), Uniform(dims(c.s, c.d), 2, -3, 3),
                             Uniform(dims(c.s, c.e), 3)}};
  using Perm = std::vector<int64_t>;
  const Perm rows = c.heads_first ? Perm{0, 1, 2, 3} : Perm{0, 2, 1, 3};
  test.attributes.Set("perm_q", rows);
  test.attributes.Set("perm_v", rows);
  test.attributes.Set("perm_y", rows);
  test.attributes.Set("perm_k", c.heads_first ? Perm{0, 1, 3, 2} : Perm{0, 2, 3, 1});
  for (Tensor& input : test.inputs) input = Converted(input.view(), dtype);
  if (c.mask.rank() > 0) {
    Tensor mask = Uniform(c.mask, 4, -2, 2);
    for (int64_t i = 0; i < mask.size(); i += 7)
      mask.as<float>()[i] = -std::numeric_limits<float>::infinity();
    test.inputs.push_back(std::move(mask));
  }
  test.outputs = {Tensor(dtype, dims(c.t, c.e))};
  return test;
}

float MaskAt(const Case& c, const KernelCase& test, const int64_t (&index)[4]) {
  if (c.mask.rank() == 0) return 0;
  int64_t at = 0;
  for (int axis = 0; axis < c.mask.rank(); ++axis) {
    const int64_t size = c.mask[axis];
    at = at * size + (size == 1 ? 0 : index[4 - c.mask.rank() + axis]);
  }
  return test.inputs[3].as<float>()[at];
}

std::vector<double> Expected(const Case& c, const KernelCase& test) {
  std::vector<Tensor> wide;
  for (int i = 0; i < 3; ++i) wide.push_back(Converted(test.inputs[i].view(), DType::f32));
  const auto q = wide[0].as<float>(), k = wide[1].as<float>(), v = wide[2].as<float>();
  std::vector<double> y(static_cast<size_t>(test.outputs[0].size()));
  for (int64_t b = 0; b < c.batch; ++b)
    for (int64_t h = 0; h < c.heads; ++h)
      for (int64_t i = 0; i < c.t; ++i) {
        std::vector<double> scores(static_cast<size_t>(c.s));
        for (int64_t j = 0; j < c.s; ++j) {
          for (int64_t x = 0; x < c.d; ++x)
            scores[j] += double(q[At(c, c.t, c.d, b, h, i, x)]) * k[At(c, c.s, c.d, b, h, j, x)];
          scores[j] = scores[j] * c.scale + MaskAt(c, test, {b, h, i, j});
        }
        const double top = *std::max_element(scores.begin(), scores.end());
        double sum = 0;
        for (double& score : scores) sum += score = std::exp(score - top);
        for (int64_t j = 0; j < c.s; ++j)
          for (int64_t x = 0; x < c.e; ++x)
            y[At(c, c.t, c.e, b, h, i, x)] += scores[j] / sum * v[At(c, c.s, c.e, b, h, j, x)];
      }
  return y;
}

// Rows of whole blocks and not, panels of all widths, several blocks of rows, masks of every kind.
TEST(AttentionTest, IsWhatItsDefinitionSays) {
  const Case cases[] = {
      {2, 3, 64, 64, 64, 64, false},
      {1, 2, 17, 33, 20, 7, false},
      {3, 1, 70, 5, 32, 48},
      {1, 1, 1, 1, 1, 1},
      {1, 2, 200, 700, 33, 40, false},  // two blocks
      {1, 2, 17, 33, 20, 7, true, {}, -0.2f},
      {2, 3, 19, 40, 16, 16, false, {2, 1, 1, 40}},
      {2, 3, 19, 40, 16, 16, true, {19, 40}},
      {2, 2, 18, 23, 9, 11, false, {2, 2, 18, 23}, 1},
  };
  for (const Case& c : cases) {
    for (const DType dtype : {DType::f32, DType::bf16}) {
      KernelCase test = KernelOf(c, dtype);
      const std::vector<double> expected = Expected(c, test);
      for (const Isa isa : TestLevels()) {
        if (dtype == DType::bf16 && isa < Isa::kAvx512Bf16) continue;
        for (const int threads : {1, 3}) {
          test.threads = threads;
          RunCase(test, isa);
          // BF16: weights of rows that sum up to 1, and the result, rounded.
          const double relative = dtype == DType::f32 ? 1e-5 : 0x1p-8;
          const double absolute = dtype == DType::f32 ? 1e-5 : 0x1p-8;
          ExpectNear(Converted(test.outputs[0].view(), DType::f32).as<float>(), expected, relative,
                     absolute, fmt::format("T {} S {} {} at {}", c.t, c.s, Name(dtype), Name(isa)));
        }
      }
    }
  }
}

TEST(AttentionTest, RefusesWhatItDoesNotCompute) {
  KernelCase test = KernelOf({1, 2, 18, 23, 9, 11, true, {18, 1}}, DType::f32);
  EXPECT_FALSE(BoundCase(test, Isa::kPortable).ok());  // a mask per row
  test = KernelOf({2, 2, 18, 23, 9, 11}, DType::f32);
  test.inputs[1] = Uniform({1, 2, 23, 9}, 2);
  EXPECT_FALSE(BoundCase(test, Isa::kPortable).ok());  // one K for all
}

}  // namespace
}  // namespace minim
