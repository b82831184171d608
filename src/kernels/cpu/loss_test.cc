#include <gtest/gtest.h>

#include "kernels/cpu/test_support.h"

namespace minim {
namespace {

// Softmax cross entropy of [N, C, D] scores by the definition, and its gradient by differences.
double Loss(const std::vector<double>& x, int64_t n, int64_t c, int64_t d, const int64_t* labels,
            const float* weights, bool mean) {
  double sum = 0, total = 0;
  for (int64_t i = 0; i < n * d; ++i) {
    if (labels[i] == -1) continue;
    const auto at = [&](int64_t k) { return x[(i / d * c + k) * d + i % d]; };
    double z = 0;
    for (int64_t k = 0; k < c; ++k) z += std::exp(at(k));
    sum -= weights[labels[i]] * (at(labels[i]) - std::log(z));
    total += weights[labels[i]];
  }
  return mean ? sum / total : sum;
}

TEST(LossTest, CrossEntropyAndGradient) {
  const int64_t n = 4, c = 5, d = 3;
  const Tensor scores = Uniform({n, c, d}, 1, -3, 3), weights = Uniform({c}, 2, 0.5f, 2);
  Tensor labels = Integers<int64_t>({n, d}, 3, 0, c - 1);
  labels.as<int64_t>()[2] = -1;
  std::vector<double> x(scores.as<float>().begin(), scores.as<float>().end());
  for (bool mean : {true, false}) {
    const Attributes attributes{{"reduction", mean ? "mean" : "sum"},
                                {"ignore_index", int64_t{-1}}};
    const auto loss = [&] {
      return Loss(x, n, c, d, labels.as<int64_t>().data(), weights.as<float>().data(), mean);
    };
    KernelCase test{.op = "SoftmaxCrossEntropyLoss",
                    .attributes = attributes,
                    .inputs = {scores, labels, weights},
                    .outputs = {Tensor(DType::f32, {}), Tensor(DType::f32, {n, c, d})}};
    for (Isa isa : TestLevels()) {
      RunCase(test, isa);
      ExpectNear(test.outputs[0].as<float>(), {loss()}, 1e-6, 0, "loss");
    }
    KernelCase nll{.op = "NegativeLogLikelihoodLoss",
                   .attributes = attributes,
                   .inputs = {test.outputs[1], labels, weights},
                   .outputs = {Tensor(DType::f32, {})}};
    RunCase(nll, Isa::kPortable);
    ExpectNear(nll.outputs[0].as<float>(), {loss()}, 1e-6, 0, "nll");
    KernelCase grad{.op = "SoftmaxCrossEntropyGrad",
                    .attributes = attributes,
                    .inputs = {Tensor::Scalar<float>(2), test.outputs[1], labels, weights},
                    .outputs = {Tensor(DType::f32, {n, c, d})}};
    RunCase(grad, Isa::kPortable);
    std::vector<double> expected;
    for (double& value : x) {
      const double old = value;
      value = old + 1e-5;
      const double high = loss();
      value = old - 1e-5;
      expected.push_back(2 * (high - loss()) / 2e-5);
      value = old;
    }
    ExpectNear(grad.outputs[0].as<float>(), expected, 1e-5, 1e-6, "gradient");
  }
}

TEST(LossTest, NoReductionWithoutLogProb) {
  KernelCase test{
      .op = "SoftmaxCrossEntropyLoss",
      .attributes = {{"reduction", "none"}},
      .inputs = {Tensor::From<float>({2, 2}, {0, 0, 1, 1}), Tensor::From<int32_t>({2}, {1, 7})},
      .outputs = {Tensor(DType::f32, {2})}};
  RunCase(test, Isa::kPortable);
  ExpectNear(test.outputs[0].as<float>(), {std::log(2.0), 0}, 1e-6, 0, "none");
}

}  // namespace
}  // namespace minim
