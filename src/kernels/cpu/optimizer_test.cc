#include <gtest/gtest.h>

#include "kernels/cpu/test_support.h"

namespace minim {
namespace {

struct Update {
  const char* op;
  Attributes attributes;
  int states;
  // x, g, states -> new x, new states
  void (*step)(double rate, double t, double& x, double g, double* s);
};

const Update kUpdates[] = {
    {"Adam",
     {{"norm_coefficient", 0.01f}, {"epsilon", 1e-3f}},
     2,
     [](double rate, double t, double& x, double g, double* s) {
       const double r = g + 0.01f * x;
       s[0] = 0.9f * s[0] + (1 - 0.9f) * r;
       s[1] = 0.999f * s[1] + (1 - 0.999f) * r * r;
       const double adjusted = rate * std::sqrt(1 - std::pow(0.999f, t)) / (1 - std::pow(0.9f, t));
       x -= adjusted * s[0] / (std::sqrt(s[1]) + 1e-3f);
     }},
    {"Momentum",
     {{"alpha", 0.8f}, {"beta", 0.5f}, {"norm_coefficient", 0.0f}, {"mode", "nesterov"}},
     1,
     [](double rate, double, double& x, double g, double* s) {
       s[0] = 0.8f * s[0] + 0.5 * g;
       x -= rate * (g + 0.8f * s[0]);
     }},
    {"Momentum",
     {{"alpha", 0.8f}, {"beta", 1.0f}, {"norm_coefficient", 0.1f}, {"mode", "standard"}},
     1,
     [](double rate, double, double& x, double g, double* s) {
       s[0] = 0.8f * s[0] + g + 0.1f * x;
       x -= rate * s[0];
     }},
    {"Adagrad",
     {{"decay_factor", 0.1f}, {"epsilon", 1e-3f}},
     1,
     [](double rate, double t, double& x, double g, double* s) {
       s[0] += g * g;
       x -= rate / (1 + t * 0.1f) * g / (std::sqrt(s[0]) + 1e-3f);
     }},
};

TEST(OptimizerTest, TwoTensorsInPlace) {
  for (const Update& row : kUpdates) {
    for (Isa isa : TestLevels()) {
      KernelCase test{.op = row.op,
                      .attributes = row.attributes,
                      .inputs = {Tensor::Scalar<float>(0.05f), Tensor::Scalar<int64_t>(3)},
                      .threads = 2};
      const Dims dims[2] = {{7, 5}, {20001}};
      for (int role = 0; role < 2 + row.states; ++role) {
        for (int i = 0; i < 2; ++i)
          test.inputs.push_back(Uniform(dims[i], 10 * role + i, role < 2 ? -1 : 0.1f, 1));
      }
      std::vector<std::vector<double>> expected(test.inputs.size());
      for (int i = 0; i < 2; ++i) {
        for (int64_t j = 0; j < dims[i].Elements(); ++j) {
          double x = test.inputs[2 + i].as<float>()[j], s[2] = {};
          for (int k = 0; k < row.states; ++k) s[k] = test.inputs[6 + 2 * k + i].as<float>()[j];
          row.step(0.05f, 3, x, test.inputs[4 + i].as<float>()[j], s);
          expected[2 + i].push_back(x);
          for (int k = 0; k < row.states; ++k) expected[6 + 2 * k + i].push_back(s[k]);
        }
      }
      for (size_t i = 2; i < test.inputs.size(); ++i) {
        if (i < 4 || i >= 6) test.outputs.push_back(test.inputs[i]);  // the same buffers
      }
      RunCase(test, isa);
      for (size_t i = 2; i < test.inputs.size(); ++i) {
        if (i < 4 || i >= 6)
          ExpectNear(test.inputs[i].as<float>(), expected[i], 2e-6, 1e-6, row.op);
      }
    }
  }
}

}  // namespace
}  // namespace minim
