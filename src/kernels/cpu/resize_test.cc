// Resize against its definition: a product of weights over the axes, in double precision.
#include <gtest/gtest.h>

#include "core/resample.h"
#include "kernels/cpu/test_support.h"

namespace minim {
namespace {

std::vector<double> Expected(const Tensor& x, const Attributes& attributes,
                             const std::vector<double>& scales, const Dims& out) {
  const auto targets = resample::TargetsFromScales(attributes, x.dims(), scales);
  std::vector<double> y{x.as<float>().begin(), x.as<float>().end()};
  Dims dims = x.dims();
  for (const resample::AxisPlan& plan : resample::ResizePlans(attributes, x.dims(), targets, {})) {
    const int64_t inner = dims.Elements(plan.axis + 1, dims.rank());
    const int64_t outer = dims.Elements(0, plan.axis);
    std::vector<double> next(outer * plan.out * inner);
    for (int64_t o = 0; o < outer; ++o)
      for (int64_t at = 0; at < plan.out; ++at)
        for (const resample::Tap& tap : plan.taps[at])
          for (int64_t i = 0; i < inner; ++i)
            next[(o * plan.out + at) * inner + i] +=
                tap.weight * y[(o * plan.in + tap.place) * inner + i];
    y = std::move(next);
    dims[plan.axis] = plan.out;
  }
  EXPECT_EQ(dims, out);
  return y;
}

void ExpectResized(const Dims& in, const std::vector<float>& scales, const Attributes& attributes) {
  const Tensor x = Uniform(in, 1);
  Dims out = in;
  for (int i = 0; i < in.rank(); ++i) out[i] = resample::ScaledSize(in[i], scales[i]);
  KernelCase test{
      .op = "Resize",
      .attributes = attributes,
      .inputs = {x, Tensor(), Tensor::From<float>({static_cast<int64_t>(scales.size())}, scales)},
      .outputs = {Tensor(DType::f32, out)},
      .constants = {2}};
  const auto expected = Expected(x, attributes, {scales.begin(), scales.end()}, out);
  for (int threads : {1, 2}) {
    test.threads = threads;
    std::memset(test.outputs[0].data(), 0xFF, test.outputs[0].bytes());
    RunCase(test, Isa::kPortable);
    ExpectNear(test.outputs[0].as<float>(), expected, 1e-6, 1e-6, out.ToString());
  }
}

TEST(ResizeTest, EveryModeOnSeveralAxes) {
  for (const char* mode : {"nearest", "linear", "cubic"}) {
    for (const char* coordinates : {"half_pixel", "asymmetric", "align_corners"}) {
      const Attributes attributes = {{"mode", std::string(mode)},
                                     {"coordinate_transformation_mode", std::string(coordinates)}};
      ExpectResized({2, 3, 20, 31}, {1, 1, 2, 2}, attributes);
      ExpectResized({1, 2, 9, 40}, {1, 1, 3, 0.3f}, attributes);
      ExpectResized({5, 6, 7}, {0.5f, 1.5f, 2.2f}, attributes);
      ExpectResized({3, 4}, {1, 1}, attributes);
      ExpectResized({0, 4, 4}, {1, 2, 2}, attributes);
    }
  }
  ExpectResized({2, 24, 24}, {1, 0.4f, 0.4f}, {{"mode", std::string("linear")}, {"antialias", 1}});
}

TEST(ResizeTest, NearestCopiesElementsOfAnyType) {
  for (const DType dtype : {DType::f32, DType::bf16, DType::u8}) {
    const Dims in{2, 5, 7, 3}, out{2, 10, 9, 3};
    const Tensor x = Converted(Uniform(in, 1, 0, 200).view(), dtype);
    KernelCase test{.op = "Resize",
                    .attributes = {{"mode", std::string("nearest")}},
                    .inputs = {x, Tensor(), Tensor::From<float>({4}, {1, 2, 1.3f, 1})},
                    .outputs = {Tensor(dtype, out)},
                    .constants = {2}};
    const auto expected = Expected(Converted(x.view(), DType::f32), test.attributes,
                                   {1, 2, static_cast<double>(1.3f), 1}, out);
    RunCase(test, Isa::kPortable);
    ExpectNear(Converted(test.outputs[0].view(), DType::f32).as<float>(), expected, 0, 0,
               std::string(Name(dtype)));
    test.attributes = {{"mode", std::string("linear")}};  // 16 bits are widened, bytes refused
    EXPECT_EQ(BoundCase(test, Isa::kPortable).ok(), dtype != DType::u8);
  }
}

TEST(ResizeTest, SizesThatAreNotKnownAreRefused) {
  KernelCase test{.op = "Resize",
                  .inputs = {Uniform({4}, 1), Tensor(), Tensor::From<float>({1}, {2})},
                  .outputs = {Tensor(DType::f32, {8})}};
  EXPECT_EQ(BoundCase(test, Isa::kPortable).status().code(), StatusCode::kUnsupported);
  test.constants = {2};
  test.outputs = {Tensor(DType::f32, {7})};
  EXPECT_EQ(BoundCase(test, Isa::kPortable).status().code(), StatusCode::kUnsupported);
}

}  // namespace
}  // namespace minim
