#include <gtest/gtest.h>

#include "kernels/cpu/test_support.h"

namespace minim {
namespace {

void ExpectLevels(KernelCase& test, const std::vector<double>& expected, double relative,
                  double absolute) {
  for (Isa isa : TestLevels()) {
    RunCase(test, isa);
    ExpectNear(test.outputs[0].as<float>(), expected, relative, absolute, test.op);
  }
}

TEST(NormTest, SoftmaxOnEveryAxis) {
  const Dims dims{3, 37, 70};
  const Tensor x = Uniform(dims, 1, -20, 20);
  for (int axis = 0; axis < 3; ++axis) {
    const int64_t n = dims[axis], inner = dims.Elements(axis + 1, 3);
    std::vector<double> expected(x.size()), logs(x.size());
    for (int64_t i = 0; i < x.size(); ++i) {
      const int64_t base = i / (n * inner) * n * inner + i % inner;
      double top = -1e30, sum = 0;
      for (int64_t j = 0; j < n; ++j) top = std::max(top, double(x.as<float>()[base + j * inner]));
      for (int64_t j = 0; j < n; ++j) sum += std::exp(x.as<float>()[base + j * inner] - top);
      logs[i] = x.as<float>()[i] - top - std::log(sum);
      expected[i] = std::exp(logs[i]);
    }
    KernelCase test{.op = "Softmax",
                    .attributes = {{"axis", int64_t{axis}}},
                    .inputs = {x},
                    .outputs = {Tensor(DType::f32, dims)},
                    .threads = 2};
    ExpectLevels(test, expected, 4e-6, 1e-30);  // x - max rounds at |x| up to 40
    test.op = "LogSoftmax";
    ExpectLevels(test, logs, 1e-6, 2e-6);
  }
}

TEST(NormTest, SoftmaxOfMaskedAndFarValues) {
  const float inf = INFINITY, nan = NAN;
  constexpr int64_t kCount = 35;
  for (int64_t axis : {0, 1}) {
    const Dims dims = axis == 1 ? Dims{2, kCount} : Dims{kCount, 2};
    KernelCase test{.op = "Softmax",
                    .attributes = {{"axis", axis}},
                    .inputs = {Tensor(DType::f32, dims)},
                    .outputs = {Tensor(DType::f32, dims)}};
    const auto at = [&](int64_t row, int64_t i) {
      return axis == 1 ? row * kCount + i : i * 2 + row;
    };
    const auto x = test.inputs[0].as<float>();
    for (int64_t i = 0; i < kCount; ++i)
      x[at(0, i)] = i % 3 == 0 ? -inf : -8.7e6f * float(1 + i % 5);
    x[at(0, 1)] = x[at(0, 34)] = 3;
    for (int64_t i = 0; i < kCount; ++i) x[at(1, i)] = i == 20 ? nan : 1;
    for (Isa isa : TestLevels()) {
      RunCase(test, isa);
      const auto y = test.outputs[0].as<float>();
      for (int64_t i = 0; i < kCount; ++i) {
        EXPECT_EQ(y[at(0, i)], i == 1 || i == 34 ? 0.5f : 0.0f) << i << " at " << Name(isa);
        EXPECT_TRUE(std::isnan(y[at(1, i)])) << i << " at " << Name(isa);
      }
    }
  }
}

TEST(NormTest, InstanceNormOfEveryPlane) {
  const Dims dims{2, 3, 5, 7};
  const int64_t plane = 35;
  const Tensor x = Uniform(dims, 1, 3, 9), scale = Uniform({3}, 2), bias = Uniform({3}, 3);
  std::vector<double> expected;
  for (int64_t i = 0; i < 6; ++i) {
    const auto values = x.as<float>().subspan(i * plane, plane);
    double mean = 0, square = 0;
    for (float v : values) mean += v / double(plane);
    for (float v : values) square += std::pow(v - mean, 2) / plane;
    for (float v : values)
      expected.push_back((v - mean) / std::sqrt(square + 0.01) * scale.as<float>()[i % 3] +
                         bias.as<float>()[i % 3]);
  }
  KernelCase test{.op = "InstanceNormalization",
                  .attributes = {{"epsilon", 0.01f}},
                  .inputs = {x, scale, bias},
                  .outputs = {Tensor(DType::f32, dims)},
                  .threads = 2};
  ExpectLevels(test, expected, 1e-5, 1e-6);
}

TEST(NormTest, LayerNormWithStatistics) {
  const int64_t rows = 5, n = 83;
  const Tensor x = Uniform({rows, n}, 1, 3, 9), scale = Uniform({n}, 2), bias = Uniform({n}, 3);
  std::vector<double> expected, means, inverses;
  for (int64_t i = 0; i < rows; ++i) {
    double mean = 0, square = 0;
    for (int64_t j = 0; j < n; ++j) mean += x.as<float>()[i * n + j] / double(n);
    for (int64_t j = 0; j < n; ++j) square += std::pow(x.as<float>()[i * n + j] - mean, 2) / n;
    means.push_back(mean);
    inverses.push_back(1 / std::sqrt(square + 1e-5));
    for (int64_t j = 0; j < n; ++j)
      expected.push_back((x.as<float>()[i * n + j] - mean) * inverses.back() *
                             scale.as<float>()[j] +
                         bias.as<float>()[j]);
  }
  KernelCase test{.op = "LayerNormalization",
                  .inputs = {x, scale, bias},
                  .outputs = {Tensor(DType::f32, {rows, n}), Tensor(DType::f32, {rows, 1}),
                              Tensor(DType::f32, {rows, 1})}};
  ExpectLevels(test, expected, 1e-5, 1e-6);
  ExpectNear(test.outputs[1].as<float>(), means, 1e-6, 0, "mean");
  ExpectNear(test.outputs[2].as<float>(), inverses, 1e-6, 0, "inverse");
}

TEST(NormTest, BatchNormAndLrn) {
  const Dims dims{2, 5, 3, 7};
  const Tensor x = Uniform(dims, 1), s = Uniform({5}, 2), b = Uniform({5}, 3), m = Uniform({5}, 4),
               v = Uniform({5}, 5, 0.1f, 2);
  std::vector<double> expected, lrn;
  for (int64_t i = 0; i < x.size(); ++i) {
    const int64_t c = i / 21 % 5;
    expected.push_back((x.as<float>()[i] - m.as<float>()[c]) / std::sqrt(v.as<float>()[c] + 1e-5) *
                           s.as<float>()[c] +
                       b.as<float>()[c]);
    double sum = 0;
    for (int64_t k = std::max<int64_t>(0, c - 1); k <= std::min<int64_t>(4, c + 1); ++k)
      sum += std::pow(x.as<float>()[i + (k - c) * 21], 2);
    lrn.push_back(x.as<float>()[i] / std::pow(2 + 0.5 / 3 * sum, 0.75));
  }
  KernelCase norm{
      .op = "BatchNormalization", .inputs = {x, s, b, m, v}, .outputs = {Tensor(DType::f32, dims)}};
  ExpectLevels(norm, expected, 1e-5, 1e-6);
  KernelCase response{.op = "LRN",
                      .attributes = {{"size", int64_t{3}}, {"alpha", 0.5f}, {"bias", 2.0f}},
                      .inputs = {x},
                      .outputs = {Tensor(DType::f32, dims)}};
  ExpectLevels(response, lrn, 2e-6, 0);
}

}  // namespace
}  // namespace minim
