// The oneDNN rows are meant for AVX-512, but run at whatever level the CPU has: requested here on
// every machine.
#include "kernels/cpu/dnnl_primitive.h"

#include <gtest/gtest.h>

#include <thread>

#include "kernels/cpu/test_support.h"

namespace minim {
namespace {

struct ConvCase {
  Dims x, w, y;
  int64_t groups, stride;
};

const ConvCase kCases[] = {{{5, 8, 9, 11}, {16, 8, 3, 3}, {5, 16, 9, 11}, 1, 1},
                           {{3, 4, 10, 10}, {6, 2, 3, 3}, {3, 6, 5, 5}, 2, 2},
                           {{2, 8, 12, 12}, {8, 1, 3, 3}, {2, 8, 12, 12}, 8, 1}};

// The oneDNN row, if it binds, against the portable one.
void ExpectSame(KernelCase& test, double absolute) {
  for (int threads : {1, 2}) {
    test.threads = threads;
    RunCase(test, Isa::kPortable);
    const auto portable = test.outputs[0].as<float>();
    const std::vector<double> expected(portable.begin(), portable.end());
    BoundCase bound(test, Isa::kAvx512Vnni);
    ASSERT_TRUE(bound.ok());
    const bool dnnl = bound.kernel().Describe().starts_with("dnnl");
    if (DetectIsa() < Isa::kAvx512 && !dnnl) continue;  // an own row of a lower level took over
    std::memset(test.outputs[0].data(), 0xFF, test.outputs[0].bytes());
    bound.Run();
    ExpectNear(test.outputs[0].as<float>(), expected, 1e-5, absolute,
               test.op + " " + bound.kernel().Describe());
  }
}

TEST(DnnlTest, ConvolutionAndGradients) {
  if (DetectIsa() < Isa::kAvx2) GTEST_SKIP() << "needs AVX2";
  for (const ConvCase& c : kCases) {
    const Attributes attributes{{"group", c.groups},
                                {"strides", std::vector<int64_t>{c.stride, c.stride}},
                                {"pads", std::vector<int64_t>{1, 1, 1, 1}}};
    const Tensor x = Uniform(c.x, 1), w = Uniform(c.w, 2), dy = Uniform(c.y, 3),
                 bias = Uniform({c.w[0]}, 4);
    KernelCase forward{.op = "FusedConv",
                       .attributes = attributes,
                       .inputs = {x, w, bias},
                       .outputs = {Tensor(DType::f32, c.y)}};
    forward.attributes.Set("activation", std::string("Relu"));
    ExpectSame(forward, 1e-4);
    forward.constants = {1};
    ExpectSame(forward, 1e-4);
    KernelCase input{.op = "ConvInputGrad",
                     .attributes = attributes,
                     .inputs = {dy, w},
                     .outputs = {Tensor(DType::f32, c.x)}};
    ExpectSame(input, 1e-4);
    KernelCase weight{.op = "ConvWeightGrad",
                      .attributes = attributes,
                      .inputs = {dy, x},
                      .outputs = {Tensor(DType::f32, c.w)}};
    ExpectSame(weight, 1e-3);
  }
}

TEST(DnnlTest, ProductFromManyThreads) {
  if (DetectIsa() < Isa::kAvx2) GTEST_SKIP() << "needs AVX2";
  KernelCase test{.op = "MatMul",
                  .inputs = {Uniform({33, 40}, 1), Uniform({40, 50}, 2)},
                  .outputs = {Tensor(DType::f32, {33, 50})},
                  .constants = {1}};
  ExpectSame(test, 1e-5);
  test.threads = 1;
  BoundCase bound(test, Isa::kAvx512Vnni);
  ASSERT_TRUE(bound.ok());
  const Kernel& kernel = bound.kernel();
  bound.Run();
  const Tensor expected = test.outputs[0].Clone();
  std::vector<std::thread> callers;
  for (int i = 0; i < 4; ++i) {
    callers.emplace_back([&] {
      Tensor y(DType::f32, {33, 50}),
          scratch(DType::u8, Dims{static_cast<int64_t>(kernel.scratch_bytes())});
      const void* in[] = {test.inputs[0].data(), test.inputs[1].data()};
      void* out[] = {y.data()};
      for (int round = 0; round < 100; ++round) kernel.Run({in, out, scratch.data(), {}});
      EXPECT_TRUE(SameBytes(y, expected));
    });
  }
  for (std::thread& caller : callers) caller.join();
}

}  // namespace
}  // namespace minim
